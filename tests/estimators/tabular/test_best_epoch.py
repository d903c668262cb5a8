"""With a metric, a member keeps the epoch that is best by scikit-learn's value of it."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, mean_absolute_error, roc_auc_score

from ffnn_gpu.data.labels import LabelMap
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.estimators.tabular.criterion import Objective
from ffnn_gpu.estimators.tabular.members import Plan, Rows, train_members
from ffnn_gpu.estimators.tabular.recipes import RealMLP
from ffnn_gpu.estimators.tabular.report import member_row
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.training.callbacks import Callback

RNG = np.random.default_rng(0)
N = 60
X = RNG.normal(size=(N, 3)).astype(np.float32)
S = X[:, 0] + RNG.normal(size=N)
UNITS = Standardizer.fit(S[:, None])
FOLDS = np.arange(N) % 2
WEIGHT = RNG.integers(1, 4, N).astype(float)
BINARY = Task("binary", 1, "binary_cross_entropy_with_logits", labels=LabelMap((0, 1)))
REGRESSION = Task("regression", 1, "mean_squared_error", units=UNITS)
RECIPE = RealMLP(name="RealMLP", hidden=(6,), dropout=0.1, epochs=12, steps=1, lr=(0.2, 0.5))
HELD = np.flatnonzero(FOLDS == 0)
TRUTH, OF_HELD = (S[HELD] > 0).astype(int), {"sample_weight": WEIGHT[HELD]}
CASES = {  # the metric, its task, what is encoded, and minus or plus scikit-learn's value of outputs z
    "auc": (BINARY, S > 0, lambda z: -roc_auc_score(TRUTH, z, **OF_HELD)),
    "accuracy": (BINARY, S > 0, lambda z: -accuracy_score(TRUTH, z > 0, **OF_HELD)),
    "mae": (REGRESSION, S, lambda z: mean_absolute_error(S[HELD], UNITS.inverse(z), **OF_HELD)),
}


class Watching(Callback):
    def __init__(self, error):
        self.error, self.epochs = error, []

    def after_epoch(self, run, row):
        z = run.network.predict(X[HELD])
        self.epochs.append(((self.error(z), row["val_loss"]), run.network.params.to_host()))


@pytest.mark.parametrize("metric", CASES)
def test_member_keeps_its_best_epoch_by_the_metric(backend, metric):
    task, y, error = CASES[metric]
    y = y.astype(int) if task is BINARY else task.encode(y)
    seen = Watching(error)
    (member,), _ = train_members(
        [Plan(RECIPE, 0, 3)], Rows(X, y, WEIGHT), FOLDS, task, (), backend, "float64",
        callback=lambda plan: [seen], objective=Objective.of(metric, task),
    )  # fmt: skip
    (least, _), wanted = min(seen.epochs, key=lambda each: (round(each[0][0], 9), each[0][1]))
    for name, array in member.network.params.to_host().items():
        np.testing.assert_array_equal(array, wanted[name])
    assert member.score == pytest.approx(abs(least), rel=1e-9)
    assert least < seen.epochs[-1][0][0]  # another epoch than the last


def test_loss_of_a_member_is_without_label_smoothing(backend):
    task, y = BINARY, (S > 0).astype(int)
    (member,), _ = train_members([Plan(RECIPE, 0, 3)], Rows(X, y), FOLDS, task, (), backend, "float64")
    p = 1 / (1 + np.exp(-backend.to_host(member.network.predict(X[HELD])).ravel()))
    wanted = -np.log(np.where(TRUTH == 1, p, 1 - p)).mean()
    assert member.loss == pytest.approx(wanted, rel=1e-9)
    assert member_row(1, member)["val_loss"] == member.loss
    assert abs(member.loss - min(member.history["val_loss"])) > 1e-3  # the loss with smoothing
