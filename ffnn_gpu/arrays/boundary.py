"""Arrays at the library's boundary: what callers hand over, and what they get back."""

import math
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ffnn_gpu.arrays.file_rows import FileRows, MappedRows
from ffnn_gpu.arrays.precision import is_floating, largest
from ffnn_gpu.errors import DataError, ShapeError

CHUNK = 1 << 18  # elements looked at together, so that a memory-mapped array is never copied whole


@dataclass(frozen=True, eq=False)
class Standardized:
    """The matrix (rows − mean) / scale in float64, of which only `rows` exist; cut to [−limit, limit] if there is one.

    Args:
        rows: (n, d) on the host, in a file or on a device, of any type of number; bytes stay bytes.
        mean, scale: (d,) float64 on the host.

    Raises:
        ShapeError: the widths differ. DataError: a mean is not finite, or a scale not finite and positive, or rows are
            a Standardized.
    """

    rows: Any
    mean: np.ndarray
    scale: np.ndarray
    limit: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.rows, Standardized):
            raise DataError(
                f"rows of shape {self.rows.shape} are standardized already; standardize what they are made of"
            )
        shape, widths = tuple(self.rows.shape), (self.mean.shape, self.scale.shape)
        if len(shape) != 2 or widths != (shape[1:], shape[1:]):
            raise ShapeError(
                f"rows of shape {shape} cannot be standardized by mean {widths[0]} and scale {widths[1]}"
            )
        bad = np.flatnonzero(~(np.isfinite(self.mean) & np.isfinite(self.scale) & (self.scale > 0)))
        if len(bad):
            mean, scale = self.mean[bad[0]], self.scale[bad[0]]
            raise DataError(
                f"column {bad[0]} has mean {mean} and scale {scale}; both must be finite, the scale above 0"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.shape

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float64)

    def __len__(self) -> int:
        return len(self.rows)

    def stays_below(self, limit: float) -> bool:
        """Whether no number of this can reach `limit`, whatever whole numbers of their type the rows hold."""
        if self.rows.dtype.kind not in "iu":
            return False
        least, most = np.iinfo(self.rows.dtype).min, np.iinfo(self.rows.dtype).max
        return bool(
            (np.maximum(np.abs(least - self.mean), np.abs(most - self.mean)) / self.scale < limit).all()
        )

    def __getitem__(self, rows: Any) -> "Standardized":
        """Some of the rows, by a slice or an array of indices; numbers only where `values` or an operation makes them."""
        return replace(self, rows=self.rows[rows])

    def values(self, xp: Any) -> Any:
        """The matrix itself, where the rows are; `xp` is their array module."""
        x = self.rows[:].astype(np.float64)  # a copy; rows of files are read
        x -= xp.asarray(self.mean)
        x /= xp.asarray(self.scale)
        return x if self.limit is None else xp.clip(x, -self.limit, self.limit)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.values(np).astype(dtype or np.float64, copy=False)


def stored(x: Any) -> Any:
    """What there is of x in memory: the rows of a Standardized, else x."""
    return x.rows if isinstance(x, Standardized) else x


def host_array(array: Any) -> Any:
    """`array` (NumPy, a list, DLPack, CuPy) as a NumPy array, uncopied where it can be; rows of files as they are.

    Raises:
        DataError: it holds Python objects, or its rows differ in length.
    """
    if isinstance(array, (FileRows, MappedRows)):
        return array
    if not isinstance(array, np.ndarray):
        array = _from_foreign(array)
    if array.dtype == object and array.size and isinstance(array.flat[0], str):
        return array.astype(str)  # a column of a data frame: the same strings, as NumPy keeps them
    if array.dtype == object:
        raise DataError(f"an array of shape {array.shape} holds Python objects; pass numbers")
    return array


def _from_foreign(array: Any) -> np.ndarray:
    if type(array).__module__.split(".")[0] == "cupy":
        return array.get()
    try:
        return np.from_dlpack(array) if hasattr(array, "__dlpack__") else np.asarray(array)
    except (ValueError, TypeError, BufferError, RuntimeError) as error:
        raise DataError(f"a {type(array).__name__} cannot be read as an array of numbers: {error}") from error


def kind_of(like: Any, host: np.ndarray) -> Any:
    """`host` as the kind of array `like` is: CuPy if it is CuPy, else NumPy."""
    cupy = sys.modules.get("cupy")
    if cupy is None or not isinstance(like, cupy.ndarray):
        return host
    with like.device:
        return cupy.asarray(host)


@np.errstate(over="ignore", under="ignore")
def require_finite(xp: Any, array: Any, what: str, dtype: Any = None) -> None:
    """Raise DataError with the count and the first index if a value of `array` is NaN, infinite or too large for `dtype`."""
    if not is_floating(array.dtype) and dtype != np.float16:  # whose largest number is 65504
        return
    if isinstance(array, Standardized) and array.stays_below(largest(dtype or array.dtype)):
        return
    width = math.prod(array.shape[1:])
    rows = max(1, CHUNK // max(1, width))
    bad, first, value = 0, -1, None
    for start in range(0, len(array), rows):
        block = array[start : start + rows]
        if isinstance(block, Standardized):
            block = block.values(xp)
        finite = xp.isfinite(block.astype(dtype or array.dtype, copy=False))
        if not bool(finite.all()):
            broken = xp.flatnonzero(~finite.reshape(-1))
            if not bad:
                first, value = start * width + int(broken[0]), block.reshape(-1)[int(broken[0])]
            bad += len(broken)
    if bad:
        at = tuple(int(i) for i in np.unravel_index(first, array.shape))
        trouble = f"too large for {np.dtype(dtype).name}" if bool(xp.isfinite(value)) else "not finite"
        raise DataError(f"{what} holds {bad} values that are {trouble}; the first is {value} at index {at}")
