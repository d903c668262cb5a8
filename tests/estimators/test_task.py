import json
import math

import numpy as np
import pytest

from ffnn_gpu import Network
from ffnn_gpu.errors import CheckpointError, ConfigurationError, DataError
from ffnn_gpu.estimators.task import DEFAULT_METRICS, TASK_LOSSES, TASK_METRICS, Task
from ffnn_gpu.evaluation.evaluate import metric_name
from ffnn_gpu.evaluation.metrics import METRICS
from ffnn_gpu.nn.losses import standard as losses

SPECIES = np.array(["setosa", "virginica", "setosa", "versicolor"])
YES_NO = np.array(["no", "yes", "yes", "no"])
TAGS = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 1]])
PRICES = np.array([100.0, 200.5, 300.0, 400.0])
ALL = {"multiclass": SPECIES, "binary": YES_NO, "multilabel": TAGS, "regression": PRICES}
OUTPUTS = {"multiclass": 3, "binary": 1, "multilabel": 3, "regression": 1}


@pytest.mark.parametrize("kind", ALL)
def test_task_is_inferred_with_its_outputs_and_loss(kind):
    task = Task.of(ALL[kind])
    assert (task.kind, task.outputs, task.loss_name) == (kind, OUTPUTS[kind], TASK_LOSSES[kind][0])
    assert task.loss is losses.get_loss(task.loss_name)
    assert task.metrics() == [METRICS[name] for name in DEFAULT_METRICS[kind]]


@pytest.mark.parametrize("kind", ALL)
def test_every_name_offered_exists(kind):
    assert {*TASK_METRICS[kind]} <= {*METRICS} and {*TASK_LOSSES[kind]} <= {*losses.LOSSES}


@pytest.mark.parametrize("kind", ALL)
def test_saved_task_comes_back(kind):
    task = Task.of(ALL[kind]).with_units_of(ALL[kind])
    again = Task.from_json(json.loads(json.dumps(task.to_json())))
    assert again.to_json() == task.to_json() and str(again) == str(task)


@pytest.mark.parametrize(
    "saved", [{}, {"kind": "binary"}, {**Task.of(PRICES).to_json(), "loss_name": "hinge"}]
)
def test_malformed_saved_task_is_refused(saved):
    with pytest.raises(CheckpointError, match="not a saved task"):
        Task.from_json(saved)


def test_decoding_confident_outputs_gives_the_targets_back():
    np.testing.assert_array_equal(Task.of(SPECIES).decode(9.0 * np.eye(3)[[0, 2, 0, 1]]), SPECIES)
    np.testing.assert_array_equal(Task.of(YES_NO).decode(np.array([[-9.0], [9], [9], [-9]])), YES_NO)
    np.testing.assert_array_equal(Task.of(TAGS).decode(18.0 * TAGS - 9), TAGS)
    task = Task.of(PRICES).with_units_of(PRICES)
    np.testing.assert_allclose(task.decode(task.encode(PRICES)), PRICES)
    pairs = np.stack([PRICES, -PRICES], axis=1)
    task = Task.of(pairs).with_units_of(pairs)
    np.testing.assert_allclose(task.decode(task.encode(pairs)), pairs)


@pytest.mark.parametrize(
    ("kind", "loss"), [(kind, loss) for kind, names in TASK_LOSSES.items() for loss in names]
)
def test_probabilities_lie_between_0_and_1_and_sum_to_1_over_classes(kind, loss):
    task = Task.of(ALL[kind], kind, loss)
    if kind == "regression":
        with pytest.raises(ConfigurationError, match="has no probabilities"):
            task.probabilities(np.zeros((2, 1)))
        return
    outputs = np.full((2, task.outputs), 1 / task.outputs if loss == "cross_entropy" else 0.3)
    p = task.probabilities(outputs)
    assert p.shape == (2, len(task.columns)) and (p > 0).all() and (p < 1).all()
    if kind != "multilabel":
        np.testing.assert_allclose(p.sum(axis=1), 1)


