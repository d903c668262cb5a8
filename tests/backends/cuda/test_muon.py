"""Muon's products on tensor cores, by the emulated cublasLt."""

import numpy as np
import pytest

from ffnn_gpu.backends.cuda.updates import blend
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


@pytest.mark.parametrize("n", [1, 64, 1027])
@pytest.mark.parametrize("offset", [0, 1])
def test_sum_of_two_arrays_is_rounded_once_and_a_wide_one_keeps_it(n, offset):
    device, rng = fake_backend("kernels"), np.random.default_rng(n)
    host = {name: rng.normal(size=n + offset).astype("float32") for name in "xyw"}
    x, y, w = (
        device.asarray(host[name], "bfloat16" if name != "w" else "float32")[offset:] for name in "xyw"
    )
    out = device.empty((n + offset,), "bfloat16")[offset:]
    p, q = np.float32(3.4445), np.float32(-4.775)
    for first, many in ((x, device.to_host(x)), (w, host["w"][offset:])):
        want = p * many.astype("float32") + q * device.to_host(y).astype("float32")
        blend(device, p, first, q, y, out)
        assert device.to_host(out).tobytes() == want.astype(out.dtype).tobytes()
    assert device.to_host(w).tobytes() == want.tobytes()
