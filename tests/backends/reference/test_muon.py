import numpy as np
import pytest

from ffnn_gpu.backends.reference.muon import COEFFICIENTS
from ffnn_gpu.backends.reference.updates import Update
from ffnn_gpu.testing import assert_close, tolerance

SHAPES = [(1, 4, 4), (3, 8, 5), (2, 5, 8), (1, 1, 6), (1, 6, 1), (2, 33, 64)]
SLOPE = (
    COEFFICIENTS[0] ** 5
)  # the iterations multiply a small singular value, and its rounding error, by this


def made(shape, seed=0):
    """Return matrices (n, I, O) whose singular values are between 0.1 and 1."""
    rng = np.random.default_rng(seed)
    n, I, O = shape
    U, _, V = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    return U * rng.uniform(0.1, 1, (n, 1, min(I, O))) @ V


def by_svd(G):
    """Return what the iterations make of G, from its singular values in float64."""
    U, s, V = np.linalg.svd(G.astype(np.float64), full_matrices=False)
    s, (a, b, c) = s / np.sqrt((s**2).sum(axis=1, keepdims=True)), COEFFICIENTS
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    return U * s[:, None] @ V, s


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matrix_keeps_its_singular_vectors_and_its_singular_values_come_near_1(backend, dtype, shape):
    G = (1e-3 * made(shape)).astype(dtype)
    want, s = by_svd(G)
    X = backend.to_host(backend.orthogonalized(backend.asarray(G)))
    narrow = backend.name.startswith("cupy") and dtype == "float32"
    bound = 20 * 2**-8 if narrow else SLOPE * tolerance("product", dtype, max(shape))
    assert_close(X, want, bound, "X", scale=1)
    assert X.dtype == dtype and s.min() > 0.6 and s.max() < 1.25
    found = np.linalg.svd(X.astype(np.float64), compute_uv=False)
    assert found.min() > 0.55 and found.max() < 1.3


def test_size_of_the_matrix_does_not_matter_and_zero_stays_zero(backend, dtype):
    G = made((2, 6, 4)).astype(dtype)
    G[1] = 0
    found = [backend.to_host(backend.orthogonalized(backend.asarray(G * 2.0**k))) for k in (0, 10, -10)]
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all() and not found[0][1].any()


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_update_equals_its_formula_with_decay_penalty_and_factor(backend, dtype, shape, nesterov):
    W, dW, M = (made(shape, seed).astype(dtype) for seed in range(3))
    scalars, control = np.array([1.0, 0.5, 1.0]), np.array([0.25, 0.0])
    theta, grad, m = (backend.asarray(a.reshape(-1).copy()) for a in (W, dW, M))
    update = Update(theta, grad, backend.asarray(scalars), W.size, 0.5, 0.0, 0.125, backend.asarray(control))
    backend.muon(update, m, shape, 0.75, nesterov)
    W, g, M = W.astype(np.float64), 0.25 * dW + 0.5 * W.astype(np.float64), M.astype(np.float64)
    M = 0.75 * M + 0.25 * g
    X, _ = by_svd(0.75 * M + 0.25 * g if nesterov else M)
    want = W * (1 - 0.5 * 0.125) - 0.5 * np.sqrt(max(1, shape[2] / shape[1])) * X
    assert_close(backend.to_host(m).reshape(shape), M, tolerance("network", dtype), "M")
    narrow = backend.name.startswith("cupy") and dtype == "float32"
    bound = 20 * 2**-8 if narrow else SLOPE * tolerance("product", dtype, max(shape))
    assert_close(backend.to_host(theta).reshape(shape), want, bound, "W", scale=np.sqrt(shape[2]))


def test_skipped_update_changes_nothing(backend, dtype):
    theta, m = (backend.asarray(made((1, 3, 2), seed).reshape(-1).astype(dtype)) for seed in range(2))
    grad, before = backend.asarray(np.full(6, np.nan, dtype)), [backend.to_host(v).copy() for v in (theta, m)]
    scalars, control = (backend.asarray(np.array(v)) for v in ([1.0, 0.5, 1.0], [0.0, 1.0]))
    with np.errstate(all="raise"):
        backend.muon(Update(theta, grad, scalars, 6, control=control), m, (1, 3, 2), 0.95, True)
    for after, old in zip((theta, m), before, strict=True):
        np.testing.assert_array_equal(backend.to_host(after), old)
