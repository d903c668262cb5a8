"""Test cublasLt on a GPU: the epilogues it supports for each type, its numbers, capture and replay.

If cublasLt refuses a product, the test is skipped with the reason. Plain products must work on every GPU.
"""

import importlib.util

import numpy as np
import pytest

from ffnn_gpu.backends.cuda.cublaslt import matmul as cublaslt
from ffnn_gpu.backends.cuda.cublaslt.calls import Calls
from ffnn_gpu.backends.cuda.probe import load_cupy
from ffnn_gpu.errors import BackendUnavailableError
from pytest_ffnn_gpu import import_or_fail, skip_or_fail
from tests.backends.cuda import dense_products
from tests.backends.cuda.dense_products import PHI, SHAPES, TYPES, assert_close, draw

pytestmark = pytest.mark.gpu
HALF = ("float16", "bfloat16")


class OnGpu:
    """A CuPy array with the interface of host_memory.Array."""

    def __init__(self, array):
        self.array = array

    def __getattr__(self, name):
        return getattr(self.array, name)

    def __getitem__(self, key):
        return OnGpu(self.array[key])

    T = property(lambda self: OnGpu(self.array.T))
    values = property(lambda self: self.array.get().astype(np.float64))


class Gpu:
    """The GPU with the interface of host_memory.FakeCupy."""

    def __init__(self, cupy):
        self.cupy = cupy

    def empty(self, shape, dtype):
        return OnGpu(self.cupy.empty(shape, self._dtype(dtype)))

    def array(self, values, dtype):
        return OnGpu(self.cupy.asarray(np.asarray(values).astype(self._dtype(dtype))))

    def _dtype(self, name):
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else name)


@pytest.fixture
def gpu(monkeypatch, request):
    """Return the GPU, with tolerances for sums in float32. The error of TF32 would be 100 times as large.

    cublasLt's GELU is close to the tanh formula, not equal to it (github.com/karpathy/llm.c/pull/653). Its
    tanh is taken for PTX's tanh.approx, with a relative error of up to 2⁻¹¹ (PTX ISA, "tanh").
    """
    usable, reason = cublaslt.available()
    if not usable:
        skip_or_fail(request.config, reason)
    monkeypatch.setitem(dense_products.TOLERANCE, "float32", 1e-5)
    monkeypatch.setitem(dense_products.TOLERANCE, "float16", 2e-3)
    monkeypatch.setitem(dense_products.GELU_ERROR, "of the largest value", 2.0**-11)
    return Gpu(load_cupy())


@pytest.fixture
def lt(gpu):
    """Return a CublasLt on GPU 0."""
    made = cublaslt.CublasLt(gpu.cupy, 0)
    yield made
    gpu.cupy.cuda.Device(0).synchronize()
    made.close()


@pytest.fixture(params=TYPES)
def kind(request):
    """Return each type of a product; bfloat16 needs ml_dtypes."""
    if request.param == "bfloat16":
        import_or_fail(request.config, "ml_dtypes")
    return request.param


def computed_or_skipped(product, *args):
    """Compute the product, or skip the test with the reason why cublasLt refuses it."""
    try:
        product(*args)
    except BackendUnavailableError as refusal:
        if "cannot compute" not in str(refusal):
            raise
        pytest.skip(str(refusal))


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_products_equal_numpy(lt, gpu, shape, kind):
    dense_products.forward(lt, gpu, *shape, kind, None, False)
    dense_products.weight_gradient(lt, gpu, *shape, kind, "float32" if kind in HALF else kind, False)
    dense_products.input_gradient(lt, gpu, *shape, kind)


@pytest.mark.parametrize("phi", PHI)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_with_bias_and_activation_equals_numpy(lt, gpu, shape, kind, phi):
    computed_or_skipped(dense_products.forward, lt, gpu, *shape, kind, phi, True)


@pytest.mark.parametrize("shape", SHAPES)
def test_weight_gradient_with_bias_gradient_equals_numpy(lt, gpu, shape, kind):
    wide = "float32" if kind in HALF else kind
    computed_or_skipped(dense_products.weight_gradient, lt, gpu, *shape, kind, wide, True)


def test_parts_of_wider_arrays_are_read_and_written_in_place(lt, gpu):
    dense_products.padded_views(lt, gpu)


def test_partial_sums_are_not_rounded_to_16_bits(lt, gpu):
    dense_products.sum_without_16_bit_parts(lt, gpu)


def test_layers_of_one_shape_do_not_share_a_bias(lt, gpu):
    dense_products.layers_that_share_a_plan(lt, gpu)


def test_captured_product_replays_on_new_numbers_bit_for_bit(lt, gpu):
    x, W, b = draw(gpu, (128, 64), "float32"), draw(gpu, (64, 32), "float32"), draw(gpu, (32,), "float32")
    a = gpu.empty((128, 32), "float32")
    gpu.cupy.cuda.Device(0).synchronize()
    stream = gpu.cupy.cuda.Stream(non_blocking=True)
    lt.product(x, W, a, "relu", b, stream=stream)
    stream.synchronize()
    stream.begin_capture()
    try:
        lt.product(x, W, a, "relu", b, stream=stream)
        with pytest.raises(BackendUnavailableError, match="run the step once"):
            lt.product(x[:9], W, a[:9], stream=stream)
    finally:
        graph = stream.end_capture()
    x.array[...] *= -1
    gpu.cupy.cuda.Device(0).synchronize()
    results = []
    for _ in range(3):
        a.array.fill(np.nan)
        gpu.cupy.cuda.Device(0).synchronize()
        graph.launch(stream)
        stream.synchronize()
        assert_close(a, np.maximum(x.values @ W.values + b.values, 0))
        results.append(a.array.get().tobytes())
    assert len(set(results)) == 1


def test_tf32_is_used_only_on_request(gpu):
    x, W, a = (
        draw(gpu, (256, 256), "float32"),
        draw(gpu, (256, 256), "float32", 1),
        gpu.empty((256, 256), "float32"),
    )
    want, errors = x.values @ W.values, {}
    for tf32 in (False, True):
        made = cublaslt.CublasLt(gpu.cupy, 0, tf32=tf32)
        errors[tf32] = np.abs(made.product(x, W, out=a).values - want).max() / np.abs(want).max()
        made.close()
    assert errors[False] < 2e-6 and errors[True] < 2e-3


def test_timed_algorithm_is_loaded_and_gives_the_same_bits(gpu, monkeypatch, tmp_path):
    results = []
    for _ in range(2):
        made = cublaslt.CublasLt(gpu.cupy, 0, autotune=8, store=tmp_path / "plans.json")
        x, W, a = (
            draw(gpu, (128, 784), "float32"),
            draw(gpu, (784, 512), "float32", 1),
            gpu.empty((128, 512), "float32"),
        )
        results.append(made.product(x, W, out=a).values.tobytes())
        made.close()
        monkeypatch.setattr(Calls, "recommended", None)  # the second CublasLt must not search
    assert (tmp_path / "plans.json").exists() and results[0] == results[1]
