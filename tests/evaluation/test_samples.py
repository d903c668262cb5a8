"""Data is validated, split in the proportions of its classes, and weighted by class."""

import numpy as np
import pytest

from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError
from ffnn_gpu.evaluation.samples import balanced, samples, split
from ffnn_gpu.nn.layers import Dense, Dropout, Softmax
from ffnn_gpu.nn.losses.standard import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    hinge,
    mean_squared_error,
    softmax_cross_entropy,
)
from ffnn_gpu.nn.network import Network

rng = np.random.default_rng(1)
X = rng.normal(size=(50, 4))
Y = rng.integers(0, 3, 50).astype(np.int32)


def classifier(backend="numpy", *more):
    return Network(4, [Dense(6), Dropout(0.5), *more, Dense(3)], backend, "float64", seed=2)


def test_samples_are_immutable():
    with pytest.raises(AttributeError):
        samples(classifier(), softmax_cross_entropy, (X, Y)).weight = np.ones(50)


def test_samples_refuse_two_sets_of_weights():
    with pytest.raises(ConfigurationError, match="sample_weight is given twice: as an argument and in data"):
        samples(classifier(), softmax_cross_entropy, (X, Y, np.ones(50)), np.ones(50))


@pytest.mark.parametrize("data", [X, (X,), (X, Y, None, None), {"x": X, "y": Y}, "digits", None])
def test_data_that_is_no_pair_is_refused(data):
    with pytest.raises(DataError, match=r"data must be \(x, y\) or \(x, y, sample_weight\)"):
        samples(classifier(), softmax_cross_entropy, data)


def test_split_holds_out_the_fraction_in_the_proportions_of_the_classes():
    network, y = classifier(), np.repeat([0, 1, 2], [60, 30, 10])
    x = np.arange(400.0).reshape(100, 4)
    whole = samples(network, softmax_cross_entropy, (x, y, np.arange(1.0, 101)))
    train, held_out = split(network, softmax_cross_entropy, whole, 0.2, seed=5)
    assert np.bincount(held_out.y).tolist() == [12, 6, 2] and np.bincount(train.y).tolist() == [48, 24, 8]
    assert sorted([*train.x[:, 0], *held_out.x[:, 0]]) == sorted(x[:, 0])
    for part in (train, held_out):
        np.testing.assert_array_equal(part.weight, part.x[:, 0] / 4 + 1)  # rows stay together
    again = split(network, softmax_cross_entropy, whole, 0.2, seed=5)[1]
    other = split(network, softmax_cross_entropy, whole, 0.2, seed=6)[1]
    np.testing.assert_array_equal(again.x, held_out.x)
    assert not np.array_equal(other.x, held_out.x)


@pytest.mark.parametrize("loss", [softmax_cross_entropy, cross_entropy])
def test_split_is_stratified_for_one_hot_targets_and_for_every_loss_of_classes(loss):
    y = np.repeat([0, 1, 2], [60, 30, 10])
    network = classifier("numpy", Softmax())
    for targets in (y, np.eye(3)[y]):
        whole = samples(network, loss, (rng.normal(size=(100, 4)), targets))
        held_out = split(network, loss, whole, 0.2, seed=5)[1]
        found = held_out.y if held_out.y.ndim == 1 else held_out.y.argmax(axis=1)
        assert np.bincount(found).tolist() == [12, 6, 2]


