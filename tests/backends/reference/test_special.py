import math

import numpy as np
import pytest

from ffnn_gpu.backends.reference.special import erfc

# The bound of special.py: a relative error below (40 + x²) eps for x > 0, and below 40 eps for x ≤ 0.
FLAT = 40


def assert_erfc_close(backend, x, want):
    got = backend.to_host(erfc(backend.xp, backend.asarray(x)))
    eps = np.finfo(x.dtype).eps
    error = abs(got.astype(np.float64) - want) / want
    allowed = eps * (FLAT + np.maximum(x, 0).astype(np.float64) ** 2)
    worst = int((error / allowed).argmax())
    assert got.dtype == x.dtype
    assert error[worst] <= allowed[worst], f"erfc({x[worst]}) = {got[worst]!r}, expected {want[worst]!r}"


def points(dtype):
    last = 9.0 if dtype == "float32" else 26.0  # erfc(9) = 4e-37 and erfc(26) = 6e-296 are normal numbers
    return np.concatenate([np.linspace(-12, last, 4001), [0.0, -0.0, 1e-20, -1e-20, 1e-5, 0.5]]).astype(dtype)


def test_erfc_agrees_with_the_standard_library(backend, dtype):
    x = points(dtype)
    assert_erfc_close(backend, x, np.array([math.erfc(value) for value in x.tolist()]))


def test_erfc_agrees_with_scipy(backend, dtype):
    special = pytest.importorskip("scipy.special")
    x = points(dtype)
    assert_erfc_close(backend, x, special.erfc(x.astype(np.float64)))


def test_erfc_reaches_its_limits(backend, dtype):
    x = backend.asarray(np.array([-1e4, -40, 0, 200, 1e4], dtype))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        got = backend.to_host(erfc(backend.xp, x))
    np.testing.assert_array_equal(got, np.array([2, 2, 1, 0, 0], dtype))


def test_erfc_of_nan_is_nan(backend, dtype):
    assert np.isnan(backend.to_host(erfc(backend.xp, backend.asarray(np.array([np.nan], dtype))))).all()


def test_complex_step_through_erfc_gives_its_derivative():
    x, h = np.linspace(-5, 5, 41), 1e-30
    slope = erfc(np, x + 1j * h).imag / h
    want = -2 / math.sqrt(math.pi) * np.exp(-x * x)
    assert np.abs(slope / want - 1).max() < 1e-12  # more than FLAT eps = 9e-15
