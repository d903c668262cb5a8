"""Metrics agree with scikit-learn and with examples worked by hand."""

import numpy as np
import pytest

from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError
from ffnn_gpu.evaluation import metrics
from ffnn_gpu.evaluation.metrics import (
    METRICS,
    READ_SCORES,
    confusion_matrix,
    get_metric,
    log_loss,
    r2,
    roc_auc,
    top_k_accuracy,
)

OF_LABELS = ("accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "f1_macro")
OF_VALUES = ("mse", "rmse", "mae", "r2")
KINDS = ("integers", "strings", "predicted class not in y", "class never predicted")


def scikit_learn(name):
    oracle = pytest.importorskip("sklearn.metrics")
    macro = name.removesuffix("_macro")
    if macro != name:
        return lambda y, p: getattr(oracle, f"{macro}_score")(y, p, average="macro", zero_division=0)
    other_names = {
        "mse": "mean_squared_error",
        "rmse": "root_mean_squared_error",
        "mae": "mean_absolute_error",
    }
    return getattr(oracle, other_names.get(name, f"{name}_score"))


def labels(kind, seed):
    generator = np.random.default_rng(seed)
    y, prediction = generator.integers(0, 5, (2, 60))
    if kind == "predicted class not in y":
        y[y == 2] = 0
    if kind == "class never predicted":
        prediction[prediction == 1] = 3
    if kind == "multilabel":
        return generator.integers(0, 2, (2, 40, 3))
    if kind == "strings":
        return np.array(list("vwxyz"))[y], np.array(list("vwxyz"))[prediction]
    return y, prediction


@pytest.mark.parametrize("kind", [*KINDS, "multilabel"])
@pytest.mark.parametrize("name", OF_LABELS)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_label_metric_agrees_with_scikit_learn(name, kind):
    if (name, kind) == ("balanced_accuracy", "multilabel"):
        return  # not defined; the table of errors below has it
    oracle = scikit_learn(name)
    for seed in range(10):
        y, prediction = labels(kind, seed)
        assert METRICS[name](y, prediction) == pytest.approx(oracle(y, prediction), rel=1e-12)


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)])
@pytest.mark.parametrize("name", OF_VALUES)
def test_value_metric_agrees_with_scikit_learn(name, shape):
    oracle = scikit_learn(name)
    y, prediction = np.random.default_rng(1).normal(size=(2, *shape))
    prediction = y + 0.3 * prediction
    assert METRICS[name](y, prediction) == pytest.approx(oracle(y, prediction), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_confusion_matrix_agrees_with_scikit_learn(kind):
    oracle = pytest.importorskip("sklearn.metrics")
    y, prediction = labels(kind, 0)
    np.testing.assert_array_equal(confusion_matrix(y, prediction), oracle.confusion_matrix(y, prediction))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_accuracy_agrees_with_scikit_learn_ties_included(k):
    oracle = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(2)
    y, scores = generator.integers(0, 6, 200), generator.integers(0, 4, (200, 6)).astype(float)
    assert top_k_accuracy(y, scores, k) == pytest.approx(
        oracle.top_k_accuracy_score(y, scores, k=k), rel=1e-12
    )


@pytest.mark.parametrize("distinct", [2, 5, 1000])
def test_roc_auc_agrees_with_scikit_learn_ties_included(distinct):
    oracle = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(3)
    y, score = generator.integers(0, 2, (300, 2)), generator.integers(0, distinct, (300, 2)) / distinct
    assert roc_auc(y, score) == pytest.approx(oracle.roc_auc_score(y, score), rel=1e-12)
    assert roc_auc(y[:, 0], score[:, 0]) == pytest.approx(
        oracle.roc_auc_score(y[:, 0], score[:, 0]), rel=1e-12
    )


@pytest.mark.parametrize("distinct", [2, 5, 1000])
@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_probabilities_agree_with_scikit_learn_ties_included(distinct, weighted):
    oracle = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(5)
    y, p = generator.integers(0, 4, 300), generator.integers(1, distinct + 1, (300, 4)).astype(float)
    p[:9, 2] = 1e-30
    p /= p.sum(axis=1, keepdims=True)
    w = generator.integers(0, 3, 300).astype(float) if weighted else None
    area = oracle.roc_auc_score(y, p, sample_weight=w, multi_class="ovr", average="macro")
    assert roc_auc(y, p, w) == pytest.approx(area, rel=1e-12)
    assert log_loss(y, p, w) == pytest.approx(oracle.log_loss(y, p, sample_weight=w), rel=1e-12)
    for second in (p[:, 0], p[:, :1]):
        wanted = oracle.log_loss(y == 0, p[:, 0], sample_weight=w)
        assert log_loss(y == 0, second, w) == pytest.approx(wanted, rel=1e-12)
    of_labels = np.mean([oracle.log_loss(y == k, p[:, k], sample_weight=w) for k in range(4)])
    assert log_loss(np.eye(4)[y], p, w) == pytest.approx(of_labels, rel=1e-12)


def test_log_loss_of_an_impossible_class_is_finite():
    assert log_loss([1], [[1.0, 0.0]]) == pytest.approx(-np.log(np.finfo(float).eps))
    assert log_loss([0], np.array([[1.0, 0.0]], np.float32)) == 0


@pytest.fixture(params=["any", "some are 0", "tiny"])
def weights(request):
    """Return a function n → weights (n,)."""
    generator = np.random.default_rng(4)
    scale = 1e-300 if request.param == "tiny" else 1.0

    def draw(n):
        w = generator.random(n) * scale
        return np.where(np.arange(n) % 3 == 0, 0.0, w) if request.param == "some are 0" else w

    return draw


@pytest.mark.parametrize("kind", [*KINDS, "multilabel"])
@pytest.mark.parametrize("name", OF_LABELS)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_weighted_label_metric_agrees_with_scikit_learn(name, kind, weights):
    if (name, kind) == ("balanced_accuracy", "multilabel"):
        return
    oracle = pytest.importorskip("sklearn.metrics")
    macro = name.removesuffix("_macro")
    for seed in range(5):
        y, prediction = labels(kind, seed)
        w = weights(len(y))
        more = {"average": "macro", "zero_division": 0} if macro != name else {}
        expected = getattr(oracle, f"{macro}_score")(y, prediction, sample_weight=w, **more)
        assert METRICS[name](y, prediction, sample_weight=w) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)])
