"""The rows that are kept for importances have each class, and are the same for one seed."""

import numpy as np
import pytest

from ffnn_gpu.estimators.tabular import held_out_rows
from ffnn_gpu.estimators.tabular.held_out_rows import HeldOutRows
from ffnn_gpu.estimators.tabular.members import Rows

N = 1000
X = np.arange(2.0 * N, dtype=np.float32).reshape(N, 2)
Y = np.where(np.arange(N) % 100 == 0, 1, 0)
FOLDS = np.arange(N) % 3
INDEX = np.flatnonzero(FOLDS < 2)


def test_rows_keep_their_targets_weights_and_folds():
    found = HeldOutRows.of(Rows(X, Y, X[:, 1]), FOLDS, INDEX, 0)
    places = (found.rows.x[:, 0] / 2).astype(int)
    np.testing.assert_array_equal(np.sort(places), INDEX)
    np.testing.assert_array_equal(found.rows.y, Y[places])
    np.testing.assert_array_equal(found.rows.weight, X[places, 1])
    np.testing.assert_array_equal(found.fold, FOLDS[places])


@pytest.mark.parametrize("n", [10, 200])
def test_first_rows_have_rare_classes(n):
    found = HeldOutRows.of(Rows(X, Y), FOLDS, INDEX, 0).first(n)
    assert len(found) == n and 5 <= np.bincount(found.rows.y)[1] <= 6 + n / 100


def test_numbers_that_are_kept_are_bounded(monkeypatch):
    monkeypatch.setattr(held_out_rows, "MOST_NUMBERS", 500)
    assert len(HeldOutRows.of(Rows(X, Y), FOLDS, INDEX, 0)) == 250
    assert HeldOutRows.of(Rows(X, Y), FOLDS, INDEX, 0).least == 200
    many = HeldOutRows.of(Rows(X, np.arange(N) % 90), FOLDS, INDEX, 0)
    assert many.least == 300 and len(many) == 250  # 60 classes


def test_seed_decides():
    a, b, c = (HeldOutRows.of(Rows(X, X), FOLDS, INDEX, seed).rows.x for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
