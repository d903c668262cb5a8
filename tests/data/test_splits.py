"""Splits are disjoint, complete, of the requested size and, if stratified, proportional to the classes."""

import numpy as np
import pytest

from ffnn_gpu.data.splits import train_test_split
from ffnn_gpu.errors import ConfigurationError, DataError


@pytest.mark.parametrize("n", [3, 4, 10, 101])
@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.74])
def test_split_parts_are_disjoint_complete_and_of_the_exact_size(n, fraction):
    train, test = train_test_split(n, fraction, seed=3)
    assert sorted([*train, *test]) == list(range(n)) and len(test) == round(fraction * n)


def test_split_depends_only_on_the_seed():
    y = np.arange(100) % 3
    for stratify in (False, True):
        first, again, other = (train_test_split(y, 0.3, seed, stratify) for seed in (5, 5, 6))
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
        assert first[1].tolist() != other[1].tolist()
        assert first[0].tolist() != sorted(first[0])  # both parts are shuffled
        assert first[1].tolist() != sorted(first[1])
    np.testing.assert_array_equal(train_test_split(100, 0.3, 5)[1], train_test_split(y, 0.3, 5)[1])
    np.testing.assert_array_equal(
        train_test_split(np.int64(100), 0.3, 5)[1], train_test_split(100, 0.3, 5)[1]
    )


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [
        ([50, 30, 20], 0.1, [5, 3, 2]),
        # 3.5, 1, 0.5 → 3, 1, 0; of equal remainders the first class gets the row that is left.
        ([7, 2, 1], 0.5, [4, 1, 0]),
        # 1.5, 0.75, 0.75 → 1, 0, 0; the two rows left go to the largest remainders.
        ([6, 3, 3], 0.25, [1, 1, 1]),
        # 1.4, 1.4, 4.2 → 1, 1, 4; the row left goes to the third class: the others need a row in train.
        ([2, 2, 6], 0.7, [1, 1, 5]),
    ],
)
def test_stratified_shares_are_rounded_by_largest_remainder(counts, fraction, expected):
    y = np.repeat(["a", "b", "c"], counts)
    _, test = train_test_split(y, fraction, seed=1, stratify=True)
    assert [int(np.sum(y[test] == k)) for k in "abc"] == expected


def test_stratified_split_has_every_class_in_train_and_the_exact_total():
    generator = np.random.default_rng(4)
    for _ in range(200):
        y = generator.integers(0, generator.integers(1, 8), generator.integers(4, 60))
        fraction = generator.uniform(0.15, 0.7)
        classes, counts = np.unique(y, return_counts=True)
        total = round(fraction * len(y))
        if total > np.where(counts > 1, counts - 1, 1).sum():
            continue
        train, test = train_test_split(y, fraction, 0, stratify=True)
        assert len(test) == total and sorted([*train, *test]) == list(range(len(y)))
        assert set(classes[counts > 1]) <= set(y[train])
        shares = np.array([np.sum(y[test] == k) for k in classes])
        if fraction < 0.5:
            assert np.all(np.abs(shares - total * counts / len(y)) < 1)


def test_stratified_split_accepts_labels_of_any_kind():
    y = [("a", 1), ("b", 2)] * 10
    _, test = train_test_split(y, 0.2, 0, stratify=True)
    assert sorted(y[i] for i in test) == [("a", 1)] * 2 + [("b", 2)] * 2


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5, float("nan")])
def test_split_refuses_a_fraction_outside_zero_and_one(fraction):
    with pytest.raises(ConfigurationError, match=f"fraction is {fraction}; it must be between 0 and 1"):
        train_test_split(10, fraction, 0)


def test_split_refuses_an_empty_part_and_a_class_without_training_rows():
    with pytest.raises(DataError, match=r"fraction 0.1 of 3 rows leaves 3 in train, 0 in test"):
        train_test_split(3, 0.1, 0)
    with pytest.raises(DataError, match=r"fraction 0.9 of 3 rows leaves 0 in train, 3 in test"):
        train_test_split(3, 0.9, 0)
    with pytest.raises(ConfigurationError, match="stratify needs the labels, not only their number 10"):
        train_test_split(10, 0.5, 0, stratify=True)
    with pytest.raises(DataError, match="with 3 of 4 rows in test, some of the 2 classes have no row"):
        train_test_split([0, 0, 1, 1], 0.75, 0, stratify=True)
    with pytest.raises(DataError, match="with 4 of 5 rows in test, some of the 3 classes have no row"):
        train_test_split([0, 0, 1, 1, 2], 0.8, 0, stratify=True)