@pytest.mark.parametrize("name", OF_VALUES)
def test_weighted_value_metric_agrees_with_scikit_learn(name, shape, weights):
    oracle, w = scikit_learn(name), weights(50)
    y, noise = np.random.default_rng(1).normal(size=(2, *shape))
    expected = oracle(y, y + 0.3 * noise, sample_weight=w)
    assert METRICS[name](y, y + 0.3 * noise, sample_weight=w) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("distinct", [2, 5, 1000])
def test_weighted_metrics_of_scores_agree_with_scikit_learn(distinct, weights):
    oracle = pytest.importorskip("sklearn.metrics")
    generator, w = np.random.default_rng(3), weights(300)
    y, score = generator.integers(0, 2, (300, 2)), generator.integers(0, distinct, (300, 2)) / distinct
    for k in (slice(None), 0):
        expected = oracle.roc_auc_score(y[:, k], score[:, k], sample_weight=w)
        assert roc_auc(y[:, k], score[:, k], w) == pytest.approx(expected, rel=1e-12)
    y, scores = generator.integers(0, 6, 300), generator.integers(0, distinct, (300, 6)).astype(float)
    expected = oracle.top_k_accuracy_score(y, scores, k=2, sample_weight=w)
    assert top_k_accuracy(y, scores, 2, w) == pytest.approx(expected, rel=1e-12)


