"""An objective gives scikit-learn's metric and an error that is lower for better predictions."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from ffnn_gpu import metrics
from ffnn_gpu.data.labels import LabelMap
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators.tabular.criterion import Criterion, Objective
from ffnn_gpu.estimators.task import TASK_METRICS, Task

RNG = np.random.default_rng(0)
N = 90
Y3 = RNG.integers(0, 3, N)
P3 = RNG.dirichlet([1, 1, 1], N) * 0.5 + np.eye(3)[Y3] * 0.5
W = RNG.integers(0, 3, N).astype(float)
NUMBERS = RNG.normal(50, 20, (N, 2))
UNITS = Standardizer.fit(NUMBERS)
BINARY = Task("binary", 1, "binary_cross_entropy_with_logits", labels=LabelMap(("no", "yes")))
CLASSES = Task("multiclass", 3, "softmax_cross_entropy", 0.1, LabelMap(("a", "b", "c")))
LABELS = Task("multilabel", 2, "binary_cross_entropy_with_logits")
REGRESSION = Task("regression", 2, "mean_squared_error", units=UNITS).with_limits_of(NUMBERS)
P2, PK = np.column_stack([1 - P3[:, 1], P3[:, 1]]), P3[:, :2]
YK = (PK > 0.4).astype(float)
CLOSE = UNITS.transform(NUMBERS + RNG.normal(0, 5, (N, 2)), np.float64)
CASES = {  # task, y and p as an objective reads them, and y and p as scikit-learn does
    "binary": (BINARY, (Y3 == 1).astype(int), P2),
    "multiclass": (CLASSES, Y3, P3),
    "multilabel": (LABELS, YK, PK),
    "regression": (REGRESSION, UNITS.transform(NUMBERS, np.float64), CLOSE),
}
NAMES = {"mse": "mean_squared_error", "rmse": "root_mean_squared_error", "mae": "mean_absolute_error"}


def wanted(kind, name, w):
    """Return scikit-learn's value."""
    _, y, p = CASES[kind]
    more = {"sample_weight": w}
    if kind == "regression":
        y, p = NUMBERS, np.clip(UNITS.inverse(p), NUMBERS.min(axis=0), NUMBERS.max(axis=0))
        return getattr(oracle, NAMES.get(name, f"{name}_score"))(y, p, **more)
    if name == "roc_auc":
        return oracle.roc_auc_score(y, p[:, 1] if kind == "binary" else p, multi_class="ovr", **more)
    if name == "log_loss" and kind == "multilabel":
        return np.mean([oracle.log_loss(y[:, k], p[:, k], **more) for k in (0, 1)])
    if name == "log_loss":
        return oracle.log_loss(y, p, **more)
    decided = (p > 0.5).astype(float) if kind == "multilabel" else p.argmax(axis=1)
    macro = name.removesuffix("_macro")
    if macro != name:
        more |= {"average": "macro", "zero_division": 0}
    return getattr(oracle, f"{macro}_score")(y, decided, **more)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in CASES for name in TASK_METRICS[kind]])
def test_score_is_scikit_learns(kind, name, weighted):
    (task, y, p), w = CASES[kind], W if weighted else None
    found = Objective.of(name, task)
    if name == "top_k_accuracy":
        with pytest.raises(DataError, match="k is 5 and there are 3 classes"):
            found.score(y, p, w)
        return
    value = wanted(kind, name, w)
    assert found.score(y, p, w) == pytest.approx(value, rel=1e-10)
    lower = name in ("mse", "rmse", "mae", "log_loss")
    assert found.error(y, p, w) == pytest.approx(value if lower else 1 - value, rel=1e-9, abs=1e-12)
    assert found.reported()[0] == name and len({*found.reported()}) == len(found.reported())


@pytest.mark.parametrize("kind", CASES)
def test_without_a_metric_it_is_the_loss(kind):
    task, y, p = CASES[kind]
    found = Objective(task)
    if kind == "regression":
        assert found.error(y, p, W) == pytest.approx(
            np.sqrt(np.average(((p - y) ** 2).mean(axis=1), weights=W)), rel=1e-12
        )
        assert found.loss(y, p, W) == pytest.approx(found.error(y, p, W) ** 2, rel=1e-12)
    else:
        assert found.error(y, p, W) == pytest.approx(wanted(kind, "log_loss", W), rel=1e-6)
    assert found.score(y, p, W) == found.error(y, p, W) and found.reported() == ()


