import numpy as np
import pytest

from ffnn_gpu.errors import DataError
from ffnn_gpu.estimators.tabular.folds import folds_of, number_of_folds, numbered


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


def test_there_are_no_more_folds_than_rows_or_groups():
    groups = np.array([1, 1, 1, 2, 2, 3])
    assert [number_of_folds(most, 6) for most in (4, 9)] == [4, 6]
    assert [number_of_folds(most, 6, groups) for most in (2, 4)] == [2, 3]
    assert {*folds_of(3, 4, 0)} == {0, 1, 2}
    assert {*folds_of(9, 3, 0, groups=np.arange(9) % 2)} == {0, 1}


def test_rows_of_weight_0_have_no_fold_and_the_others_are_spread():
    weight = np.repeat([0.0, 1.0], [30, 6])
    for groups in (None, np.arange(36) // 2):
        folds = folds_of(36, 3, 0, weight=weight, groups=groups)
        assert {*folds[:30]} == {-1}
        np.testing.assert_array_equal(np.bincount(folds[30:]), [2, 2, 2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 1}, "there is 1 row to train on; members need at least 2"),
        ({"groups": np.zeros(4)}, "there is 1 group to train on"),
        ({"groups": np.arange(4), "weight": np.array([0.0, 1.0, 0.0, 0.0])}, "there is 1 group to train on"),
        ({"weight": np.array([0.0, 1.0, 0.0, 0.0])}, "there is 1 row to train on"),
        ({"weight": np.zeros(4)}, "there are 0 rows to train on"),
    ],
)
def test_what_cannot_be_dealt_is_refused(settings, message):
    with pytest.raises(DataError, match=message):
        folds_of(**{"n": 4, "most": 3, "seed": 0} | settings)


@pytest.mark.parametrize(
    "groups",
    [["b", "a", "b"], np.array([7.5, 1, 7.5]), np.array([2, "x", 2], object)],
    ids=["words", "numbers", "both"],
)
def test_equal_groups_of_any_kind_have_equal_numbers(groups):
    assert numbered(groups).tolist() == [0, 1, 0]


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan")])
def test_row_without_a_group_is_refused(missing):
    with pytest.raises(DataError, match=r"groups\[1\] is (None|nan); give each row without a group"):
        numbered(np.array([1, missing], object))


def test_groups_of_several_columns_are_refused():
    with pytest.raises(DataError, match=r"groups has shape \(4, 2\); it must be \(n,\)"):
        numbered(np.zeros((4, 2)))