def test_weighted_metrics_example_worked_by_hand():
    y, prediction, w = [0, 0, 1, 1], [0, 1, 1, 0], [1, 2, 3, 4]
    assert confusion_matrix(y, prediction, w).tolist() == [[1, 2], [4, 3]]
    assert METRICS["accuracy"](y, prediction, w) == 0.4
    assert METRICS["mse"](y, [0, 3, 1, 1], w) == pytest.approx(1.8)


@pytest.mark.parametrize(
    ("w", "error"), [([1], ShapeError), ([1, -1], DataError), ([0, 0], DataError), ([1, np.nan], DataError)]
)
def test_wrong_weights_of_a_metric_are_refused(w, error):
    for name in (*OF_LABELS, *OF_VALUES):
        with pytest.raises(error, match="sample_weight"):
            METRICS[name]([0, 1], [0, 1], w)


def test_label_metrics_example_worked_by_hand():
    y, prediction = [0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 0, 0]
    assert confusion_matrix(y, prediction).tolist() == [[1, 1, 0], [1, 2, 0], [1, 0, 0]]
    expected = {
        "accuracy": 3 / 6,
        "balanced_accuracy": (1 / 2 + 2 / 3 + 0) / 3,
        "precision_macro": (1 / 3 + 2 / 3 + 0) / 3,
        "recall_macro": (1 / 2 + 2 / 3 + 0) / 3,
        "f1_macro": (2 / 5 + 4 / 6 + 0) / 3,
    }
    assert {name: METRICS[name](y, prediction) for name in OF_LABELS} == pytest.approx(expected, rel=1e-15)


def test_value_metrics_example_worked_by_hand():
    y, prediction = [1, 2, 6], [2, 2, 4]  # errors 1, 0, −2; mean of y is 3; 4 + 1 + 9 = 14
    assert {name: METRICS[name](y, prediction) for name in OF_VALUES} == pytest.approx(
        {"mse": 5 / 3, "rmse": np.sqrt(5 / 3), "mae": 1.0, "r2": 1 - 5 / 14}, rel=1e-15
    )


@pytest.mark.parametrize("unit", [2.0**1000, 2.0**-900])
@pytest.mark.parametrize("shape", [(50,), (50, 2)])
def test_value_metrics_of_huge_and_tiny_numbers_differ_by_their_unit_alone(unit, shape):
    y, noise = np.random.default_rng(1).normal(size=(2, *shape))
    w = np.random.default_rng(2).uniform(size=50)
    for name, factor in {"rmse": unit, "mae": unit, "r2": 1.0}.items():
        plain = METRICS[name](y, y + 0.3 * noise, w)
        assert METRICS[name](unit * y, unit * (y + 0.3 * noise), w) == factor * plain != 0
    if len(shape) > 1:  # each output has its own unit
        mixed = np.array([unit, 1.0])
        assert r2(mixed * y, mixed * (y + 0.3 * noise)) == r2(y, y + 0.3 * noise)
    assert METRICS["mse"](unit * y, unit * (y + noise)) == (np.inf if unit > 1 else 0)


def test_score_metrics_example_worked_by_hand():
    assert roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75  # 1 of 4 pairs is in the wrong order
    assert roc_auc(["no", "yes", "yes"], [0.5, 0.5, 0.7]) == 0.75  # one tie counts as half
    scores = [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]
    assert [top_k_accuracy([0, 0], scores, k) for k in (1, 2)] == [0.5, 0.5]
    assert top_k_accuracy([0, 1], scores, 2) == 1.0
    assert top_k_accuracy([0, 1], [[0, 1, 2, 3, 4, 5]] * 2) == 0.5  # the true classes rank 6th and 5th of 6


@pytest.mark.parametrize("name", OF_LABELS)
def test_classes_of_one_row_each_have_score_one_if_predicted_right(name):
    assert METRICS[name]([0, 1, 2], [0, 1, 2]) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("precision_macro", 1 / 2), ("recall_macro", 1 / 4), ("f1_macro", 1 / 3)]
)
def test_label_without_rows_and_predictions_has_score_zero(name, value):
    assert METRICS[name]([[1, 0], [1, 0]], [[1, 0], [0, 0]]) == pytest.approx(value, rel=1e-15)


