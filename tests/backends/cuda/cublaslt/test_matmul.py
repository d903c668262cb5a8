"""CublasLt on a fake library that computes in host memory, column-major, as the descriptors specify."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ffnn_gpu.backends.cuda.cublaslt import matmul as cublaslt
from ffnn_gpu.errors import BackendUnavailableError, ShapeError
from tests.backends.cuda import dense_products
from tests.backends.cuda.dense_products import SHAPES, TYPES, assert_close, draw, make, matrices
from tests.backends.cuda.fake_cublaslt import ALLOC_FAILED, FakeCublasLt
from tests.backends.cuda.host_memory import FakeCupy

BACKEND = Path(cublaslt.__file__).parent


@pytest.fixture
def parts(monkeypatch):
    """Return (CublasLt, FakeCupy, FakeCublasLt)."""
    return make(cublaslt, monkeypatch)


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_all_products_of_a_layer_equal_numpy(parts, shape, dtype):
    dense_products.one_layer(*parts[:2], *shape, dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_products_of_several_layers_are_one_call_and_equal_numpy(parts, dtype):
    dense_products.several_layers(*parts[:2], 3, 5, 3, 8, dtype)
    dense_products.several_layers(*parts[:2], 2, 1, 4, 6, dtype)


@pytest.mark.parametrize(
    ("a", "b", "out", "bias"),
    [((2, 3, 4), (3, 4, 5), (3, 3, 5), None), ((3, 4), (2, 4, 5), (3, 3, 5), None),
     ((2, 3, 4), (4, 5), (2, 3, 5), (3, 5)), ((0, 3, 4), (4, 5), (0, 3, 5), None)],
)  # fmt: skip
def test_different_numbers_of_products_raise(parts, a, b, out, bias):
    lt, cupy, _ = parts
    A, B, C = matrices(cupy, a, b, out)
    with pytest.raises(ShapeError, match=r"are not the arrays of \d products"):
        lt.product(A, B, out=C, bias=None if bias is None else cupy.empty(bias, "float32"))


def test_parts_of_wider_arrays_are_read_and_written_in_place(parts):
    dense_products.padded_views(*parts[:2])


def test_partial_sums_are_not_rounded_to_16_bits(parts):
    dense_products.sum_without_16_bit_parts(*parts[:2])


def test_layers_of_one_shape_share_a_plan_but_not_a_bias(parts):
    dense_products.layers_that_share_a_plan(*parts[:2])
    assert parts[2].searches == 1


def test_float32_is_rounded_to_tf32_only_on_request(monkeypatch):
    errors = {}
    for tf32 in (False, True):
        lt, cupy, _ = make(cublaslt, monkeypatch, tf32=tf32)
        x, W, a = (
            draw(cupy, (64, 64), "float32"),
            draw(cupy, (64, 64), "float32", 1),
            cupy.empty((64, 64), "float32"),
        )
        want = x.values @ W.values
        errors[tf32] = np.abs(lt.product(x, W, out=a).values - want).max() / np.abs(want).max()
    assert errors[False] < 1e-6 < 1e-5 < errors[True] < 1e-3


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_tf32_changes_nothing_but_float32(monkeypatch, dtype):
    lt, cupy, _ = make(cublaslt, monkeypatch, tf32=True)
    dense_products.one_layer(lt, cupy, 5, 3, 7, dtype)


def test_every_descriptor_is_freed(parts):
    lt, cupy, bindings = parts
    bindings.refuses.add("GELU")
    lt.product(
        draw(cupy, (3, 4), "float32"), draw(cupy, (4, 5), "float32"), out=cupy.empty((3, 5), "float32")
    )
    assert lt.attempt(
        draw(cupy, (3, 4), "float32"),
        draw(cupy, (4, 5), "float32"),
        cupy.empty((3, 5), "float32"),
        "gelu_tanh",
    )
    lt.close()
    lt.close()  # a second close is harmless
    assert bindings.objects == {}


# ---------------------------------------------------------------------- refused products


def test_unsupported_product_is_searched_once_and_raises_each_time(parts):
    lt, cupy, bindings = parts
    bindings.refuses.add("BGRADA")
    x, delta, dW, db = (draw(cupy, shape, "float64") for shape in ((6, 3), (6, 5), (3, 5), (5,)))
    reason = lt.attempt(x.T, delta, dW, bias_gradient=db)
    assert (
        "cannot compute A (3, 6) transposed × B (6, 5) in float64 with epilogue BGRADA: cublas status 15"
        in reason
    )
    cupy.stream.capturing = True  # a known refusal holds in a capture, too
    with pytest.raises(BackendUnavailableError, match="BGRADA"):
        lt.product(x.T, delta, dW, bias_gradient=db)
    cupy.stream.capturing = False
    assert lt.attempt(x.T, delta, dW) == ""
    assert_close(lt.product(x.T, delta, out=dW), x.values.T @ delta.values)


def test_attempt_computes_the_product_or_returns_the_reason(parts):
    lt, cupy, _ = parts
    A, B, out = draw(cupy, (3, 4), "float32"), draw(cupy, (4, 5), "float32"), cupy.empty((3, 5), "float32")
    assert lt.attempt(A, B, out) == ""
    assert_close(out, A.values @ B.values)
    assert "is empty" in lt.attempt(A[:0], B, out[:0])
    assert "copy it into" in lt.attempt(cupy.empty((3, 8), "float32")[:, ::2], B, out)
    assert "int32" in lt.attempt(cupy.empty((3, 4), "int32"), B, out)
    cupy.stream.capturing = True
    with pytest.raises(BackendUnavailableError, match="run the step once"):
        lt.attempt(A[:2], B, out[:2])


def test_device_fault_raises_and_the_next_call_searches_again(parts):
    lt, cupy, bindings = parts
    A, B, out = draw(cupy, (3, 4), "float32"), draw(cupy, (4, 5), "float32"), cupy.empty((3, 5), "float32")
    bindings.fault = ALLOC_FAILED
    for call in (lt.product, lt.attempt):
        with pytest.raises(BackendUnavailableError, match=r"failed while planning A .*cublas status 3"):
            call(A, B, out)
    bindings.fault = 0
    assert_close(lt.product(A, B, out), A.values @ B.values)
    lt.close()
    assert bindings.objects == {}


def test_empty_list_of_algorithms_raises(monkeypatch):
    cupy = FakeCupy()
    lt, cupy, _ = make(cublaslt, monkeypatch, cupy, FakeCublasLt(cupy, costs=()))
    with pytest.raises(BackendUnavailableError, match="cannot compute A"):
        lt.product(*matrices(cupy))


def test_bias_gradient_of_one_row_is_refused_by_an_old_library(monkeypatch):
    cupy = FakeCupy()
    lt, cupy, _ = make(cublaslt, monkeypatch, cupy, FakeCublasLt(cupy, version=120300))
    A, B, out = matrices(cupy, (3, 1), (1, 5), (3, 5))
    assert "version 120304 can" in lt.attempt(A, B, out, bias_gradient=cupy.empty((5,), "float32"))


# ---------------------------------------------------------------------- capture, memory, alignment


def test_product_runs_in_a_capture_only_if_it_ran_before(parts):
    dense_products.captured_after_one_run(*parts[:2])


def test_first_gpu_is_the_default(parts):
    _, cupy, _ = parts
    cublaslt.CublasLt(cupy)
    cublaslt.CublasLt(cupy, 3)
    assert cupy.entered == [0, 0, 3]


@pytest.mark.parametrize(("capability", "mebibytes"), [("75", 4), ("86", 4), ("90", 32), ("100", 32)])
def test_workspace_has_the_size_recommended_for_the_gpu(monkeypatch, capability, mebibytes):
    _, cupy, _ = make(cublaslt, monkeypatch, FakeCupy(capability))
    assert [length for _, length, _ in cupy.blocks] == [mebibytes * 2**20 + 256]


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize(("alignment", "searches"), [(4, 2), (8, 2), (16, 2), (128, 2), (256, 1)])
def test_plan_promises_the_actual_alignment(parts, alignment, searches, which):
    lt, cupy, bindings = parts
    for place in (alignment, 256):  # first one of x, W, b and a has this alignment, then all are well aligned
        places = [place if i == which else 256 for i in range(4)]
        x, W, b = (
            cupy.array(np.ones(s), "float32", p)
            for s, p in zip(((3, 4), (4, 5), (5,)), places[:3], strict=True)
        )
        assert_close(
            lt.product(x, W, out=cupy.empty((3, 5), "float32", places[3]), bias=b), np.full((3, 5), 5.0)
        )
    assert bindings.searches == searches


def test_search_uses_the_smallest_alignment_of_the_bias_that_the_plan_allows(parts):
    lt, cupy, bindings = parts
    x, W, a = draw(cupy, (3, 4), "float32"), draw(cupy, (4, 5), "float32"), cupy.empty((3, 5), "float32")
    for place in (128, 16, 64):
        b = cupy.array(np.arange(5), "float32", place)
        assert_close(lt.product(x, W, out=a, bias=b), x.values @ W.values + b.values)
    assert bindings.searches == 1


def test_product_runs_on_the_stream_given(parts):
    lt, cupy, bindings = parts
    bindings.given, current = cupy.cuda.Stream(non_blocking=True), cupy.stream
    current.ptr = None  # must not be used
    lt.product(*matrices(cupy), stream=bindings.given)


# ---------------------------------------------------------------------- without the library


def test_missing_bindings_give_a_reason_without_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvmath", None)
    usable, reason = cublaslt.available()
    assert not usable and "the module nvmath" in reason and "pip install" in reason


def test_missing_driver_gives_a_reason(monkeypatch):
    def refuse():
        raise RuntimeError("CUDA driver is not found\n(libcuda.so)")

    monkeypatch.setattr(cublaslt, "load_bindings", refuse)
    assert cublaslt.available() == (
        False,
        "cublasLt cannot be called: RuntimeError: CUDA driver is not found (libcuda.so)",
    )


def test_available_names_the_version(monkeypatch):
    monkeypatch.setattr(cublaslt, "load_bindings", lambda: FakeCublasLt(FakeCupy()))
    assert cublaslt.available() == (True, "cublasLt 131000 can be called through nvmath-python")


def test_import_of_the_module_imports_neither_cupy_nor_nvmath():
    code = (
        "import sys, ffnn_gpu.backends.cuda.cublaslt.matmul;"
        "print([m for m in ('cupy', 'nvmath', 'cuda') if m in sys.modules])"
    )
    root = {"PYTHONPATH": str(BACKEND.parents[3])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=root)
    assert done.stdout.strip() == "[]"
