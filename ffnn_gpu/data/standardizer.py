"""What is fitted on the training part and saved with the model.

Why float64 statistics in two passes: the float32 standard deviation of a constant column of 10⁴ comes out as 131.7, and
a column sum in float32 errs by 1.5 % on 2·10⁶ rows (both measured). Why in blocks of rows: a memory-mapped file is
never copied whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import Standardized
from ffnn_gpu.arrays.file_rows import stays_in_files
from ffnn_gpu.errors import DataError, ShapeError

BLOCK_ELEMENTS = 1 << 20  # elements in one block of rows: 8 MiB in float64

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Features with mean 0 and standard deviation 1:  (x − mean) / scale,  mean (features,), scale (features,).

    Args:
        constant: indices of the columns that did not vary in what it was fitted on.
    """

    mean: Floats
    scale: Floats
    constant: tuple[int, ...] = ()

    @classmethod
    def fit(cls, x: ArrayLike) -> "Standardizer":
        """Column means and standard deviations of x (n, features), dividing by n.

        A constant column (max = min exactly) gets its value as mean and 1 as scale, so it becomes exactly 0.

        Raises:
            ShapeError: x is not a matrix.
            DataError: no rows, or NaN or infinity (with the first row and column).
        """
        x = _matrix(x)
        if len(x) == 0:
            raise DataError(f"x has shape {x.shape}: no row to compute a mean of")
        low, high, mean = np.full(x.shape[1], np.inf), np.full(x.shape[1], -np.inf), np.zeros(x.shape[1])
        for start, block in _blocks(x):
            _check_finite(block, start)
            np.minimum(low, block.min(axis=0), out=low)
            np.maximum(high, block.max(axis=0), out=high)
            mean += block.sum(axis=0) / len(x)
        mean = np.where(low == high, low, mean)
        spread = np.where(
            low == high, 1.0, high - low
        )  # unit of the squares: they neither overflow nor vanish
        variance = np.zeros_like(mean)
        for _, block in _blocks(x):
            variance += (((block - mean) / spread) ** 2).sum(axis=0) / len(x)
        constant = tuple(np.flatnonzero(low == high).tolist())
        return cls(mean, np.where(low == high, 1.0, spread * np.sqrt(variance)), constant)

    def transform(self, x: ArrayLike, dtype: DTypeLike = np.float32) -> HostArray:
        """(x − mean) / scale, computed in float64 and rounded once to dtype; a new array (n, features)."""
        x = self._checked(x)
        out = np.empty(x.shape, dtype)
        for start, block in _blocks(x):
            block -= self.mean  # the block is a copy
            block /= self.scale
            out[start : start + len(block)] = block
        return out

    def rows(self, x: Any) -> Standardized:
        """x (n, features), kept as it is stored and standardized where its rows are asked for.

        A network sees the bits of `transform` to float64 if it computes in that, else to float32.
        `fit`, `evaluate` and `predict` take it for X. Bytes stay bytes: on a GPU, a quarter of the memory of float32.

        Args:
            x: numbers of any type: NumPy, memory-mapped, or an array of a device.

        Raises:
            ShapeError: x has another number of columns. DataError: a mean is not finite, or a scale not finite and positive.
        """
        x = x if hasattr(x, "shape") else np.asarray(x)
        return Standardized(x, np.asarray(self.mean, np.float64), np.asarray(self.scale, np.float64))

    def inverse(self, x: ArrayLike) -> Floats:
        """x · scale + mean in float64: what `transform` was given, to rounding."""
        return np.asarray(self._checked(x) * self.scale + self.mean, dtype=np.float64)

    def to_json(self) -> dict[str, list[Any]]:
        """An object for `json.dumps`; Python writes float64 so that `from_json` gets the same bits back."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist(), "constant": [*self.constant]}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Standardizer":
        """The standardizer that `to_json` wrote; DataError if it is not one."""
        try:
            mean, scale = (
                np.array(saved["mean"], dtype=np.float64),
                np.array(saved["scale"], dtype=np.float64),
            )
            constant = tuple(map(int, saved.get("constant", ())))  # older models do not say
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a saved standardizer: {type(error).__name__}: {error}") from error
        if mean.ndim != 1 or mean.shape != scale.shape:
            raise DataError(f"not a saved standardizer: mean has shape {mean.shape}, scale {scale.shape}")
        if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise DataError("not a saved standardizer: a mean is not finite or a scale is not positive")
        if not all(0 <= k < len(mean) for k in constant):
            raise DataError(f"not a saved standardizer: constant columns {constant} of {len(mean)}")
        return cls(mean, scale, constant)

    def _checked(self, x: ArrayLike) -> HostArray:
        x = _matrix(x)
        if x.shape[1] == len(self.mean):
            return x
        raise ShapeError(f"x has {x.shape[1]} columns; the standardizer was fitted on {len(self.mean)}")


def _matrix(x: ArrayLike) -> HostArray:
    rows: Any = x if stays_in_files(x) else np.asarray(x)
    if rows.ndim == 2:
        return rows
    raise ShapeError(f"x has shape {rows.shape}; (rows, features) is needed")


def _blocks(x: HostArray) -> Iterator[tuple[int, Floats]]:
    """First row and float64 copy of each block of rows."""
    rows = max(1, BLOCK_ELEMENTS // max(1, x.shape[1]))
    for start in range(0, len(x), rows):
        yield start, x[start : start + rows].astype(np.float64)


def _check_finite(block: Floats, start: int) -> None:
    bad = ~np.isfinite(block)
    if not bad.any():
        return
    row, column = np.argwhere(bad)[0]
    raise DataError(f"x[{start + row}, {column}] is {block[row, column]}; mean and scale need finite numbers")
