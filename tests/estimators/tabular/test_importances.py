"""Importances are those of scikit-learn's permutation_importance on the rows of each fold."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.inspection import permutation_importance

from ffnn_gpu import TabularClassifier, TabularRegressor
from ffnn_gpu.estimators.tabular import importances
from ffnn_gpu.estimators.tabular.importances import are_cheap, importances_of
from tests.estimators.tabular.test_estimators import LINEAR, TINY

pytestmark = pytest.mark.filterwarnings("ignore:left out")
RNG = np.random.default_rng(0)
N = 240
FRAME = pd.DataFrame(
    {
        "noise": RNG.normal(size=N),
        "town": RNG.choice(["Ulm", "Bonn", "Kiel", None], N),
        "id": np.arange(N),
        "area": np.where(RNG.random(N) < 0.1, np.nan, RNG.normal(size=N)),
        "same": 1.0,
    }
)
Y = 3 * FRAME["area"].fillna(0) + (FRAME["town"] == "Ulm") + 0.1 * RNG.normal(size=N)
WEIGHT = RNG.integers(1, 4, N).astype(float)
GROUPS = np.arange(N) // 8


@pytest.fixture(scope="module")
def fitted():
    return TabularRegressor(TINY, metric="mse", random_state=0).fit(FRAME, Y, WEIGHT, GROUPS)


class OfOneFold(RegressorMixin, BaseEstimator):
    """Predict by the members of one fold; a cell is the number of the row that it comes from."""

    def __init__(self, fitted, fold):
        found, task = fitted.ensemble_, fitted.model_.task
        self.x, outputs = fitted.model_.features(FRAME), fitted.model_.encoding.outputs
        self.places = [[k for k, o in enumerate(outputs) if o.startswith(name)] for name in FRAME.columns]
        self.members = [
            (found.weights[m.plan.recipe.name], m.network)
            for m in found.members
            if m.plan.fold == fold and m.plan.recipe.name in found.weights
        ]
        self.units = lambda z: np.clip(task.units.inverse(z), Y.min(), Y.max()).ravel()

    def fit(self, X, y):
        return self

    def predict(self, cells):
        x = np.empty((len(cells), self.x.shape[1]), self.x.dtype)
        for k, places in enumerate(self.places):
            x[:, places] = self.x[cells[:, k]][:, places]
        return self.units(sum(w * network.predict(x).astype(float) for w, network in self.members))


def test_importances_are_scikit_learns(fitted):
    """The mean squared error is a mean over rows, so those of folds have a mean too."""
    cells, share, mean, variance = np.tile(np.arange(N)[:, None], 5), [], [], []
    all_rows = fitted.model_.features(FRAME)
    for fold in (0, 1):
        x = fitted.ensemble_.sample.rows.x[fitted.ensemble_.sample.fold == fold]
        rows = np.flatnonzero((all_rows[:, None] == x[None]).all(axis=2).any(axis=1))
        assert len({*GROUPS[rows]}) * 8 == len(rows)  # whole groups
        found = permutation_importance(
            OfOneFold(fitted, fold), cells[rows], Y[rows], scoring="neg_mean_squared_error", n_repeats=12,
            random_state=0, sample_weight=WEIGHT[rows],
        )  # fmt: skip
        share.append(WEIGHT[rows].sum())
        mean.append(found.importances_mean)
        variance.append(found.importances_std**2)
    part = np.array(share) / WEIGHT.sum()
    wanted, spread = part @ mean, np.sqrt(part**2 @ variance)
    got = fitted.importances_
    assert got.names == tuple(FRAME.columns) and got.rows == N
    assert (np.abs(np.array(got.mean) - wanted) <= 5 * spread * np.sqrt(1 / 5 + 1 / 12) + 1e-9).all()


def test_informative_columns_count_and_others_do_not(fitted):
    found = dict(zip(fitted.feature_names_in_, fitted.feature_importances_, strict=True))
    assert found["area"] > 5 * found["town"] > 10 * abs(found["noise"])
    assert found["id"] == found["same"] == 0
    assert [name for name, *_ in fitted.importances_.by_size[:2]] == ["area", "town"]


def test_same_seed_has_the_same_importances_in_any_number_of_threads(fitted, monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", "1")
    again = TabularRegressor(TINY, metric="mse", random_state=0).fit(FRAME, Y, WEIGHT, GROUPS)
    np.testing.assert_array_equal(again.feature_importances_, fitted.feature_importances_)
    monkeypatch.setattr(importances, "TOGETHER", 1)  # a repetition at a time
    np.testing.assert_array_equal(
        importances_of(again.model_, again.ensemble_, again.model_.encoding.columns).mean,
        fitted.feature_importances_,
    )


def test_pickle_keeps_what_importances_need(fitted):
    kept = fitted.importances_
    assert pickle.loads(pickle.dumps(fitted)).importances_ == kept  # noqa: S301
    fresh = copy.copy(fitted)
    del fresh._importances
    assert pickle.loads(pickle.dumps(fresh)).importances_ == kept  # noqa: S301


def test_importances_of_another_fit_are_other_ones(fitted):
    model = TabularClassifier(LINEAR, metric="auc", random_state=0)
    first = model.fit(FRAME, Y > 0).feature_importances_
    second = model.fit(FRAME, FRAME["noise"] > 0).feature_importances_
    assert first.argmax() == 3 and second.argmax() == 0 and 0.2 < second[0] < 0.6


def test_wide_tables_take_fewer_rows_and_are_left_out_of_the_explanation(fitted, monkeypatch):
    monkeypatch.setattr(importances, "ALWAYS", 1.0)
    monkeypatch.setattr(importances, "SHARE", 1e-9)
    assert not are_cheap(fitted.model_, fitted.ensemble_)
    assert importances_of(fitted.model_, fitted.ensemble_).rows == 200
    fresh = copy.copy(fitted)
    vars(fresh).pop("_importances", None)
    assert "importances of the columns are not computed: that would take long" in fresh.explain()


def test_columns_of_a_matrix_have_importances_in_their_order():
    X = RNG.normal(size=(200, 3))
    model = TabularRegressor(TINY, random_state=0).fit(X, X[:, 2])
    assert model.feature_importances_.shape == (3,) and model.feature_importances_.argmax() == 2


def test_rows_are_predicted_by_the_members_that_held_them_out(fitted):
    found = fitted.ensemble_
    assert importances._errors(found, found.sample, (), 0) == [pytest.approx(found.error, rel=1e-6)]


def test_cells_change_places_within_a_fold_only():
    """Each fold is a group, and a column that names the group has one value in a fold."""
    group = np.arange(120) % 2
    X = np.column_stack([RNG.normal(size=120), group * 2.0])
    model = TabularRegressor(TINY, random_state=0).fit(X, X[:, 0] + 3 * group, groups=group)
    used = model.predict(X + np.array([0, 1])) != model.predict(X)
    assert used.any() and model.importances_.mean[1] == pytest.approx(0, abs=1e-9)
