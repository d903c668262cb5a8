"""Standardize features; the mean and scale are fitted on the training part and saved with the model.

Why float64 statistics in two passes: the float32 standard deviation of a constant column of 10⁴ comes out as
131.7, and a column sum in float32 errs by 1.5 % on 2·10⁶ rows (both measured). Why in blocks of rows: a
memory-mapped file is never copied whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.arrays.precision import underflow_is_zero
from ffnn_gpu.arrays.rows import Rows, blocks
from ffnn_gpu.arrays.standardized import Standardized
from ffnn_gpu.errors import DataError, ShapeError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Standardizer:
    """(x − mean) / scale, so that features have mean 0 and standard deviation 1; mean, scale (features,).

    constant: indices of the columns that did not vary in the data it was fitted on.
    """

    mean: Floats
    scale: Floats
    constant: tuple[int, ...] = ()

    @classmethod
    @np.errstate(over="ignore", invalid="ignore", under="ignore")
    def fit(cls, x: ArrayLike) -> "Standardizer":
        """Compute column means and standard deviations of x (n, features), dividing by n.

        A constant column (max = min exactly) gets its value as mean and 1 as scale: it becomes exactly 0.
        """
        rows = _matrix(x)
        n, d = rows.shape
        if n == 0:
            raise DataError(f"x has shape {rows.shape}: no rows to compute a mean of")
        low, high, mean = np.full(d, np.inf), np.full(d, -np.inf), np.zeros(d)
        for start, block in _blocks(rows):
            bad = ~np.isfinite(block)
            if bad.any():
                row, column = np.argwhere(bad)[0]
                where = f"x[{start + row}, {column}] is {block[row, column]}"
                raise DataError(f"{where}; mean and scale can only be computed from finite numbers")
            np.minimum(low, block.min(axis=0), out=low)
            np.maximum(high, block.max(axis=0), out=high)
            mean += block.sum(axis=0) / n
        mean = np.where(low == high, low, mean)
        spread = np.where(low == high, 1.0, high - low)  # unit of the squares: they cannot overflow or vanish
        variance = np.zeros_like(mean)
        for _, block in _blocks(rows):
            variance += (((block - mean) / spread) ** 2).sum(axis=0) / n
        constant = tuple(np.flatnonzero(low == high).tolist())
        scale = np.where(low == high, 1.0, spread * np.sqrt(variance))
        bad = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(scale) & (scale > 0)))
        if len(bad):
            values = f"column {bad[0]} of x has values from {low[bad[0]]:g} to {high[bad[0]]:g}"
            raise DataError(f"{values}; float64 cannot hold their mean and standard deviation. Rescale it")
        return cls(mean, scale, constant)

    @underflow_is_zero
    def transform(self, x: ArrayLike, dtype: DTypeLike = np.float32) -> HostArray:
        """Return (x − mean) / scale (n, features), computed in float64 and rounded once to dtype."""
        rows = self._checked(x)
        standardized, out = Standardized(rows, self.mean, self.scale), np.empty(rows.shape, dtype)
        for part in blocks(rows):
            out[part] = standardized[part]
        return out

    def rows(self, x: Any, limit: float | None = None) -> Standardized:
        """x (n, features), stored as it is and standardized where its rows are read.

        The values equal `transform(x, dtype)`, where dtype is float64 for a float64 network and float32
        otherwise. `fit`, `evaluate` and `predict` accept the result as X. Bytes stay bytes: on a GPU, a
        quarter of the memory of float32.

        x: numbers of any type: NumPy, memory-mapped, or an array of a device.
        limit: values are clipped to [−limit, limit].
        """
        rows = rows_of(x if hasattr(x, "shape") else np.asarray(x))
        mean, scale = np.asarray(self.mean, np.float64), np.asarray(self.scale, np.float64)
        if isinstance(rows, Standardized):
            raise DataError(f"rows of shape {rows.shape} are standardized already; pass the raw rows")
        if rows.ndim != 2 or not mean.shape == scale.shape == rows.shape[1:]:
            shapes = f"mean {mean.shape} and scale {scale.shape}"
            raise ShapeError(f"rows of shape {rows.shape} cannot be standardized by {shapes}")
        bad = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(scale) & (scale > 0)))
        if len(bad):
            what = f"column {bad[0]} has mean {mean[bad[0]]} and scale {scale[bad[0]]}"
            raise DataError(f"{what}; both must be finite, the scale above 0")
        return Standardized(rows, mean, scale, limit)

    @underflow_is_zero
    def inverse(self, x: ArrayLike) -> Floats:
        """Return x · scale + mean in float64, which undoes `transform` up to rounding."""
        return np.asarray(np.asarray(self._checked(x)) * self.scale + self.mean, dtype=np.float64)

    def to_json(self) -> dict[str, list[Any]]:
        """Return an object for `json.dumps`. `from_json` restores the same bits."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist(), "constant": [*self.constant]}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Standardizer":
        """Restore the standardizer that `to_json` wrote. Raises DataError if it is damaged."""
        try:
            mean, scale = (np.array(saved[name], dtype=np.float64) for name in ("mean", "scale"))
            constant = tuple(map(int, saved.get("constant", ())))  # absent in older models
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a saved standardizer: {type(error).__name__}: {error}") from error
        if mean.ndim != 1 or mean.shape != scale.shape:
            raise DataError(f"not a saved standardizer: mean has shape {mean.shape}, scale {scale.shape}")
        if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise DataError("not a saved standardizer: a mean is not finite or a scale is not positive")
        if not all(0 <= k < len(mean) for k in constant):
            raise DataError(f"not a saved standardizer: constant columns {constant} of {len(mean)}")
        return cls(mean, scale, constant)

    def _checked(self, x: Any) -> Rows:
        rows = _matrix(x)
        if rows.shape[1] == len(self.mean):
            return rows
        raise ShapeError(f"x has {rows.shape[1]} columns; the standardizer was fitted on {len(self.mean)}")


def _matrix(x: Any) -> Rows:
    rows = rows_of(x if isinstance(x, Rows) else np.asarray(x))
    if rows.ndim == 2:
        return rows
    raise ShapeError(f"x has shape {rows.shape}; (rows, features) is needed")


def _blocks(x: Rows) -> Iterator[tuple[int, Floats]]:
    """Yield the first row's number and a float64 copy of each block of rows."""
    return ((part.start, x[part].astype(np.float64)) for part in blocks(x))