def test_r2_does_not_depend_on_the_unit():
    for unit in (1e-9, 0.1, 1e9):
        assert r2([0, unit], [0, unit / 2]) == pytest.approx(0.5, rel=1e-12)


def test_multilabel_accuracy_counts_whole_rows():
    assert metrics.accuracy([[1, 0], [1, 1]], [[1, 0], [1, 0]]) == 0.5


def test_column_is_treated_as_a_vector():
    y = np.array([1.0, 2.0, 4.0])
    for name in OF_VALUES:
        assert METRICS[name](y[:, None], y + 1) == METRICS[name](y, y + 1)


def test_r2_of_a_constant_target_and_of_one_row():
    assert r2([2, 2], [2, 2]) == 1 and r2([2, 2], [1, 3]) == 0 and np.isnan(r2([2], [2]))
    assert r2([0.1] * 7, [0.6] * 7) == 0  # the mean of seven 0.1 is rounded
    assert r2([0.1] * 7 + [5], [0.6] * 8, [1] * 7 + [0]) == 0


def test_value_metrics_do_not_overflow_small_integers_and_propagate_nan():
    y, prediction = np.array([0, 255], np.uint8), np.array([1, 0], np.uint8)
    assert metrics.mse(y, prediction) == (1 + 255**2) / 2
    for name in OF_VALUES:
        assert np.isnan(METRICS[name]([1.0, 2.0], [np.nan, 2.0]))


