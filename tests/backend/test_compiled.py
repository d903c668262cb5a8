"""The loops Numba compiles, and NumpyBackend without them, against the reference."""

import sys

import numpy as np
import pytest

from ffnn_gpu.backend import Backend
from ffnn_gpu.backend.numpy_backend import NumpyBackend

pytest.importorskip("numba", reason='numba is not installed: pip install "ffnn_gpu[fast]"')


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 4), (7, 13), (64, 30)])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.999])
def test_compiled_mask_is_the_reference_bit_for_bit(shape, rate, dtype):
    seed, step, layer, row = 2**63 + 12345, np.array([2**31 + 3]), 5, 2**20
    masks = [np.full(shape, np.nan, dtype) for _ in range(3)]
    for backend, out in zip((Backend(), NumpyBackend(), NumpyBackend(compiled=False)), masks, strict=True):
        backend.dropout_mask(rate, seed, step, layer, row, out=out)
    np.testing.assert_array_equal(masks[1], masks[0])
    np.testing.assert_array_equal(masks[2], masks[0])


def test_numba_that_cannot_be_imported_is_done_without(monkeypatch, dtype):
    import ffnn_gpu.backend

    monkeypatch.setitem(sys.modules, "ffnn_gpu.backend.compiled", None)                  # the import raises ImportError
    monkeypatch.delattr(ffnn_gpu.backend, "compiled", raising=False)
    got, want = np.empty((3, 5), dtype), np.empty((3, 5), dtype)
    NumpyBackend().dropout_mask(0.5, 0, np.array([0]), 0, 0, out=got)
    Backend().dropout_mask(0.5, 0, np.array([0]), 0, 0, out=want)
    np.testing.assert_array_equal(got, want)


def test_backend_without_compiled_loops_does_not_use_them(monkeypatch):
    from ffnn_gpu.backend import compiled

    monkeypatch.setattr(compiled, "dropout_mask", lambda *args: pytest.fail("called"))
    NumpyBackend(compiled=False).dropout_mask(0.5, 0, np.array([0]), 0, 0, out=np.empty((2, 2)))
    with pytest.raises(pytest.fail.Exception):
        NumpyBackend().dropout_mask(0.5, 0, np.array([0]), 0, 0, out=np.empty((2, 2)))
