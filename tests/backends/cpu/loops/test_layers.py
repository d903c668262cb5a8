"""Products with one column: accurate, inside the result, and the same bits for any number of chunks."""

import importlib

import numpy as np
import pytest

from ffnn_gpu.testing import assert_close, tolerance

pytest.importorskip("llvmlite")
command = importlib.import_module("ffnn_gpu.backends.cpu.recording.commands").command
GUARD = 7.0  # fills the memory around the result, which no product may change


def times_column(A, b, chunks):
    M, K = A.shape
    frame = np.full(M + 40, GUARD, A.dtype)
    out, turned = frame[20:-20], not A.flags.c_contiguous
    numbers = np.array([A.ctypes.data, turned, b.ctypes.data, out.ctypes.data, M, K, 0])
    for chunk in reversed(range(chunks)):
        command("one_column", A.dtype).call(None, numbers.ctypes.data, chunk, chunks)
    assert (frame[:20] == GUARD).all() and (frame[-20:] == GUARD).all(), (
        "memory outside the result was written"
    )
    return out


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_with_one_column_are_accurate(dtype, order):
    rng = np.random.default_rng(0)
    for M in (1, 5, 16, 33, 100):
        for K in (1, 7, 8, 16, 31, 500):
            A, b = np.array(rng.normal(size=(M, K)), dtype, order=order), rng.normal(size=K).astype(dtype)
            got, exact = times_column(A, b, 1), [np.float64(each) for each in (A, b)]
            scale = np.abs(exact[0]) @ np.abs(exact[1]) + np.finfo(dtype).tiny
            assert_close(got, exact[0] @ exact[1], tolerance("product", dtype, K=K), "product", scale=scale)
            assert times_column(A, b, 3).tobytes() == got.tobytes()
