"""Groups stay in one part of a split, and a split in order never trains on later rows."""

import numpy as np
import pytest

from ffnn_gpu.data.splits import group_split, order_split
from ffnn_gpu.errors import DataError

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [True, False])
def test_no_group_is_in_both_parts_and_every_row_is_in_one(seed, classes):
    groups = RNG.integers(0, 60, 1000)
    y = RNG.choice(["a", "b", "c"], 1000, p=[0.7, 0.2, 0.1]) if classes else None
    train, test = group_split(groups, 0.2, seed, y)
    assert not {*groups[train]} & {*groups[test]}
    assert sorted([*train, *test]) == [*range(1000)]
    assert abs(len(test) - 200) < 30


def test_shares_of_classes_are_kept_as_well_as_groups_allow():
    """Groups of one class each: a random choice of groups would not hold 10 % of each class."""
    groups = np.repeat(np.arange(100), 10)
    y = np.repeat(["a"] * 80 + ["b"] * 20, 10)
    _, test = group_split(groups, 0.1, 0, y)
    assert np.unique(y[test], return_counts=True)[1].tolist() == [80, 20]


def test_the_seed_decides_the_groups():
    groups = np.repeat(np.arange(50), 4)
    parts = [group_split(groups, 0.2, seed)[1].tolist() for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]


def test_a_class_of_one_group_stays_in_train():
    groups = np.repeat(np.arange(10), 5)
    y = np.where(groups == 4, "rare", "often")
    for seed in range(10):
        train, _ = group_split(groups, 0.3, seed, y)
        assert "rare" in y[train]


def test_one_group_cannot_be_split():
    with pytest.raises(DataError, match="1 groups of 20 rows cannot be split"):
        group_split(np.zeros(20, int), 0.2, 0)


def test_later_rows_are_for_the_test():
    order = RNG.permutation(100).astype(float)
    train, test = order_split(order, 0.2)
    assert len(test) == 20 and order[train].max() < order[test].min()
    assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()


def test_rows_of_one_day_stay_together():
    order = np.repeat([1.0, 2.0, 3.0, 4.0], [40, 35, 15, 10])
    train, test = order_split(order, 0.2)
    assert {*order[train]} == {1, 2} and {*order[test]} == {3, 4}


def test_equal_rows_cannot_be_cut_in_order():
    with pytest.raises(DataError, match="one part would be empty"):
        order_split(np.ones(10), 0.2)


@pytest.mark.parametrize("seed", range(10))
def test_class_within_one_group_keeps_its_rows_in_train(seed):
    """With most rows in test, the shares of the classes alone would move that group."""
    groups, y = np.repeat(np.arange(6), 10), np.repeat([1, 0], [10, 50])
    train, _ = group_split(groups, 0.7, seed, y)
    assert {*y[train].tolist()} == {0, 1}
