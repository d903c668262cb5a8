"""Targets are validated; the error names the first invalid value."""

import numpy as np
import pytest

from ffnn_gpu.errors import DataError
from ffnn_gpu.nn.losses.loss import class_indices, distributions, weights
from ffnn_gpu.nn.losses.standard import in_set


@pytest.mark.parametrize(
    ("dtype", "rounding", "mistake"),
    [("float16", 5e-4, 2e-3), ("float32", 4e-6, 1e-4), ("float64", 4e-6, 1e-4)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_target_distribution_sums_to_one_within_the_rounding_of_its_type(dtype, rounding, mistake, sign):
    rows = np.array([[0.5, 0.5], [0.25, 0.75]], dtype)
    rows[1, 1] += sign * rounding
    np.testing.assert_array_equal(distributions(rows, 2, "float64"), rows)
    rows[1, 1] += sign * mistake
    with pytest.raises(
        DataError, match=r"row 1 of y sums to (1\.00|0\.99)\d+; a target distribution sums to 1"
    ):
        distributions(rows, 2, "float64")


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            lambda: class_indices(np.array([0, 1.5, 0.5]), 2),
            r"y\[1\] is 1.5; class indices must be whole numbers from 0 to 1",
        ),
        (
            lambda: class_indices(np.array([0, 2, -1, 3]), 2),
            r"y\[1\] is 2; the network has 2 outputs, so classes are 0 to 1",
        ),
        (lambda: class_indices(np.array([0, 1, -1, 2]), 2), r"y\[2\] is -1; the network has 2"),
        (
            lambda: class_indices(np.array(["a"]), 4),
            "strings such as 'a'; fit and this loss take class indices 0 to 3",
        ),
        (
            lambda: class_indices(np.array([True]), 4),
            "dtype bool; class indices must be whole numbers from 0 to 3",
        ),
        (
            lambda: weights(np.array(["2"]), 1, "float64"),
            "sample_weight has dtype <U1; weights are real numbers",
        ),
        (
            lambda: distributions(np.array([[1, 0], [0.5, 0.5], [-1, 2], [-2, 3]]), 2, "float64"),
            "row 2 of y holds a negative",
        ),
        (
            lambda: distributions(np.array([[1, 0], [0.5, 0.25], [0.5, 0]]), 2, "float64"),
            "row 1 of y sums to 0.75",
        ),
        (
            lambda: weights(np.array([1, 0.5, 0, -2, -3]), 5, "float64"),
            r"sample_weight\[3\] is -2.0; weights are at least 0",
        ),
        (
            lambda: in_set(-1, 1)(np.array([[1, -1], [0, 2]])),
            r"y holds 0; this loss reads targets from \(-1, 1\)",
        ),
    ],
)
def test_first_of_several_bad_values_is_named(check, message):
    with pytest.raises(DataError, match=message):
        check()