@pytest.mark.parametrize(
    ("loss", "classes"),
    [(binary_cross_entropy_with_logits, (0, 1)), (binary_cross_entropy, (0, 1)), (hinge, (-1, 1))],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.parametrize("shape", [(200,), (200, 1)])
def test_split_is_stratified_for_one_output(loss, classes, shape):
    network = Network(4, [Dense(1)], "numpy", "float64")
    y = np.repeat(classes, [190, 10])[rng.permutation(200)].reshape(shape)
    whole = samples(network, loss, (rng.normal(size=(200, 4)), y))
    for seed in range(20):
        held_out = split(network, loss, whole, 0.1, seed)[1]
        assert [(held_out.y == c).sum() for c in classes] == [19, 1]


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (binary_cross_entropy_with_logits, np.resize([0.0, 1.0, 0.3], 50)),
        (binary_cross_entropy_with_logits, np.resize([[0, 1], [1, 1]], (50, 2))),
        (mean_squared_error, np.resize([0.0, 1.0, 1.0], 50)),
    ],
    ids=["probabilities", "labels", "numbers"],
)
def test_targets_that_are_not_one_class_a_row_are_split_at_random(loss, y):
    network = Network(4, [Dense(y[0].size)], "numpy", "float64")
    held_out = split(network, loss, samples(network, loss, (X, y)), 0.2, 3)[1]
    chosen = np.sort(np.random.default_rng(3).permutation(50)[:10])
    np.testing.assert_array_equal(held_out.x[:], X[chosen])


def test_split_refuses_a_part_whose_weights_are_all_zero():
    network, everything = classifier(), np.arange(50)
    whole = samples(network, softmax_cross_entropy, (X, Y, np.ones(50)))
    out = [row.tolist() in split(network, softmax_cross_entropy, whole, 0.2, 1)[1].x[:].tolist() for row in X]
    for kept, words in ((out, "all 40 training rows"), (~np.array(out), "all 10 held-out rows")):
        weighted = samples(network, softmax_cross_entropy, (X, Y, np.where(kept, everything + 1.0, 0)))
        with pytest.raises(DataError, match=rf"validation=0.2, seed=1: the sample weights of {words} are 0"):
            split(network, softmax_cross_entropy, weighted, 0.2, 1)


@pytest.mark.parametrize("fraction", [0, 1, 0.0, 1.0, -0.1, 1.5, True, False, float("nan")])
def test_split_refuses_a_fraction_outside_zero_and_one(fraction):
    whole = samples(classifier(), softmax_cross_entropy, (X, Y))
    with pytest.raises(ConfigurationError, match=rf"validation is {fraction}; use \(Xv, yv\) or a fraction"):
        split(classifier(), softmax_cross_entropy, whole, fraction, 0)


def test_split_accepts_a_numpy_number_and_refuses_an_empty_part():
    whole = samples(classifier(), softmax_cross_entropy, (X, Y))
    assert len(split(classifier(), softmax_cross_entropy, whole, np.float32(0.1), 0)[1]) == 5
    with pytest.raises(DataError, match="50"):
        split(classifier(), softmax_cross_entropy, whole, 1e-6, 0)


def test_validation_pair_is_checked_like_training_data():
    whole = samples(classifier(), softmax_cross_entropy, (X, Y))
    with pytest.raises(ShapeError, match="50 rows and y has 49"):
        split(classifier(), softmax_cross_entropy, whole, (X, Y[1:]), 0)
    with pytest.raises(DataError, match="validation is empty"):
        split(classifier(), softmax_cross_entropy, whole, (X[:0], Y[:0]), 0)


def test_balanced_weights_agree_with_scikit_learn():
    oracle = pytest.importorskip("sklearn.utils.class_weight").compute_sample_weight("balanced", Y)
    whole = samples(classifier(), softmax_cross_entropy, (X, Y))
    np.testing.assert_allclose(balanced(whole, "balanced", 3, np.float64).weight, oracle, rtol=1e-15)
    one_hot = samples(classifier(), softmax_cross_entropy, (X, np.eye(3)[Y]))
    np.testing.assert_allclose(balanced(one_hot, "balanced", 3, np.float64).weight, oracle, rtol=1e-15)
    weighted = samples(classifier(), softmax_cross_entropy, (X, Y, np.arange(50.0)))
    np.testing.assert_allclose(
        balanced(weighted, "balanced", 3, np.float64).weight, oracle * np.arange(50), rtol=1e-15
    )


