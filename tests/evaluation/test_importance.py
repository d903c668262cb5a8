"""Permutation importance is the growth of the error that the permutations themselves give."""

import numpy as np
import pytest

from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.evaluation.importance import mean_and_deviation, permutation_importance
from ffnn_gpu.nn.layers import Dense
from ffnn_gpu.nn.network import Network

X = np.random.default_rng(0).normal(size=(60, 3)) * [1, 2, 4]
W = np.array([3.0, -1.0, 0.0])


def error(x):
    """Return the mean squared error of an exact model, which is 0 on X."""
    return float(np.mean((x * W - X * W).sum(axis=1) ** 2))


def test_importance_of_a_linear_model_is_twice_the_variance_that_it_uses():
    """E (w x_π − w x)² = 2 w² var x over all permutations π."""
    found = permutation_importance(error, X, [(0,), (1,), (2,)], repeats=600)
    np.testing.assert_allclose(found.mean(axis=1), 2 * W**2 * X.var(axis=0), rtol=0.02)


def test_mean_and_deviation_of_huge_numbers_differ_by_their_unit_alone():
    rises = X.T
    for unit in (1.0, 2.0**1000, 2.0**-1000):
        mean, deviation = mean_and_deviation(unit * rises)
        np.testing.assert_array_equal(mean / unit, rises.mean(axis=1))
        np.testing.assert_allclose(deviation / unit, rises.std(axis=1), rtol=1e-12)


def test_unused_column_has_importance_zero_and_x_is_unchanged():
    before = X.copy()
    assert (permutation_importance(error, X, [(2,)], repeats=5) == 0).all()
    np.testing.assert_array_equal(X, before)


def test_importance_of_a_column_does_not_depend_on_the_others():
    alone = permutation_importance(error, X, [(1,)], repeats=3)
    np.testing.assert_array_equal(permutation_importance(error, X, [(0,), (1,)], repeats=3)[1:], alone)


def test_places_of_one_column_are_shuffled_together():
    x = np.repeat(np.arange(20.0), 2).reshape(20, 2)
    apart = lambda x: float(np.abs(x[:, 0] - x[:, 1]).sum())  # noqa: E731
    assert (permutation_importance(apart, x, [(0, 1)]) == 0).all()
    assert (permutation_importance(apart, x, [(0,)]) > 0).all()


def test_importance_is_that_of_a_network(backend):
    """Of z = x W the outputs for shuffled rows are computed here by NumPy."""
    network = Network(3, [Dense(1)], backend, "float64")
    weights = np.array([[2.0], [0.0], [-1.0]])
    network.params.assign({"0.W": weights, "0.b": np.zeros(1)})

    def squares(x):
        return float(np.mean(np.square(network.predict(x) - X.sum(axis=1, keepdims=True))))

    found = permutation_importance(squares, X, [(0,), (1,), (2,)], repeats=2, seed=7)
    rng = np.random.default_rng(7)
    orders, exact = [rng.permutation(60) for _ in range(2)], X.sum(axis=1)
    for k in range(3):
        for r, order in enumerate(orders):
            x = X.copy()
            x[:, k] = X[order, k]
            terms = [np.mean((each @ weights[:, 0] - exact) ** 2) for each in (x, X)]
            np.testing.assert_allclose(found[k, r], terms[0] - terms[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "columns", "complaint"),
    [
        (X[:1], [(0,)], r"x has shape \(1, 3\); a column is shuffled among at least two rows"),
        (X, [(0,), (3,)], "x has 3 columns; place 3 is not among them"),
    ],
)
def test_matrix_that_cannot_be_shuffled_is_refused(x, columns, complaint):
    with pytest.raises(DataError, match=complaint):
        permutation_importance(error, x, columns)


def test_repeats_must_be_positive():
    with pytest.raises(ConfigurationError, match="repeats must be a whole number of at least 1, not 0"):
        permutation_importance(error, X, [(0,)], repeats=0)