def test_names_ignore_case_and_auc_is_roc_auc():
    for given in ("auc", " AUC", "roc_auc", metrics.roc_auc, Criterion(metrics.roc_auc, True)):
        assert Objective.of(given, BINARY).name == "roc_auc"
    assert Objective.of(None, BINARY).criterion is None
    for objective in (Objective.of("auc", BINARY), Objective.of(None, BINARY)):
        assert objective.reported(["auc", "accuracy"]) == ("roc_auc", "accuracy")


def test_a_function_of_the_caller_gets_labels_and_probabilities():
    seen = []

    def own(y, prediction):
        seen.append((y, prediction))
        return np.float64(3.0)

    for reads, (task, y, p) in (
        (False, CASES["binary"]),
        (True, CASES["binary"]),
        (True, CASES["multiclass"]),
    ):
        found = Objective.of(Criterion(own, True, reads), task)
        assert found.score(y, p, W) == 3 and found.error(y, p) == -3 and found.reported() == ()
    (labels, decided), (_, of_second), (letters, of_all) = seen[::2]
    np.testing.assert_array_equal(labels, np.array(["no", "yes"])[(Y3 == 1).astype(int)])
    np.testing.assert_array_equal(decided, np.array(["no", "yes"])[P2.argmax(axis=1)])
    np.testing.assert_array_equal(of_second, P2[:, 1])
    np.testing.assert_array_equal(of_all, P3)
    assert {*letters} == {"a", "b", "c"}
    Objective.of(Criterion(own, False), REGRESSION).score(*CASES["regression"][1:])
    np.testing.assert_allclose(seen[-1][0], NUMBERS, rtol=1e-12)
    assert Objective.of(Criterion(own, False), REGRESSION).error(*CASES["regression"][1:]) == 3


REFUSED = {
    "unknown": ("acuracy", BINARY, "no metric is called 'acuracy'; did you mean 'accuracy'"),
    "of numbers": ("rmse", BINARY, "metric 'rmse' does not fit a binary task; choose from accuracy"),
    "of classes": ("auc", REGRESSION, "metric 'roc_auc' does not fit a regression task; choose from rmse"),
    "without direction": (max, BINARY, "metric is the function 'max'; nothing says whether its lower"),
    "another direction": (Criterion(metrics.rmse, True), REGRESSION, "higher values of rmse are not"),
    "no metric": (7, BINARY, "metric must be an object such as .*, or a name, not 7"),
    "probabilities of numbers": (
        Criterion(max, True, True), REGRESSION, "metric 'max' reads probabilities, and a regression predicts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_metric_that_cannot_decide_is_refused(case):
    metric, task, message = REFUSED[case]
    with pytest.raises(ConfigurationError, match=message):
        Objective.of(metric, task)


def test_criterion_needs_a_function_and_a_direction():
    with pytest.raises(ConfigurationError, match="a Criterion needs a function"):
        Criterion("auc", True)
    with pytest.raises(
        ConfigurationError, match="higher_is_better of a Criterion must be True or False, not 1"
    ):
        Criterion(max, 1)


def test_fold_that_does_not_define_the_metric_is_named():
    folds, y = np.arange(6) % 2, np.array([0, 1, 0, 1, 0, 1])
    with pytest.raises(
        DataError, match="fold 1 of 2 holds 3 rows, which do not define roc_auc: roc_auc needs"
    ):
        Objective.of("auc", BINARY).require_defined(y, folds)
    Objective.of("auc", BINARY).require_defined(y, np.arange(6) // 3)
    Objective.of("accuracy", BINARY).require_defined(y, folds)
    with pytest.raises(
        DataError, match="fold 2 of 2 holds 1 row, which do not define r2: metric 'r2' is nan"
    ):
        Objective.of("r2", REGRESSION).require_defined(CLOSE[:3], np.array([0, 0, 1]))


@pytest.mark.parametrize("value", [np.nan, np.inf, "good", None, True])
def test_value_that_is_no_finite_number_is_refused(value):
    with pytest.raises((DataError, ConfigurationError), match=r"metric '<lambda>' (is|returned) "):
        Objective.of(Criterion(lambda y, p: value, True), BINARY).score(*CASES["binary"][1:])


def test_the_only_class_is_certain():
    task, y, p = (
        Task("multiclass", 1, "softmax_cross_entropy", labels=LabelMap(("a",))),
        np.zeros(4),
        np.ones((4, 1)),
    )
    assert Objective(task).error(y, p) == Objective.of("log_loss", task).error(y, p) == 0
    assert Objective.of("accuracy", task).score(y, p) == 1
    with pytest.raises(DataError, match="y has none of class 1"):
        Objective.of("auc", task).score(y, p)