def test_balanced_weights_count_the_classes_that_occur():
    rows = samples(classifier(), softmax_cross_entropy, (X[Y != 1], Y[Y != 1]))
    y, weight = rows.y, balanced(rows, "balanced", 3, np.float64).weight
    np.testing.assert_allclose([weight[y == c].sum() for c in (0, 2)], len(y) / 2, rtol=1e-12)
    np.testing.assert_allclose(weight.mean(), 1, rtol=1e-12)  # no class, no share


def test_class_weights_multiply_the_weights_of_their_rows():
    whole = samples(classifier(), softmax_cross_entropy, (X, Y))
    np.testing.assert_array_equal(
        balanced(whole, {1: 3.0, 0: 0.5}, 3, np.float64).weight, np.array([0.5, 3.0, 1.0])[Y]
    )


def test_weight_of_one_class_may_be_zero():
    whole = samples(classifier(), softmax_cross_entropy, (X, Y))
    np.testing.assert_array_equal(balanced(whole, {1: 0}, 3, np.float64).weight, Y != 1)


def test_class_weights_that_leave_no_row_are_refused():
    rows = samples(classifier(), softmax_cross_entropy, (X, Y, (Y == 1).astype(float)))
    with pytest.raises(
        ConfigurationError, match=r"class_weight=\{1: 0.0\} all 50 training rows have weight 0"
    ):
        balanced(rows, {1: 0.0}, 3, np.float64)


def test_classes_of_a_column_are_its_values_even_if_all_are_equal():
    network = Network(4, [Dense(1)], "numpy", "float64")
    for y in (np.ones((50, 1)), (Y > 0)[:, None]):
        whole = samples(network, binary_cross_entropy_with_logits, (X, y))
        np.testing.assert_array_equal(balanced(whole, {1: 3}, 1, np.float64).weight, 1 + 2 * y[:, 0])


def test_two_one_hot_columns_are_two_classes():
    whole = samples(
        Network(4, [Dense(2)], "numpy", "float64"), softmax_cross_entropy, (X, np.eye(2)[(Y > 0) * 1])
    )
    np.testing.assert_array_equal(balanced(whole, {1: 3}, 2, np.float64).weight, 1 + 2 * (Y > 0))


@pytest.mark.parametrize(
    "class_weight",
    [
        "balance",
        [1.0, 2.0, 3.0],
        {0: -1.0},
        {0: float("nan")},
        {0: float("inf")},
        {0: 0.0, 1: 0.0, 2: 0.0},
        {0: "2"},
        3,
    ],
)
def test_invalid_class_weights_are_refused(class_weight):
    whole = samples(classifier(), softmax_cross_entropy, (X, Y))
    with pytest.raises(ConfigurationError, match="class"):
        balanced(whole, class_weight, 3, np.float64)


@pytest.mark.parametrize("unknown", [3, -1, "0", 0.5])
def test_class_weight_of_a_class_beyond_the_outputs_is_refused(unknown):
    with pytest.raises(ConfigurationError, match="class_weight"):
        balanced(samples(classifier(), softmax_cross_entropy, (X, Y)), {0: 2.0, unknown: 2.0}, 3, np.float64)


def test_class_weight_needs_one_class_per_row():
    half = np.full((50, 3), [0, 0.5, 0.5])
    for loss, y in (
        (mean_squared_error, X[:, :3]),
        (mean_squared_error, np.ones((50, 3))),
        (softmax_cross_entropy, half),
    ):
        with pytest.raises(ConfigurationError, match="one class per row"):
            balanced(samples(classifier(), loss, (X, y)), "balanced", 3, np.float64)


def test_class_weight_of_a_class_without_rows_changes_nothing():
    rows = samples(classifier(), softmax_cross_entropy, (X[Y != 2], Y[Y != 2]))
    np.testing.assert_array_equal(
        balanced(rows, {0: 2.0, 2: 9.0}, 3, np.float64).weight, balanced(rows, {0: 2.0}, 3, np.float64).weight
    )
