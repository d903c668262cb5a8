"""cublasLt products on a stand-in that computes what the descriptors say, column-major, in host memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ffnn_gpu.backends.cuda.cublaslt import matmul as cublaslt
from ffnn_gpu.errors import BackendUnavailableError
from tests.backends.cuda import dense_products
from tests.backends.cuda.dense_products import SHAPES, TYPES, assert_close, draw, make, matrices
from tests.backends.cuda.fake_cublaslt import ALLOC_FAILED, FakeCublasLt
from tests.backends.cuda.host_memory import FakeCupy

BACKEND = Path(cublaslt.__file__).parent


@pytest.fixture
def parts(monkeypatch):
    """(CublasLt, FakeCupy, FakeCublasLt)"""
    return make(cublaslt, monkeypatch)


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_the_three_products_of_a_layer_equal_numpy(parts, shape, dtype):
    dense_products.one_layer(*parts[:2], *shape, dtype)


def test_parts_of_wider_arrays_are_read_and_written_in_place(parts):
    dense_products.padded_views(*parts[:2])


def test_layers_of_one_shape_share_a_plan_and_not_a_bias(parts):
    dense_products.layers_that_share_a_plan(*parts[:2])
    assert parts[2].searches == 1


def test_float32_stays_float32_unless_tf32_is_asked_for(monkeypatch):
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
    lt.close()  # twice is harmless
    assert bindings.objects == {}


# ---------------------------------------------------------------------- what is refused


def test_what_the_library_cannot_do_is_searched_once_and_said_each_time(parts):
    lt, cupy, bindings = parts
    bindings.refuses.add("BGRADA")
    x, delta, dW, db = (draw(cupy, shape, "float64") for shape in ((6, 3), (6, 5), (3, 5), (5,)))
    sentence = lt.attempt(x.T, delta, dW, bias_gradient=db)
    assert (
        "cannot compute A (3, 6) transposed × B (6, 5) in float64 with epilogue BGRADA: cublas status 15"
        in sentence
    )
    cupy.stream.capturing = True  # a refusal that is known is known in a capture too
    with pytest.raises(BackendUnavailableError, match="BGRADA"):
        lt.product(x.T, delta, dW, bias_gradient=db)
    cupy.stream.capturing = False
    assert lt.attempt(x.T, delta, dW) == ""
    assert_close(lt.product(x.T, delta, out=dW), x.values.T @ delta.values)


def test_attempt_makes_the_product_or_says_why_not(parts):
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


def test_a_fault_of_the_device_is_no_refusal_and_is_asked_again(parts):
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


def test_an_empty_list_of_algorithms_is_a_refusal(monkeypatch):
    cupy = FakeCupy()
    lt, cupy, _ = make(cublaslt, monkeypatch, cupy, FakeCublasLt(cupy, costs=()))
    with pytest.raises(BackendUnavailableError, match="cannot compute A"):
        lt.product(*matrices(cupy))


def test_sum_over_one_row_is_refused_where_the_library_is_too_old(monkeypatch):
    cupy = FakeCupy()
    lt, cupy, _ = make(cublaslt, monkeypatch, cupy, FakeCublasLt(cupy, version=120300))
    A, B, out = matrices(cupy, (3, 1), (1, 5), (3, 5))
    assert "version 120304 can" in lt.attempt(A, B, out, bias_gradient=cupy.empty((5,), "float32"))


# ---------------------------------------------------------------------- capture, memory, alignment


def test_a_step_that_ran_once_runs_in_a_capture_and_no_other_does(parts):
    dense_products.captured_after_one_run(*parts[:2])


def test_the_first_gpu_is_taken_unless_another_is_asked_for(parts):
    _, cupy, _ = parts
    cublaslt.CublasLt(cupy)
    cublaslt.CublasLt(cupy, 3)
    assert cupy.entered == [0, 0, 3]


@pytest.mark.parametrize(("capability", "mebibytes"), [("75", 4), ("86", 4), ("90", 32), ("100", 32)])
def test_workspace_is_as_large_as_the_gpu_wants(monkeypatch, capability, mebibytes):
    _, cupy, _ = make(cublaslt, monkeypatch, FakeCupy(capability))
    assert [length for _, length, _ in cupy.blocks] == [mebibytes * 2**20 + 256]


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize(("alignment", "searches"), [(4, 2), (8, 2), (16, 2), (128, 2), (256, 1)])
def test_a_plan_promises_no_more_alignment_than_there_is(parts, alignment, searches, which):
    lt, cupy, bindings = parts
    for place in (alignment, 256):  # x, W, b or a lies worse than the others, then all lie well
        places = [place if i == which else 256 for i in range(4)]
        x, W, b = (
            cupy.array(np.ones(s), "float32", p)
            for s, p in zip(((3, 4), (4, 5), (5,)), places[:3], strict=True)
        )
        assert_close(
            lt.product(x, W, out=cupy.empty((3, 5), "float32", places[3]), bias=b), np.full((3, 5), 5.0)
        )
    assert bindings.searches == searches


def test_the_search_sees_the_bias_as_badly_aligned_as_the_plan_allows(parts):
    lt, cupy, bindings = parts
    x, W, a = draw(cupy, (3, 4), "float32"), draw(cupy, (4, 5), "float32"), cupy.empty((3, 5), "float32")
    for place in (128, 16, 64):
        b = cupy.array(np.arange(5), "float32", place)
        assert_close(lt.product(x, W, out=a, bias=b), x.values @ W.values + b.values)
    assert bindings.searches == 1


def test_product_runs_on_the_stream_given(parts):
    lt, cupy, bindings = parts
    bindings.given, current = cupy.cuda.Stream(non_blocking=True), cupy.stream
    current.ptr = None  # must not be asked
    lt.product(*matrices(cupy), stream=bindings.given)


# ---------------------------------------------------------------------- without the library


def test_missing_bindings_are_a_reason_and_not_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvmath", None)
    usable, reason = cublaslt.available()
    assert not usable and "the module nvmath" in reason and "pip install" in reason


def test_a_driver_that_is_missing_is_a_reason(monkeypatch):
    def refuse():
        raise RuntimeError("CUDA driver is not found\n(libcuda.so)")

    monkeypatch.setattr(cublaslt, "load_bindings", refuse)
    assert cublaslt.available() == (
        False,
        "cublasLt cannot be called: RuntimeError: CUDA driver is not found (libcuda.so)",
    )


def test_available_says_the_version(monkeypatch):
    monkeypatch.setattr(cublaslt, "load_bindings", lambda: FakeCublasLt(FakeCupy()))
    assert cublaslt.available() == (True, "cublasLt 131000 can be called through nvmath-python")


def test_importing_the_module_imports_neither_cupy_nor_nvmath():
    code = "import sys, ffnn_gpu.backends.cuda.cublaslt.matmul; print([m for m in ('cupy', 'nvmath', 'cuda') if m in sys.modules])"
    root = {"PYTHONPATH": str(BACKEND.parents[3])}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=root)
    assert told.stdout.strip() == "[]"
