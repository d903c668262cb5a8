import numpy as np
import pytest

from ffnn_gpu.errors import DataError
from ffnn_gpu.estimators.tabular.folds import folds_of, number_of_folds


@pytest.mark.parametrize("n", [4, 5, 103])
def test_folds_differ_by_one_row_at_most(n):
    sizes = np.bincount(folds_of(n, 4, seed=0), minlength=4)
    assert sizes.sum() == n and sizes.max() - sizes.min() <= 1


def test_each_class_is_spread_over_all_folds():
    classes = np.repeat([0, 1, 2], [50, 9, 3])
    folds = folds_of(62, 3, 0, classes)
    for label, count in ((0, 50), (1, 9), (2, 3)):
        sizes = np.bincount(folds[classes == label], minlength=3)
        assert sizes.sum() == count and sizes.max() - sizes.min() <= 1


def test_rows_of_a_group_are_in_one_fold_and_folds_are_of_like_size():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), rng.integers(1, 12, 40))
    folds = folds_of(len(groups), 5, 0, groups=groups)
    assert all(len({*folds[groups == g]}) == 1 for g in range(40))
    sizes = np.bincount(folds, minlength=5)
    assert sizes.max() - sizes.min() <= 12


def test_seed_decides_the_folds():
    np.testing.assert_array_equal(folds_of(50, 5, 3), folds_of(50, 5, 3))
    assert (folds_of(50, 5, 3) != folds_of(50, 5, 4)).any()


def test_too_few_rows_or_groups_are_refused():
    with pytest.raises(DataError, match="3 rows cannot be dealt to 4 folds"):
        folds_of(3, 4, 0)
    with pytest.raises(DataError, match="2 groups cannot be dealt to 3 folds"):
        folds_of(9, 3, 0, groups=np.arange(9) % 2)


def test_folds_are_at_most_the_rows_or_groups_and_one_of_those_is_refused():
    groups = np.array([1, 1, 1, 2, 2, 3])
    assert [number_of_folds(most, 6) for most in (4, 9)] == [4, 6]
    assert [number_of_folds(most, 6, groups) for most in (2, 4)] == [2, 3]
    with pytest.raises(DataError, match="there is 1 row to train on; members need at least 2"):
        number_of_folds(4, 1)
    with pytest.raises(DataError, match="there is 1 group to train on"):
        number_of_folds(4, 6, np.zeros(6))
