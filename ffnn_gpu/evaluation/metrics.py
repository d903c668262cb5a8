"""Compute metrics of predictions on host arrays in float64, with scikit-learn's definitions.

Why not scikit-learn itself: it takes almost a second to import and is optional; the tests compare every
function with it. Metrics of labels accept class labels of one kind, (n,), or 0/1 indicators (n, L) for
multilabel targets. A column (n, 1) is treated as (n,).
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.precision import underflow_is_zero
from ffnn_gpu.checks import look_up
from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError

__all__ = [
    "accuracy", "balanced_accuracy", "confusion_matrix", "f1_macro", "get_metric", "get_metrics", "mae",
    "mse", "precision_macro", "r2", "recall_macro", "rmse", "roc_auc", "top_k_accuracy",
]  # fmt: skip

Metric = Callable[[ArrayLike, ArrayLike], float]
Metrics = str | Metric | Iterable[str | Metric]


def accuracy(y: ArrayLike, prediction: ArrayLike) -> float:
    """Fraction of rows predicted correctly; a multilabel row (n, L) is correct if all its labels are."""
    y, prediction = _labels(y, prediction)
    right = y == prediction
    return float(np.mean(right if y.ndim == 1 else right.all(axis=1)))


def balanced_accuracy(y: ArrayLike, prediction: ArrayLike) -> float:
    """Mean recall of the classes that occur in y (n,)."""
    counts = confusion_matrix(y, prediction)
    actual = counts.sum(axis=1)
    present = actual > 0
    return float(np.mean(np.diag(counts)[present] / actual[present]))


def precision_macro(y: ArrayLike, prediction: ArrayLike) -> float:
    """Mean over the classes of  TP / (TP + FP),  0 for a class never predicted."""
    right, predicted, _ = _class_counts(y, prediction)
    return float(np.mean(right / np.maximum(predicted, 1)))


def recall_macro(y: ArrayLike, prediction: ArrayLike) -> float:
    """Mean over the classes of  TP / (TP + FN),  0 for a class that is not in y."""
    right, _, actual = _class_counts(y, prediction)
    return float(np.mean(right / np.maximum(actual, 1)))


def f1_macro(y: ArrayLike, prediction: ArrayLike) -> float:
    """Mean over the classes of  2 TP / (2 TP + FP + FN),  0 for a label neither predicted nor in y."""
    right, predicted, actual = _class_counts(y, prediction)
    return float(np.mean(2 * right / np.maximum(predicted + actual, 1)))


def confusion_matrix(y: ArrayLike, prediction: ArrayLike) -> NDArray[np.int64]:
    """Counts (C, C): row = true class, column = predicted class, over the sorted labels of both."""
    y, prediction = _labels(y, prediction)
    if y.ndim != 1:
        raise ShapeError(f"a confusion matrix needs labels (n,); y has shape {y.shape}")
    classes, index = np.unique(np.concatenate([y, prediction]), return_inverse=True)
    C = len(classes)
    cell = index[: len(y)] * C + index[len(y) :]  # true · C + predicted
    return np.bincount(cell, minlength=C * C).reshape(C, C)


@underflow_is_zero
def mse(y: ArrayLike, prediction: ArrayLike) -> float:
    """(1/n) Σ (y − ŷ)²,  mean over all elements."""
    y, prediction = _numbers(y, prediction)
    return float(np.mean((y - prediction) ** 2))


@underflow_is_zero
def rmse(y: ArrayLike, prediction: ArrayLike) -> float:
    """√( (1/n) Σ (y − ŷ)² )  of each output, then the mean over the outputs."""
    y, prediction = _numbers(y, prediction)
    return float(np.mean(np.sqrt(np.mean((y - prediction) ** 2, axis=0))))


@underflow_is_zero
def mae(y: ArrayLike, prediction: ArrayLike) -> float:
    """(1/n) Σ |y − ŷ|,  mean over all elements."""
    y, prediction = _numbers(y, prediction)
    return float(np.mean(np.abs(y - prediction)))


@underflow_is_zero
def r2(y: ArrayLike, prediction: ArrayLike) -> float:
    """1 − Σ (y − ŷ)² / Σ (y − ȳ)²  of each output, then the mean over the outputs.

    A constant output counts 1 when predicted exactly and 0 otherwise; a single row has no R² and gives NaN.
    """
    y, prediction = _numbers(y, prediction)
    if len(y) < 2:
        return float("nan")
    residual = np.sum((y - prediction) ** 2, axis=0)
    total = np.sum((y - np.mean(y, axis=0)) ** 2, axis=0)
    varies = total > 0
    score = 1 - residual / np.where(varies, total, 1)
    return float(np.mean(np.where(varies | np.isnan(score), score, residual == 0)))


def top_k_accuracy(y: ArrayLike, scores: ArrayLike, k: int = 5) -> float:
    """Fraction of rows whose true class is among the k highest scores; of equal ones the later ranks higher.

    Args:
        y: (n,) class indices in [0, C).
        scores: (n, C), any increasing function of the probabilities; k ≥ C gives 1.
    """
    y, scores = np.asarray(y).ravel(), np.asarray(scores)
    if k < 1:
        raise ConfigurationError(f"k is {k}; it must be at least 1")
    if scores.ndim != 2 or len(scores) != len(y):
        raise ShapeError(f"y has {len(y)} rows; scores have shape {scores.shape}; they must be (n, classes)")
    if len(y) == 0:
        raise DataError(f"scores have shape {scores.shape}: a metric of no rows is not defined")
    _check_scores(scores)
    C = scores.shape[1]
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= C:
        raise DataError(f"y must hold class indices 0 … {C - 1}; it is {y.dtype} from {y.min()} to {y.max()}")
    own = np.take_along_axis(scores, y[:, None], axis=1)
    later = np.arange(C) > y[:, None]
    ahead = np.sum((scores > own) | ((scores == own) & later), axis=1)
    return float(np.mean(ahead < k))


def roc_auc(y: ArrayLike, score: ArrayLike) -> float:
    """Probability that a positive row scores higher than a negative one, ties counting half.

        (R₊ − n₊(n₊ + 1)/2) / (n₊ n₋)        R₊ = Σ ranks of the positive rows; ties share their mean rank

    y (n,) has two values, the larger one positive. Multilabel y (n, L): the mean over its columns.

    Reference: Fawcett: An introduction to ROC analysis, Pattern Recognition Letters 27 (2006), section 7.
    """
    y, score = _aligned(y, score)
    if y.ndim == 2:
        return float(np.mean([roc_auc(y[:, label], score[:, label]) for label in range(y.shape[1])]))
    _check_scores(score)
    classes, is_positive = np.unique(y, return_inverse=True)
    if len(classes) != 2:
        raise DataError(f"roc_auc needs two classes; y has {len(classes)}, starting with {classes[0]}")
    _, place, ties = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]
    positives = int(is_positive.sum())
    rank_sum = float(ranks[is_positive == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * (len(y) - positives))


METRICS: dict[str, Metric] = {
    "accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "precision_macro": precision_macro,
    "recall_macro": recall_macro, "f1_macro": f1_macro, "mse": mse, "rmse": rmse, "mae": mae, "r2": r2,
    "top_k_accuracy": top_k_accuracy, "roc_auc": roc_auc,
}  # fmt: skip
READ_SCORES = frozenset({"top_k_accuracy", "roc_auc"})  # the others read predicted labels or values
LOWER_IS_BETTER = frozenset({"mse", "rmse", "mae"})  # of the others, a higher value is better


def get_metric(name_or_callable: str | Metric) -> Metric:
    """Return the metric of this name, or the callable itself. Raises ConfigurationError."""
    if callable(name_or_callable):
        return name_or_callable
    return look_up("metric", name_or_callable, METRICS, "metrics.accuracy")


def get_metrics(metrics: Metrics) -> tuple[Metric, ...]:
    """Return the metrics of these names or callables; one alone needs no list. Raises ConfigurationError."""
    if isinstance(metrics, str) or callable(metrics):
        return (get_metric(metrics),)
    return tuple(map(get_metric, metrics))


def _aligned(y: ArrayLike, prediction: ArrayLike) -> tuple[HostArray, HostArray]:
    """Return both as arrays of the same shape, (n,) or (n, outputs), n > 0."""
    both = map(np.asarray, (y, prediction))
    y, prediction = (a.ravel() if a.ndim == 2 and a.shape[1] == 1 else a for a in both)
    if y.shape != prediction.shape or y.ndim not in (1, 2):
        raise ShapeError(f"y has shape {y.shape} and prediction {prediction.shape}; they must be equal")
    if y.size == 0:
        raise DataError(f"y has shape {y.shape}: a metric of no rows is not defined")
    return y, prediction


def _labels(y: ArrayLike, prediction: ArrayLike) -> tuple[HostArray, HostArray]:
    y, prediction = _aligned(y, prediction)
    kinds = {"O": "object", "U": "string", "S": "string"}
    if {kinds.get(a.dtype.kind, "number") for a in (y, prediction)} >= {"string", "number"}:
        raise DataError(f"y is {y.dtype}; prediction is {prediction.dtype}: strings never equal numbers")
    return y, prediction


def _numbers(y: ArrayLike, prediction: ArrayLike) -> tuple[HostArray, HostArray]:
    y, prediction = _aligned(y, prediction)
    if y.dtype.kind not in "biuf" or prediction.dtype.kind not in "biuf":
        raise DataError(f"y is {y.dtype}; prediction is {prediction.dtype}; both must be real numbers")
    return y.astype(np.float64), prediction.astype(np.float64)


def _class_counts(y: ArrayLike, prediction: ArrayLike) -> tuple[HostArray, HostArray, HostArray]:
    """Count true positives, predicted and actual rows of each class or multilabel column."""
    y, prediction = _labels(y, prediction)
    if y.ndim == 1:
        counts = confusion_matrix(y, prediction)
        return np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    actual, predicted = y == 1, prediction == 1
    return np.sum(actual & predicted, axis=0), np.sum(predicted, axis=0), np.sum(actual, axis=0)


def _check_scores(scores: HostArray) -> None:
    bad = np.argwhere(np.isnan(scores))
    if len(bad):
        raise DataError(f"{len(bad)} scores are NaN, the first in row {bad[0][0]}")
