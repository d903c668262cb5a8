"""Compute metrics of predictions on host arrays in float64, with scikit-learn's definitions.

Why not scikit-learn itself: it takes almost a second to import and is optional; the tests compare every
function with it. Metrics of labels accept class labels of one kind, (n,), or 0/1 indicators (n, L) for
multilabel targets. A column (n, 1) is treated as (n,).
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.precision import is_floating, underflow_is_zero
from ffnn_gpu.checks import look_up, require_positive_int
from ffnn_gpu.errors import DataError, ShapeError

__all__ = [
    "accuracy", "balanced_accuracy", "confusion_matrix", "f1_macro", "get_metric", "get_metrics", "log_loss",
    "mae", "mse", "precision_macro", "r2", "recall_macro", "rmse", "roc_auc", "top_k_accuracy",
]  # fmt: skip

OF_ROUNDING = 0.01  # by which a probability may exceed 1: a mean in bfloat16 is wrong by 2⁻⁸

Metric = Callable[..., float]  # (y, prediction), for the metrics here also sample_weight
Weights = ArrayLike | None  # (n,) at least 0, not all 0; None if all rows weigh the same
Metrics = str | Metric | Iterable[str | Metric]


def accuracy(y: ArrayLike, prediction: ArrayLike, sample_weight: Weights = None) -> float:
    """Fraction of rows predicted correctly; a multilabel row (n, L) is correct if all its labels are."""
    y, prediction = _labels(y, prediction)
    right = y == prediction
    return float(np.average(right if y.ndim == 1 else right.all(axis=1), weights=_weights(sample_weight, y)))


def balanced_accuracy(y: ArrayLike, prediction: ArrayLike, sample_weight: Weights = None) -> float:
    """Mean recall of the classes that occur in y (n,)."""
    counts = confusion_matrix(y, prediction, sample_weight)
    actual = counts.sum(axis=1)
    present = actual > 0
    return float(np.mean(np.diag(counts)[present] / actual[present]))


def precision_macro(y: ArrayLike, prediction: ArrayLike, sample_weight: Weights = None) -> float:
    """Mean over the classes of  TP / (TP + FP),  0 for a class never predicted."""
    right, predicted, _ = _class_counts(y, prediction, sample_weight)
    return float(np.mean(_ratio(right, predicted)))


def recall_macro(y: ArrayLike, prediction: ArrayLike, sample_weight: Weights = None) -> float:
    """Mean over the classes of  TP / (TP + FN),  0 for a class that is not in y."""
    right, _, actual = _class_counts(y, prediction, sample_weight)
    return float(np.mean(_ratio(right, actual)))


def f1_macro(y: ArrayLike, prediction: ArrayLike, sample_weight: Weights = None) -> float:
    """Mean over the classes of  2 TP / (2 TP + FP + FN),  0 for a label neither predicted nor in y."""
    right, predicted, actual = _class_counts(y, prediction, sample_weight)
    return float(np.mean(_ratio(2 * right, predicted + actual)))


def confusion_matrix(y: ArrayLike, prediction: ArrayLike, sample_weight: Weights = None) -> NDArray[Any]:
    """Counts (C, C): row = true class, column = predicted class, over the sorted labels of both.

    With weights, each count is the sum of the weights of its rows, in float64.
    """
    y, prediction = _labels(y, prediction)
    if y.ndim != 1:
        raise ShapeError(f"a confusion matrix needs labels (n,); y has shape {y.shape}")
    classes, index = np.unique(np.concatenate([y, prediction]), return_inverse=True)
    C = len(classes)
    cell = index[: len(y)] * C + index[len(y) :]  # true · C + predicted
    return np.bincount(cell, _weights(sample_weight, y), minlength=C * C).reshape(C, C)


@underflow_is_zero
@np.errstate(over="ignore")
def mse(y: ArrayLike, prediction: ArrayLike, sample_weight: Weights = None) -> float:
    """(1/n) Σ (y − ŷ)²,  mean over all elements; infinite if float64 cannot hold it."""
    y, prediction = _numbers(y, prediction)
    return float(np.mean(_mean((y - prediction) ** 2, sample_weight)))


@underflow_is_zero
@np.errstate(over="ignore")
def rmse(y: ArrayLike, prediction: ArrayLike, sample_weight: Weights = None) -> float:
    """√( (1/n) Σ (y − ŷ)² )  of each output, then the mean over the outputs."""
    y, prediction = _numbers(y, prediction)
    error, unit = _in_units_of(y - prediction)
    return float(np.mean(np.sqrt(_mean(error**2, sample_weight)) * unit))


@underflow_is_zero
@np.errstate(over="ignore")
def mae(y: ArrayLike, prediction: ArrayLike, sample_weight: Weights = None) -> float:
    """(1/n) Σ |y − ŷ|,  mean over all elements."""
    y, prediction = _numbers(y, prediction)
    error, unit = _in_units_of(np.abs(y - prediction))
    return float(np.mean(_mean(error, sample_weight) * unit))


@underflow_is_zero
@np.errstate(over="ignore")
def r2(y: ArrayLike, prediction: ArrayLike, sample_weight: Weights = None) -> float:
    """1 − Σ (y − ŷ)² / Σ (y − ȳ)²  of each output, then the mean over the outputs.

    A constant output counts 1 when predicted exactly and 0 otherwise; a single row has no R² and gives NaN.
    """
    y, prediction = _numbers(y, prediction)
    if len(y) < 2:
        return float("nan")
    y, unit = _in_units_of(y)
    prediction = prediction / unit
    residual = _mean((y - prediction) ** 2, sample_weight)
    total = _mean((y - _mean(y, sample_weight)) ** 2, sample_weight)
    counted = y if sample_weight is None else y[np.asarray(sample_weight) > 0]
    varies = (total > 0) & (counted != counted[0]).any(axis=0)  # the mean of equal numbers may be rounded
    score = 1 - residual / np.where(varies, total, 1)
    return float(np.mean(np.where(varies | np.isnan(score), score, residual == 0)))


def top_k_accuracy(y: ArrayLike, scores: ArrayLike, k: int = 5, sample_weight: Weights = None) -> float:
    """Fraction of rows whose true class is among the k highest scores; of equal ones the later ranks higher.

    Args:
        y: (n,) class indices in [0, C).
        scores: (n, C), any increasing function of the probabilities.

    Raises DataError if k ≥ C, because all scores would then be right.
    """
    require_positive_int("k", k)
    y, scores = _of_classes(y, scores)
    C = scores.shape[1]
    if k >= C:
        raise DataError(
            f"k is {k} and there are {C} classes, so any scores are right; use k below {C}, such as "
            "functools.partial(top_k_accuracy, k=1), or another metric"
        )
    own = np.take_along_axis(scores, y[:, None], axis=1)
    later = np.arange(C) > y[:, None]
    ahead = np.sum((scores > own) | ((scores == own) & later), axis=1)
    return float(np.average(ahead < k, weights=_weights(sample_weight, y)))


@underflow_is_zero
def log_loss(y: ArrayLike, p: ArrayLike, sample_weight: Weights = None) -> float:
    """−(1/n) Σ_b log p_b[y_b],  the mean of minus the logarithm of the probability of the true class.

    Args:
        y: (n,) class indices in [0, C), or 0/1 (n, L), of which the mean over columns is taken.
        p: (n, C) probabilities; of one column (n,) or several (n, L), those of 1. One that is 0 counts as
            the distance from 1 to the next number of its type.

    Raises DataError if p is not between 0 and 1, apart from rounding.
    """
    y, p = np.asarray(y), np.asarray(p)
    if _is_of_classes(y, p):
        y, p = _of_classes(y, p)
        right = p[np.arange(len(p)), y]
    else:
        y, p = _aligned(y, p)
        _check_scores(p)
        if not ((y == 0) | (y == 1)).all():
            raise DataError(f"y must hold 0 and 1; it ranges from {y.min()} to {y.max()}")
        right = np.where(y == 1, p, 1 - p)
    if p.min() < 0 or p.max() > 1 + OF_ROUNDING:
        raise DataError(
            f"p ranges from {p.min()} to {p.max()}; log_loss reads probabilities from 0 to 1, such as those "
            "of a network with a cross-entropy as its loss"
        )
    floor = np.finfo(p.dtype if p.dtype.kind == "f" else np.float64).eps
    return float(np.mean(_mean(-np.log(np.maximum(right, floor)), sample_weight)))


def roc_auc(y: ArrayLike, score: ArrayLike, sample_weight: Weights = None) -> float:
    """Probability that a positive row scores higher than a negative one, ties counting half.

        Σ_s p_s (N_s + n_s / 2) / (Σ p_s · Σ n_s)

    p_s and n_s are the weights of the positive and the negative rows with score s, N_s of the negative rows
    with a lower one.

    Args:
        y: (n,) of two values, the larger positive, with scores (n,). Class indices (n,) with probabilities
            (n, C): the mean over the classes of each against the rest. Labels (n, L): the mean over columns.

    Reference: Fawcett: An introduction to ROC analysis, Pattern Recognition Letters 27 (2006), section 7.
    """
    y, score = np.asarray(y), np.asarray(score)
    if _is_of_classes(y, score):
        return _auc_of_classes(*_of_classes(y, score), sample_weight)
    y, score = _aligned(y, score)
    if y.ndim == 2:
        columns = zip(y.T, score.T, strict=True)
        return float(np.mean([roc_auc(*column, sample_weight) for column in columns]))
    _check_scores(score)
    w = _weights(sample_weight, y)
    w = w if w is None else w / w.max()  # the products of tiny ones would be 0
    classes = np.unique(y if w is None else y[w > 0])
    if len(classes) != 2:
        raise DataError(f"roc_auc needs two classes; y has {len(classes)}, starting with {classes[0]}")
    is_positive = y == classes[1]
    _, place = np.unique(score, return_inverse=True)
    n = int(place.max()) + 1
    positive, negative = (
        np.bincount(place[rows], None if w is None else w[rows], minlength=n)
        for rows in (is_positive, ~is_positive)
    )
    below = np.cumsum(negative) - negative
    pairs = float((positive * (2 * below + negative)).sum()) / 2
    return pairs / (float(positive.sum()) * float(negative.sum()))


def _auc_of_classes(y: HostArray, p: HostArray, sample_weight: Weights) -> float:
    """Return the mean of the areas of each class against the rest. Raises DataError if y lacks a class."""
    w, C = _weights(sample_weight, y), p.shape[1]
    lacking = np.setdiff1d(np.arange(C), y if w is None else y[w > 0])
    if len(lacking):
        raise DataError(f"roc_auc of {C} classes needs rows of each; y has none of class {lacking[0]}")
    return float(np.mean([roc_auc(y == k, p[:, k], w) for k in range(C)]))


METRICS: dict[str, Metric] = {
    "accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "precision_macro": precision_macro,
    "recall_macro": recall_macro, "f1_macro": f1_macro, "mse": mse, "rmse": rmse, "mae": mae, "r2": r2,
    "top_k_accuracy": top_k_accuracy, "roc_auc": roc_auc, "log_loss": log_loss,
}  # fmt: skip
SHORT_NAMES = {"auc": "roc_auc"}  # names that are accepted too
# The others read predicted labels or values.
READ_SCORES = frozenset({"top_k_accuracy", "roc_auc", "log_loss"})
LOWER_IS_BETTER = frozenset({"mse", "rmse", "mae", "log_loss"})  # of the others, a higher value is better


def get_metric(name_or_callable: str | Metric) -> Metric:
    """Return the metric of this name, or the callable itself. Raises ConfigurationError."""
    if callable(name_or_callable):
        return name_or_callable
    known = METRICS | {short: METRICS[name] for short, name in SHORT_NAMES.items()}
    return look_up("metric", name_or_callable, known, "metrics.accuracy")


def full_name(name: str) -> str:
    """Return the name of the metric that is called so: roc_auc for "AUC". Raises ConfigurationError."""
    return get_metric(name).__name__


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


def _is_of_classes(y: HostArray, scores: HostArray) -> bool:
    """Return whether these are class indices (n,) or (n, 1), with a column of scores for each class."""
    return y.shape[1:] in ((), (1,)) and scores.ndim == 2 and scores.shape[1] > 1


def _of_classes(y: ArrayLike, scores: ArrayLike) -> tuple[HostArray, HostArray]:
    """Return class indices (n,) and scores (n, C) as arrays, n > 0. Raises ShapeError or DataError."""
    y, scores = np.asarray(y).ravel(), np.asarray(scores)
    if scores.ndim != 2 or len(scores) != len(y):
        raise ShapeError(f"y has {len(y)} rows; scores have shape {scores.shape}; they must be (n, classes)")
    if len(y) == 0:
        raise DataError(f"scores have shape {scores.shape}: a metric of no rows is not defined")
    _check_scores(scores)
    C = scores.shape[1]
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= C:
        extent = f" from {y.min()} to {y.max()}" if y.dtype.kind in "iuf" else ""
        raise DataError(f"y must hold class indices 0 … {C - 1}; it is {y.dtype}{extent}")
    return y, scores


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


def _class_counts(y: ArrayLike, prediction: ArrayLike, sample_weight: Weights) -> tuple[HostArray, ...]:
    """Count true positives, predicted and actual rows of each class or multilabel column."""
    y, prediction = _labels(y, prediction)
    if y.ndim == 1:
        counts = confusion_matrix(y, prediction, sample_weight)
        return np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    w = _weights(sample_weight, y)
    actual, predicted = y == 1, prediction == 1
    rows = np.ones(len(y)) if w is None else w
    return tuple((rows[:, None] * found).sum(axis=0) for found in (actual & predicted, predicted, actual))


def _ratio(part: HostArray, whole: HostArray) -> HostArray:
    """Return part / whole, 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _in_units_of(values: HostArray) -> tuple[HostArray, Any]:
    """Return (values / unit, unit) with a power of 2 for each output, so that no sum of squares overflows.

    A division by a power of 2 rounds nothing.
    """
    largest = np.abs(values).max(axis=0)
    _, exponent = np.frexp(np.where(np.isfinite(largest), largest, 0.0))
    unit = np.ldexp(1.0, np.maximum(exponent - 1, -1000))
    return values / unit, unit


def _mean(values: HostArray, sample_weight: Weights) -> Any:
    """Return the weighted mean over the rows."""
    return np.average(values, axis=0, weights=_weights(sample_weight, values))


def _weights(sample_weight: Weights, y: HostArray) -> HostArray | None:
    """Return the weights as float64. Raises ShapeError or DataError."""
    if sample_weight is None:
        return None
    w = np.asarray(sample_weight, np.float64)
    if w.shape != y.shape[:1]:
        raise ShapeError(f"sample_weight has shape {w.shape}; y has {len(y)} rows")
    if not (np.isfinite(w).all() and (w >= 0).all() and w.any()):
        raise DataError("sample_weight must be finite, at least 0 and not all 0")
    return w


def _check_scores(scores: HostArray) -> None:
    if scores.dtype.kind not in "iub" and not is_floating(scores.dtype):
        raise DataError(f"scores have dtype {scores.dtype}; they must be real numbers")
    bad = np.argwhere(np.isnan(scores))
    if len(bad):
        raise DataError(f"{len(bad)} scores are NaN, the first in row {bad[0][0]}")
