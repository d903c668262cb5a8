"""Muon's products on tensor cores, by the emulated cublasLt."""

import numpy as np
import pytest

from tests.backends.cuda.test_graphs import fake_backend
from tests.backends.reference.test_muon import SHAPES, by_svd, made


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_matrices_are_multiplied_in_bfloat16(shape):
    device, types, G = fake_backend("kernels"), set(), made(shape).astype("float32")
    attempt = device.cublaslt.attempt

    def watched(A, B, out):
        types.update((A.dtype.name, B.dtype.name, out.dtype.name))
        assert len(A) == len(B) == len(out) == shape[0]  # one product of all
        return attempt(A, B, out)

    device.cublaslt.attempt = watched
    X = device.to_host(device.orthogonalized(device.asarray(G)))
    want, _ = by_svd(G)
    assert types == {"bfloat16"} and X.dtype == np.float32
    # each of the five iterations rounds X, A, A² and B to 8 bits
    assert np.linalg.norm(X - want) < 20 * 2**-8 * np.linalg.norm(want)
    assert 0.6 < np.linalg.svd(X, compute_uv=False).min() < 1.25


def test_float64_matrices_keep_their_type():
    device, G = fake_backend("kernels"), made((2, 6, 4))
    X = device.to_host(device.orthogonalized(device.asarray(G)))
    assert X.dtype == np.float64 and np.abs(X - by_svd(G)[0]).max() < 1e-12
