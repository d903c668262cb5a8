"""Operations check their arguments, because commands read memory without checks."""

import numpy as np
import pytest

pytest.importorskip("numba")

from ffnn_gpu.backends.cpu.numba_backend import NumbaBackend
from ffnn_gpu.backends.cpu.recording import operations
from ffnn_gpu.backends.cpu.recording.immediate import Immediate
from ffnn_gpu.backends.cpu.recording.operations import BODIES, NotRecordedError, address, command
from ffnn_gpu.backends.elementwise import code_cache
from ffnn_gpu.nn.activations import relu

BACKEND = NumbaBackend()


def ones(*shape, dtype="float32"):
    return np.ones(shape, dtype)


REFUSED = {
    "other sizes": lambda do: do.gemm(ones(2, 3), ones(4, 5), ones(2, 5)),
    "another output": lambda do: do.gemm(ones(2, 3), ones(3, 5), ones(2, 4)),
    "a vector": lambda do: do.gemm(ones(3), ones(3, 5), ones(2, 5)),
    "another bias": lambda do: do.affine(ones(2, 3), ones(3, 5), ones(4), relu, ones(2, 5)),
    "another type": lambda do: do.softmax(ones(2, 3), ones(2, 3, dtype="float64")),
    "a type without commands": lambda do: do.softmax(
        ones(2, 3, dtype="float16"), ones(2, 3, dtype="float16")
    ),
    "gaps": lambda do: do.softmax(ones(2, 6)[:, ::2], ones(2, 3)),
    "no column": lambda do: do.softmax(ones(2, 0), ones(2, 0)),
    "nothing to sum": lambda do: do.gemm(ones(2, 0), ones(0, 5), ones(2, 5)),
    "other columns": lambda do: do.column_sum(ones(2, 3), ones(2)),
    "another gradient": lambda do: do.activation_backward(ones(2, 3), ones(3, 2), relu),
    "other statistics": lambda do: do.layer_norm(
        ones(2, 3), ones(3), ones(3), 1e-5, ones(2, 3), None, ones(3)
    ),
    "another number of weights": lambda do: do.cross_entropy(
        ones(2, 3), ones(2, 3), ones(3), ones(2, 3), 1e-9
    ),
    "another number of classes": lambda do: do.softmax_cross_entropy(
        ones(2, 3), np.zeros(2, int), None, ones(2), 0.0, ones(2, 3)
    ),
    "another number of labels": lambda do: do.softmax_cross_entropy(
        ones(2, 3), np.zeros(1, int), None, None, 0.0, ones(2, 3)
    ),
    "an average of more": lambda do: do.average(ones(2), ones(3), 0.5),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arguments_that_do_not_fit_are_refused(name):
    with pytest.raises(NotRecordedError):
        REFUSED[name](Immediate(BACKEND))


def test_output_that_overlaps_a_factor_is_refused():
    A = ones(3, 3)
    for call in (lambda do: do.gemm(A, ones(3, 3), A), lambda do: do.affine(ones(3, 3), A, None, relu, A)):
        with pytest.raises(NotRecordedError, match="overlaps"):
            call(Immediate(BACKEND))
    np.testing.assert_array_equal(A, 1)


@pytest.mark.parametrize("chosen", [slice(None), slice(3, None), slice(None, None, 2)], ids=str)
def test_address_is_that_of_the_first_element(chosen):
    whole = np.arange(20.0)
    for array in (whole[chosen], whole.reshape(4, 5)[chosen], np.empty(0)):
        assert address(array) == array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(BODIES))
def test_machine_code_of_every_command_is_cached(name, dtype):
    """Code that needs Numba's runtime for arrays is not."""
    function = command(name, np.dtype(dtype))
    assert function.address
    assert (code_cache.FOLDER / (function.name + code_cache.SUFFIX)).exists()


def test_operations_have_the_names_of_a_backend():
    own = {name for name in vars(operations.Operations) if not name.startswith("_")}
    lacking = {name for name in own if not hasattr(NumbaBackend, name)} - {"call"}
    assert not lacking
