"""Operations check their arguments, because commands read memory without checks."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from ffnn_gpu import SGD, BatchNorm, Dense, Dropout, LayerNorm, Network, softmax_cross_entropy, train_step
from ffnn_gpu.backends.cpu.compiled_backend import CompiledBackend
from ffnn_gpu.backends.cpu.loops import amx_tiles
from ffnn_gpu.backends.cpu.numpy_backend import NumpyBackend
from ffnn_gpu.backends.cpu.recording.arguments import NotRecordedError, address, word
from ffnn_gpu.backends.cpu.recording.commands import BODIES, command
from ffnn_gpu.backends.cpu.recording.immediate import Immediate
from ffnn_gpu.backends.cpu.recording.operations import Operations
from ffnn_gpu.backends.elementwise import code_cache
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.backends.reference.updates import Update
from ffnn_gpu.nn.activations import relu

BACKEND = CompiledBackend()
HALF = np.ones(12, np.float16)


def ones(*shape, dtype="float32"):
    return np.ones(shape, dtype)


def read_only(array):
    array.flags.writeable = False
    return array


REFUSED = {
    "other sizes": lambda do: do.gemm(ones(2, 3), ones(4, 5), ones(2, 5)),
    "another output": lambda do: do.gemm(ones(2, 3), ones(3, 5), ones(2, 4)),
    "a vector": lambda do: do.gemm(ones(3), ones(3, 5), ones(2, 5)),
    "another bias": lambda do: do.affine(ones(2, 3), ones(3, 5), ones(4), relu, ones(2, 5)),
    "another type": lambda do: do.softmax(ones(2, 3), ones(2, 3, dtype="float64")),
    "a type without commands": lambda do: do.softmax(
        ones(2, 3, dtype="longdouble"), ones(2, 3, dtype="longdouble")
    ),
    "another 16-bit type": lambda do: do.softmax(ones(2, 3, dtype="int16"), ones(2, 3, dtype="int16")),
    "16-bit arrays that overlap": lambda do: do.add(HALF[:4], HALF[2:6], HALF[8:12]),
    "16-bit gaps": lambda do: do.softmax(HALF.reshape(3, 4)[:, ::2], ones(3, 2)),
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
    "no output": lambda do: do.softmax(ones(2, 3), None),
    "no statistics": lambda do: do.batch_norm(
        ones(2, 3), ones(3), ones(3), 1e-5, ones(2, 3), ones(2, 3), None, ones(3), ones(3)
    ),
    "a masked array": lambda do: do.column_sum(np.ma.array(ones(2, 3), mask=np.eye(2, 3)), ones(3)),
    "no axis": lambda do: do.activate(np.array(1.0, "float32"), relu),
    "a read-only output": lambda do: do.softmax(ones(2, 3), read_only(ones(2, 3))),
    "a read-only input that is changed": lambda do: do.activate(read_only(ones(2, 3)), relu),
    "a step that is a number": lambda do: do.dropout_mask(0.5, 0, 3, 0, 0, ones(2, 3)),
    "a step of 4 bytes": lambda do: do.dropout_mask(0.5, 0, np.ones(1, np.int32), 0, 0, ones(2, 3)),
    "another byte order": lambda do: do.softmax(ones(2, 3, dtype=">f4"), ones(2, 3, dtype=">f4")),
    "another byte order of 16 bits": lambda do: do.softmax(ones(2, 3, dtype=">f2"), ones(2, 3, dtype=">f2")),
    "another byte order of one": lambda do: do.add(ones(2, 3), ones(2, 3, dtype=">f2"), ones(2, 3)),
    "an index too large": lambda do: do.take(ones(4, 3), np.array([0, 4]), ones(2, 3)),
    "an index from the end": lambda do: do.take(ones(4, 3), np.array([0, -1]), ones(2, 3)),
    "too few indices": lambda do: do.take(ones(4, 3), np.array([0]), ones(2, 3)),
    "an index that is no integer": lambda do: do.take(ones(4, 3), np.array([0.0, 1.0]), ones(2, 3)),
    "one mean for all columns": lambda do: do.take(
        ones(4, 3), np.array([0, 1]), ones(2, 3), ones(1, dtype="float64"), ones(3, dtype="float64")
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


def test_16_bit_array_is_unchanged_if_an_output_is_refused():
    """The reference runs afterwards, and reads da."""
    rng, found = np.random.default_rng(0), []
    da, xhat, gain = (rng.normal(size=shape).astype("float16") for shape in ((6, 4), (6, 4), 4))
    for backend in (Backend(), BACKEND):
        gaps, dbias, dx = np.zeros(8, np.float16)[::2], np.zeros(4, np.float16), np.zeros_like(da)
        backend.layer_norm_backward(da.copy(), gain, xhat, ones(6, dtype="float16"), gaps, dbias, dx)
        found.append((gaps, dbias, dx))
    for got, expected in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-3)


def test_output_that_overlaps_in_part_is_refused_and_one_in_place_is_not():
    m = np.arange(12, dtype="float32").reshape(4, 3)
    with pytest.raises(NotRecordedError, match="overlaps"):
        Immediate(BACKEND).softmax(m[:-1], m[1:])
    expected = Backend().softmax(m.copy(), np.empty_like(m))
    np.testing.assert_allclose(Immediate(BACKEND).softmax(m, m), expected, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_right_if_its_gradient_replaces_the_logits(smoothing):
    rng, y = np.random.default_rng(0), np.array([2, 0, 1])
    z = rng.normal(size=(3, 4)).astype("float32")
    expected = Backend().softmax_cross_entropy(z, y, None, None, smoothing, None)
    got = BACKEND.softmax_cross_entropy(z.copy(), y, None, None, smoothing, z)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_right_if_its_gradient_replaces_the_targets(smoothing):
    rng, found = np.random.default_rng(0), []
    z, y = rng.normal(size=(3, 4)).astype("float32"), rng.dirichlet(np.ones(4), 3).astype("float32")
    for backend in (Backend(), BACKEND):
        dz = y.copy()
        value = backend.softmax_cross_entropy(z, dz, None, None, smoothing, dz)
        found.append((value, dz))
    for got, expected in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


def test_indices_may_be_a_list():
    rows, out = np.arange(12, dtype="float32").reshape(4, 3), ones(2, 3, dtype="float64")
    np.testing.assert_array_equal(BACKEND.take(rows, [3, 0], out), rows[[3, 0]])


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint64"])
def test_class_indices_of_every_type_are_checked(kind):
    z = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    y, wrong = np.array([2, 0, 1], kind), np.array([2, 4, 1], kind)
    expected = Backend().softmax_cross_entropy(z, y.astype(int), None, None, 0.0, None)
    np.testing.assert_allclose(
        BACKEND.softmax_cross_entropy(z, y, None, None, 0.0, None), expected, rtol=1e-6
    )
    for label in (wrong, wrong - np.array(5, kind)):  # unsigned types have no negative index
        with pytest.raises(IndexError):
            BACKEND.softmax_cross_entropy(z, label, None, None, 0.0, None)


@pytest.mark.parametrize("vector", ["scalars", "control", "moment"])
def test_rule_with_numbers_of_another_type_equals_the_reference(vector):
    results = []
    for backend in (Backend(), BACKEND):
        theta, grad, velocity = (np.full(40, value, "float32") for value in (1.0, 0.5, 0.25))
        scalars, control = np.array([1.0, 0.5, 1.0]), np.array([0.5, 0.0])
        if vector == "moment":
            velocity = velocity.astype("float64")
        elif vector == "scalars":
            scalars = scalars.astype("float32")
        else:
            control = control.astype("float32")
        backend.sgd(Update(theta, grad, scalars, 40, control=control), velocity, 0.9, False)
        results.append((theta, velocity))
    for got, expected in zip(results[1], results[0], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["<f2", ">f2"])
def test_rule_writes_a_16_bit_copy_in_either_byte_order(kind):
    theta, shadow = np.linspace(-1, 1, 40).astype("float32"), np.zeros(40, kind)
    BACKEND.sgd(Update(theta, ones(40), np.array([1.0, 0.5, 1.0]), 40, shadow=shadow), None, 0.0, False)
    np.testing.assert_array_equal(shadow, theta.astype(kind))


def test_read_only_16_bit_copy_is_not_written():
    theta, shadow = ones(40), read_only(np.zeros(40, np.float16))
    with pytest.raises(ValueError, match="read-only"):
        BACKEND.sgd(Update(theta, ones(40), np.array([1.0, 0.5, 1.0]), 40, shadow=shadow), None, 0.0, False)
    assert not shadow.any()


def test_rule_refuses_unknown_settings():
    update = Update(ones(4), ones(4), np.ones(3), 4)
    with pytest.raises(TypeError, match="bogus"):
        BACKEND.sgd(update, velocity=None, momentum=0.0, nesterov=False, bogus=1)


SETTINGS = {
    "LayerNorm(eps=1)": ([Dense(8, relu), LayerNorm(eps=1), Dense(3)], SGD(0.1)),
    "LayerNorm(eps=float32)": ([Dense(8, relu), LayerNorm(eps=np.float32(0.1)), Dense(3)], SGD(0.1)),
    "BatchNorm(eps=1)": ([Dense(8, relu), BatchNorm(eps=1), Dense(3)], SGD(0.1)),
    "BatchNorm(momentum=float32)": (
        [Dense(8, relu), BatchNorm(momentum=np.float32(0.5)), Dense(3)],
        SGD(0.1),
    ),
    "Dropout(float32)": ([Dense(8, relu), Dropout(np.float32(0.5)), Dense(3)], SGD(0.1)),
    "SGD(ema=float32)": ([Dense(8, relu), Dense(3)], SGD(0.1, ema=np.float32(0.5))),
    "SGD(clip_norm=1)": ([Dense(8, relu), Dense(3)], SGD(0.1, clip_norm=1)),
    "SGD(clip_value=float32)": ([Dense(8, relu), Dense(3)], SGD(0.1, clip_value=np.float32(0.01))),
    "SGD(integers)": ([Dense(8, relu), Dense(3)], SGD(1, momentum=np.float32(0.5), l2=1)),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_may_be_numbers_of_any_type(name):
    """A command reads the bits of a float64; those of the integer 1 would be 5e-324."""
    layers, optimizer = SETTINGS[name]
    rng, results = np.random.default_rng(0), []
    x, y = rng.normal(size=(16, 5)).astype("float32"), rng.integers(0, 3, 16)
    for backend in (NumpyBackend(), BACKEND):
        network = Network(5, layers, backend, seed=0)
        ws = network.workspace(16, seed=0)
        for _ in range(3):
            train_step(network, softmax_cross_entropy, optimizer, x, y, ws)
        if optimizer.ema is not None:
            optimizer.load_average(network.params)
        results.append((network.params.theta, network.params.state, network.predict(x)))
    for got, expected in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("chosen", [slice(None), slice(3, None), slice(None, None, 2)], ids=str)
def test_address_is_that_of_the_first_element(chosen):
    whole = np.arange(20.0)
    for array in (whole[chosen], whole.reshape(4, 5)[chosen], np.empty(0)):
        assert address(array) == array.__array_interface__["data"][0]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name in sorted(BODIES)
        for dtype in ("float32", "float64")
        if not name.startswith("amx") or (dtype == "float32" and amx_tiles.available())
    ],
)
def test_machine_code_of_every_command_is_cached(name, dtype):
    """Code that needs Numba's runtime for arrays is not."""
    function = command(name, np.dtype(dtype))
    assert function.address
    assert (code_cache.FOLDER / (function.name + code_cache.SUFFIX)).exists()


def test_operations_have_the_names_of_a_backend():
    own = {name for name in dir(Operations) if not name.startswith("_")}
    lacking = {name for name in own if not hasattr(CompiledBackend, name)} - {"call"}
    assert not lacking


def test_words_are_addresses_integers_and_bits():
    bits = int(np.float64(1).view(np.int64))
    for value in (1.0, np.float32(1), np.float64(1)):
        assert word(value) == bits
    for value in (1, np.int32(1), True, np.True_):
        assert word(value) == 1
    with pytest.raises(NotRecordedError):
        word("1")
