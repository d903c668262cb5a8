"""Tolerances and differences of arrays."""

import numpy as np
import pytest

from ffnn_gpu.testing.tolerances import assert_close, difference, tolerance

EPS = 2.0**-23


@pytest.mark.parametrize(
    ("kind", "dtype", "K", "L", "want"),
    [
        ("product", "float32", 1, 1, 4 * EPS),
        ("product", "float32", 10_000, 9, 100 * EPS),
        ("network", "float32", 100, 2, 16 * EPS),
        ("network", "float32", 400, 4, 40 * EPS),
        ("parity", "float32", 400, 4, 80 * EPS),
        ("network", "float64", 1, 1, 16 * 2.0**-52),
        ("network", "float16", 1, 1, 16 * 2.0**-10),
        ("tf32", "float32", 400, 4, 2.0**-7),
    ],
)
def test_tolerance_is_its_formula(kind, dtype, K, L, want):
    assert tolerance(kind, dtype, K, L) == want


def test_difference_has_the_place_both_values_and_the_error_in_eps():
    want = np.array([[1, 2], [4, 3]], np.float32)
    got = want.copy()
    got[1, 1] += 8 * EPS
    found = difference(got, want, 16 * EPS, "dW")
    assert (found.what, found.index, found.got, found.expected) == ("dW", (1, 1), got[1, 1], 3)
    assert found.error == 8 * EPS and found.allowed == 64 * EPS
    assert found.in_eps == 2 and found.excess == 1 / 8


def test_scale_may_differ_for_each_element():
    assert_close([1.0, 101.0], [1.0, 100.0], 1e-2, scale=[1, 100])
    with pytest.raises(AssertionError, match=r"differs most at \(0,\): got .*1\.5.*, expected .*1\.0"):
        assert_close([1.5, 101.0], [1.0, 100.0], 1e-2, scale=[1, 100])


def test_16_bit_arrays_are_compared_without_overflow():
    with pytest.raises(AssertionError, match=r"the error 1\.2e\+05 is 2\.05e\+03 eps"):
        assert_close(np.array([6e4], np.float16), np.array([-6e4], np.float16), 1e-3)


@pytest.mark.parametrize(("got", "want"), [(np.nan, 2), (2, np.nan), (np.inf, np.inf)])
def test_values_that_are_not_finite_are_never_close(got, want):
    got, want = [1.0, got], [1.0, want]
    with pytest.raises(AssertionError, match=r"has 1 values that are not finite, the first at \(1,\): got"):
        assert_close(got, want, 1.0)


def test_shapes_are_not_broadcast():
    with pytest.raises(AssertionError, match=r"b has shape \(1, 2\); expected \(2,\)"):
        assert_close(np.ones((1, 2)), np.ones(2), 1.0, "b")


def test_empty_arrays_are_equal_and_zero_equals_zero_only():
    assert_close(np.ones((0, 3)), np.ones((0, 3)), 0.0)
    assert_close([0.0], [0.0], 1e-3)
    assert difference([1e-30], [0.0], 1e-3).excess == np.inf


def test_scale_of_an_error_is_what_is_wanted_and_not_what_came():
    with pytest.raises(AssertionError, match="differs most at"):
        assert_close(np.array([1e6, 0.0]), np.array([1.0, 0.0]), 1.0)