def softmax(z):
    return [[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in z.tolist()]


@pytest.mark.parametrize(
    ("kind", "loss"),
    [(kind, loss) for kind, names in TASK_LOSSES.items() if kind != "regression" for loss in names],
)
def test_probabilities_equal_their_formula(kind, loss):
    """A network that ends with a sigmoid or softmax returns probabilities; others return logits."""
    task, rng = Task.of(ALL[kind], kind, loss), np.random.default_rng(0)
    z = rng.normal(0, 2, (5, task.outputs))
    if kind == "multiclass":
        p = np.array(softmax(z))
    else:
        p = np.array([[1 / (1 + math.exp(-v)) for v in row] for row in z])
    logits = loss in ("softmax_cross_entropy", "binary_cross_entropy_with_logits")
    want = np.hstack([1 - p, p]) if kind == "binary" else p
    np.testing.assert_allclose(task.probabilities(z if logits else p), want, rtol=1e-13)


@pytest.mark.parametrize(
    ("kind", "loss"),
    [(kind, loss) for kind, names in TASK_LOSSES.items() if kind != "regression" for loss in names],
)
def test_probabilities_of_the_tasks_network_equal_those_of_its_logits(kind, loss):
    """The head of the task is what its probabilities expect."""
    task = Task.of(ALL[kind], kind, loss)
    network = Network(4, task.head, "numpy", "float64", seed=1)
    x = np.random.default_rng(0).normal(size=(6, 4))
    z = x @ network.params.to_host()["0.W"] + network.params.to_host()["0.b"]
    p = np.array(softmax(z)) if kind == "multiclass" else 1 / (1 + np.exp(-z))
    want = np.hstack([1 - p, p]) if kind == "binary" else p
    np.testing.assert_allclose(task.probabilities(network.predict(x)), want, rtol=1e-12)


def test_metrics_of_a_regression_are_in_the_targets_units():
    task = Task.of(PRICES).with_units_of(PRICES)
    rmse = task.metrics(["rmse"])[0]
    assert rmse.__name__ == "rmse"
    assert rmse(task.encode(PRICES), task.encode(PRICES + 7)) == pytest.approx(7)


def test_metrics_are_found_by_short_names_and_in_any_case():
    task = Task.of(YES_NO)
    assert task.metrics(["AUC", "Accuracy"]) == [METRICS["roc_auc"], METRICS["accuracy"]]
    with pytest.raises(ConfigurationError, match="metric 'auc' does not fit a regression task; choose from"):
        Task.of(PRICES).metrics("auc")


@pytest.mark.parametrize(
    ("y", "kind", "loss", "complaint"),
    [
        (
            SPECIES,
            "auto",
            "hinge",
            "loss 'hinge' does not fit a multiclass task; choose softmax_cross_entropy or cross_entropy",
        ),
        (
            PRICES,
            "auto",
            "softmax_cross_entropy",
            "does not fit a regression task; choose mean_squared_error or",
        ),
        (PRICES, "auto", "nonsense", "no loss is called 'nonsense'"),
        (SPECIES, "regression", "auto", "needs numbers; the target holds values such as 'setosa'"),
        (SPECIES, "binary", "auto", "a binary task needs 2 classes; the target has 3"),
        (
            TAGS,
            "multiclass",
            "auto",
            r"a multiclass task needs one target column; the target has shape \(4, 3\)",
        ),
        (PRICES, "multilabel", "auto", "a multilabel task needs 0 and 1 in columns"),
    ],
)
def test_task_or_loss_that_does_not_fit_the_target_is_named(y, kind, loss, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        Task.of(y, kind, loss)


def test_loss_of_a_task_may_be_given_by_its_short_name():
    assert Task.of(PRICES, loss="MAE") == Task.of(PRICES, loss="mean_absolute_error")


def test_label_smoothing_needs_softmax_cross_entropy():
    assert Task.of(SPECIES, label_smoothing=0.1).loss.label_smoothing == 0.1
    with pytest.raises(ConfigurationError, match="label_smoothing needs the loss softmax_cross_entropy"):
        Task.of(PRICES, label_smoothing=0.1)


def test_metric_that_does_not_fit_is_named():
    with pytest.raises(
        ConfigurationError, match="metric 'r2' does not fit a binary task; choose from accuracy, "
    ):
        Task.of(YES_NO).metrics(["r2"])
    with pytest.raises(ConfigurationError, match="no metric is called 'acuracy'; did you mean 'accuracy'"):
        Task.of(YES_NO).metrics(["acuracy"])


def test_unknown_label_is_named():
    with pytest.raises(DataError, match="label 'rosa' at row 1 is not a known class"):
        Task.of(SPECIES).encode(np.array(["setosa", "rosa"]))


def test_task_reads_as_a_sentence():
    assert str(Task.of(SPECIES)) == "multiclass classification, softmax_cross_entropy on 3 outputs"
    assert str(Task.of(PRICES)) == "regression, mean_squared_error on 1 output"


def test_metrics_of_a_regression_are_those_of_its_answers_within_the_limits():
    y, outputs = np.array([1.0, 2.0, 3.0, 10.0]), np.array([[-5.0], [0.0], [0.3], [9.0]])
    task = Task.of(y, "regression").with_units_of(y).with_limits_of(y)
    answers = task.decode(outputs)
    assert answers.min() == 1 and answers.max() == 10
    for metric in task.metrics(("rmse", "mae", "r2", "mse")):
        expected = METRICS[metric_name(metric)](y, answers)
        assert metric(task.encode(y), outputs) == pytest.approx(expected, rel=1e-12)


def test_answers_of_a_regression_stay_within_the_limits_of_their_own_output():
    y = np.array([[1.0, -300.0], [2.0, -100.0], [4.0, -200.0]])
    task = Task.of(y, "regression").with_units_of(y).with_limits_of(y)
    np.testing.assert_array_equal(task.decode(np.array([[-9.0, 9.0], [9.0, -9.0]])), [[1, -100], [4, -300]])


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize("on_probabilities", [False, True])
def test_likeliest_column_of_the_probabilities_is_the_answer(kind, on_probabilities):
    task = Task.of(ALL[kind], loss=TASK_LOSSES[kind][on_probabilities])
    outputs = np.random.default_rng(0).uniform(0.05, 0.95, (40, task.outputs))
    if task.outputs > 1:
        outputs /= outputs.sum(axis=1, keepdims=True)
    outputs = outputs if on_probabilities else np.log(outputs / (1 - outputs) ** (task.outputs == 1))
    found, answers = task.probabilities(outputs), task.decode(outputs)
    assert {*answers} == {*task.labels.classes}
    np.testing.assert_array_equal(np.array(task.columns)[found.argmax(axis=1)], answers)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
