"""Checks of targets on the host, before anything moves to a device.

Why before: an index out of range raises on NumPy and wraps around silently on CuPy, and −1 is the last class on both.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.arrays.boundary import require_finite
from ffnn_gpu.errors import DataError, ShapeError


def class_indices(y: np.ndarray, C: int) -> np.ndarray:
    """y (B,) as int32 class indices in [0, C); integral floats are accepted. Raises DataError."""
    _require_no_strings(y, f"class indices 0 to {C - 1}")
    if y.dtype.kind not in "iuf":
        raise DataError(f"y has dtype {y.dtype}; class indices are whole numbers from 0 to {C - 1}")
    if y.dtype.kind == "f":
        require_finite(np, y, "y")
        if (y != np.floor(y)).any():
            i = int(np.flatnonzero(y != np.floor(y))[0])
            raise DataError(f"y[{i}] is {y[i]}; class indices are whole numbers from 0 to {C - 1}")
    if len(y) and (y.min() < 0 or y.max() >= C):
        i = int(np.flatnonzero((y < 0) | (y >= C))[0])
        raise DataError(f"y[{i}] is {y[i]}; the network has {C} outputs, so classes are 0 to {C - 1}")
    return y.astype(np.int32)


def distributions(y: np.ndarray, C: int, dtype: Any) -> np.ndarray:
    """y (B, C) as target distributions: nothing negative, each row summing to 1. Raises ShapeError or DataError."""
    y = _numbers(y)
    if y.ndim != 2 or y.shape[1] != C:
        raise ShapeError(
            f"y has shape {y.shape}; the network has {C} outputs, so targets are (rows,) or (rows, {C})"
        )
    require_finite(np, y, "y")
    if (y < 0).any():
        raise DataError(f"row {int(np.argwhere(y < 0)[0][0])} of y holds a negative probability")
    sums = y.sum(axis=1, dtype=np.float64)
    wrong = np.flatnonzero(abs(sums - 1) > 1e-3 if y.dtype.itemsize < 4 else abs(sums - 1) > 1e-5)
    if len(wrong):
        raise DataError(f"row {wrong[0]} of y sums to {sums[wrong[0]]:.6g}; a target distribution sums to 1")
    return y.astype(dtype)


def columns_like(y: Any, O: int, dtype: Any) -> np.ndarray:
    """y as (B, O) numbers; (B,) is read as (B, 1) only for one output. Raises ShapeError or DataError."""
    y = _numbers(np.asarray(y))
    if y.ndim == 1 and O == 1:
        y = y.reshape(-1, 1)
    if y.ndim != 2 or y.shape[1] != O:
        raise ShapeError(f"y has shape {y.shape}; the network has {O} outputs, so y must be (rows, {O})")
    require_finite(np, y, "y", dtype)
    return y.astype(dtype, copy=False)


def weights(w: Any, rows: int, dtype: Any) -> Any:
    """w as (rows,) weights, none negative, all finite in `dtype`. Raises ShapeError or DataError."""
    if w.shape != (rows,):
        raise ShapeError(f"sample_weight has shape {w.shape}; there are {rows} rows, so it must be ({rows},)")
    if isinstance(w, np.ndarray):
        if w.dtype.kind not in "iufb":
            raise DataError(f"sample_weight has dtype {w.dtype}; weights are real numbers")
        require_finite(np, w, "sample_weight", dtype)
        if (w < 0).any():
            i = int(np.flatnonzero(w < 0)[0])
            raise DataError(f"sample_weight[{i}] is {w[i]}; weights are at least 0")
    return w


def nonnegative(y: np.ndarray) -> None:
    """Counts. Raises DataError."""
    if (y < 0).any():
        raise DataError(f"y holds {y.min()}; the poisson loss reads counts, at least 0")


def unit_interval(y: np.ndarray) -> None:
    """Probabilities. Raises DataError."""
    if len(y) and (y.min() < 0 or y.max() > 1):
        raise DataError(
            f"y ranges from {y.min()} to {y.max()}; binary cross-entropy reads targets from 0 to 1"
        )


def in_set(*allowed: float) -> Callable[[np.ndarray], None]:
    """A check that y holds nothing but `allowed`."""

    def check(y: np.ndarray) -> None:
        stray = ~np.isin(y, allowed)
        if stray.any():
            raise DataError(f"y holds {y[stray][0]}; this loss reads targets from {allowed}")

    return check


def _require_no_strings(y: np.ndarray, wanted: str = "numbers") -> None:
    first = y.flat[0] if y.size else None
    if isinstance(first, (str, bytes)):
        raise DataError(
            f"y holds strings such as {str(first)!r}; fit and this loss take {wanted}. "
            "Encode class labels first: classes, y = numpy.unique(y, return_inverse=True). "
            "Strings as labels are what estimators such as MLPClassifier take"
        )


def _numbers(y: np.ndarray) -> np.ndarray:
    _require_no_strings(y)
    if y.dtype.kind not in "iufb":
        raise DataError(f"y has dtype {y.dtype}; targets are real numbers")
    return y