@pytest.mark.parametrize("name", sorted(METRICS))
def test_metric_refuses_unequal_shapes_and_names_both(name):
    with pytest.raises(ShapeError, match=r"y has .*3.* have|y has shape \(3,\) and prediction \(2, 2\)"):
        METRICS[name]([0, 1, 1], np.zeros((2, 2)))


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"top_k_accuracy"}))
def test_metric_of_no_rows_is_refused(name):
    with pytest.raises(DataError, match=r"y has shape \(0,\): a metric of no rows is not defined"):
        METRICS[name]([], [])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: metrics.accuracy(["1"], [1]),
            DataError,
            "y is <U1; prediction is int64: strings never equal numbers",
        ),
        (
            lambda: metrics.mse(["1"], [1]),
            DataError,
            "y is <U1; prediction is int64; both must be real numbers",
        ),
        (
            lambda: metrics.mae([1], ["1"]),
            DataError,
            "y is int64; prediction is <U1; both must be real numbers",
        ),
        (lambda: metrics.mse(np.ones((2, 1, 1)), np.ones((2, 1, 1))), ShapeError, r"y has shape \(2, 1, 1\)"),
        (lambda: metrics.mse(1, 1), ShapeError, r"y has shape \(\) and prediction \(\); they must be"),
        (
            lambda: confusion_matrix(np.eye(2), np.eye(2)),
            ShapeError,
            r"needs labels \(n,\); y has shape \(2, 2\)",
        ),
        (lambda: metrics.balanced_accuracy(np.eye(3), np.eye(3)), ShapeError, r"y has shape \(3, 3\)"),
        (lambda: roc_auc([1, 1], [0, 1]), DataError, "roc_auc needs two classes; y has 1, starting with 1"),
        (lambda: roc_auc([0, 1, 2], [0, 1, 2]), DataError, "y has 3, starting with 0"),
        (lambda: roc_auc([0, 1, 1], [0, np.nan, np.nan]), DataError, "2 scores are NaN, the first in row 1"),
        (
            lambda: roc_auc([0, 1, 1], np.full((3, 3), 1 / 3)),
            DataError,
            "roc_auc of 3 classes needs rows of each; y has none of class 2",
        ),
        (lambda: roc_auc([0, 1, 2], np.full((3, 3), 1 / 3), [1, 1, 0]), DataError, "y has none of class 2"),
        (lambda: log_loss([0, 2], [0.5, 0.5]), DataError, "y must hold 0 and 1; it ranges from 0 to 2"),
        (lambda: log_loss([0, 1], [0.5, 7]), DataError, "p ranges from 0.5 to 7.0; .* from 0 to 1"),
        (lambda: log_loss([0, 1], [[1, 0], [2, -1]]), DataError, "p ranges from -1 to 2; .* from 0 to 1"),
        (lambda: log_loss(["a"], [[1, 0]]), DataError, "class indices 0 … 1; it is <U1"),
        (lambda: log_loss([0], [["1", "0"]]), DataError, "scores have dtype <U1; .* real numbers"),
        (lambda: log_loss([0, 1], [0.5j, 0]), DataError, "scores have dtype complex128"),
        (lambda: log_loss([0, 1], [[np.nan, 1], [0, 1]]), DataError, "1 scores are NaN, the first in row 0"),
        (lambda: top_k_accuracy([0], [[np.nan, 1]]), DataError, "1 scores are NaN, the first in row 0"),
        (
            lambda: top_k_accuracy([0, 1, 1], [[1, 0], [np.nan, 1], [np.nan] * 2]),
            DataError,
            "3 scores .* first in row 1",
        ),
        (
            lambda: top_k_accuracy([0, 2], np.eye(2)),
            DataError,
            "class indices 0 … 1; it is int64 from 0 to 2",
        ),
        (lambda: top_k_accuracy([0, -1], np.eye(2)), DataError, "it is int64 from -1 to 0"),
        (lambda: top_k_accuracy([0.5, 0], np.eye(2)), DataError, "it is float64"),
        (lambda: top_k_accuracy([], np.empty((0, 2))), DataError, "no rows"),
        (lambda: top_k_accuracy([0, 1], np.eye(2), k=0), ConfigurationError, "k must be a whole .*, not 0"),
        (lambda: top_k_accuracy([0, 1], np.eye(2), k=1.5), ConfigurationError, "k must be a whole .* 1.5"),
        (lambda: top_k_accuracy([0, 1], np.eye(2), k="2"), ConfigurationError, "k must be a whole .* '2'"),
        (lambda: top_k_accuracy([0, 1], np.eye(2), k=2), DataError, "k is 2 and there are 2 classes, so any"),
        (lambda: top_k_accuracy([0, 1], np.eye(2)), DataError, "k is 5 and there are 2 .* use k below 2"),
    ],
)
def test_error_of_a_metric_contains_the_numbers(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_metric_is_found_by_name_or_is_a_callable():
    assert get_metric("f1_macro") is METRICS["f1_macro"] and get_metric(max) is max
    assert get_metric("auc") is get_metric(" AUC") is roc_auc
    assert (
        all(function.__name__ == name for name, function in METRICS.items()) and set(METRICS) >= READ_SCORES
    )
    with pytest.raises(
        ConfigurationError, match=r"no metric is called 'acuracy'; did you mean 'accuracy'\? There are"
    ):
        get_metric("acuracy")
    with pytest.raises(ConfigurationError, match=r"no metric is called 'zzz'; there are accuracy, .*roc_auc"):
        get_metric("zzz")


def test_probabilities_are_accepted_with_class_indices_as_a_column_and_with_rounding_errors():
    p, y = np.array([[0.5, 0.25, 0.25], [0.0, 1 + 2**-8, 0.0], [0.0, 0.5, 0.5]]), np.array([0, 1, 2])
    assert log_loss(y[:, None], p) == log_loss(y, p) == pytest.approx(np.log(4) / 3, abs=2**-8)
    assert roc_auc(y[:, None], p) == roc_auc(y, p)
    assert log_loss([1, 0], [1 + 2**-8, 0]) == pytest.approx(0, abs=2**-8)
