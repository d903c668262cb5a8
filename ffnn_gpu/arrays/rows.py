"""A matrix whose rows are read when they are asked for, wherever they lie.

Rows             what every kind offers
  ArrayRows      an array in memory, of the host or of a device
  MappedRows     a memory-mapped file                                 (file_rows)
  FileRows       rows of files, one file after the other              (file_rows)
  SelectedRows   some rows of rows in files
  Standardized   (rows − mean) / scale of any of these                (standardized)

`boundary.rows_of` makes Rows of what a caller passes; no other code depends on the kind.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array, Device, HostArray

BLOCK_ELEMENTS = 1 << 20
"""Elements that are read, checked or moved at once: 8 MiB in float64, so that no file is ever copied whole.

Why only one size: smaller blocks gain nothing, and the sums of `Standardizer.fit` depend on it bit for bit.
"""


def blocks(x: Any, rows: int | None = None) -> Iterator[slice]:
    """Return slices over the rows of x, or its first `rows`: of one row, or up to BLOCK_ELEMENTS elements."""
    n, width = len(x) if rows is None else rows, math.prod(x.shape[1:])
    step = max(1, BLOCK_ELEMENTS // max(1, width))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


class Rows(ABC):
    """A matrix (n, d). What is written out here suits rows in files; the other kinds override it."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]: ...

    @abstractmethod
    def __getitem__(self, index: Any) -> Array:
        """Return the rows of a slice or of an array of indices, in host or device memory as stored."""

    @property
    def in_files(self) -> bool:
        """True if the rows are in files, mapped or not."""
        return isinstance(self.stored, (np.memmap, Rows))

    @property
    def stays_in_files(self) -> bool:
        """True if the files are too large to copy as a whole, even where a copy would be faster."""
        return self.in_files

    @property
    def stored(self) -> Any:
        """The array, or the rows in files, that holds the numbers."""
        return self

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> HostArray:
        return np.asarray(self[:]).astype(dtype or self.dtype, copy=False)

    def admitted(self, admit: Callable[[Any], Array]) -> "Rows":
        """The same rows, an array in memory replaced by admit(array)."""
        return self

    def unmapped(self) -> "Rows":
        """The same rows, read instead of mapped where the file is large."""
        return self

    def select(self, index: HostArray, device: Device | None = None) -> "Rows":
        """Return the rows index (k,) without reading files; device: needed if the array is on a device."""
        return SelectedRows(self, index)

    def share(self, rank: int, size: int) -> tuple["Rows", int]:
        """Return (rows that one of `size` ranks checks, number of the first): all of an array in memory."""
        if size == 1 or not self.in_files:
            return self, 0
        start, stop = rank * len(self) // size, (rank + 1) * len(self) // size
        return self.select(np.arange(start, stop)), start

    def require_finite(self, device: Device, what: str, dtype: Any = None) -> None:
        """Raise DataError with the count and the first index if a value is not finite in `dtype`."""
        device.require_finite(self.stored, what, dtype)

    def matrix(self, device: Device, part: slice, dtype: Any) -> Array:
        """The rows of a slice as an array of the device in `dtype`."""
        return device.asarray(self[part], dtype)

    def on(self, device: Device, dtype: Any) -> "Rows":
        """Move the rows to the device, for many calls of `take`; cast to `dtype` unless that costs memory.

        On a host, rows in files stay there: they may be larger than its memory.
        """
        if device.owns(np.empty(0)):
            return self
        kept = self.dtype.newbyteorder("=") if self.dtype.itemsize < np.dtype(dtype).itemsize else dtype
        out = device.empty(self.shape, kept)
        for part in blocks(self):
            device.copy(device.asarray(self[part], kept), out=out[part])
        return ArrayRows(out)

    def take(self, device: Device, index: Array, out: Array, *scaling: Array) -> None:
        """out (k, d) ← the rows index (k,), cast. scaling: mean and scale as in `Backend.take`."""
        device.take(self[index], np.arange(len(index)), out, *scaling)


@dataclass(frozen=True, eq=False)
class ArrayRows(Rows):
    """The rows of an array in memory, of the host or of a device."""

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = np.dtype(self.array.dtype)
        return found

    @property
    def stored(self) -> Any:
        return self.array

    def __getitem__(self, index: Any) -> Array:
        return self.array[index]

    def admitted(self, admit: Callable[[Any], Array]) -> Rows:
        return type(self)(admit(self.array))

    def select(self, index: HostArray, device: Device | None = None) -> Rows:
        if device is None or not device.owns(self.array):
            return ArrayRows(self.array[index])
        out = device.empty((len(index), *self.shape[1:]), self.dtype)
        return ArrayRows(device.take(self.array, device.asarray(index), out))

    def on(self, device: Device, dtype: Any) -> Rows:
        small = self.dtype.itemsize < np.dtype(dtype).itemsize
        return ArrayRows(device.asarray(self.array, None if small else dtype))

    def take(self, device: Device, index: Array, out: Array, *scaling: Array) -> None:
        device.take(self.array, index, out, *scaling)


@dataclass(frozen=True, eq=False)
class SelectedRows(Rows):
    """The rows `index` of rows in files."""

    whole: Rows
    index: HostArray

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.index), *self.whole.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.whole.dtype

    def __getitem__(self, index: Any) -> HostArray:
        return np.asarray(self.whole[self.index[index]])

    def unmapped(self) -> Rows:
        return replace(self, whole=self.whole.unmapped())

    def select(self, index: HostArray, device: Device | None = None) -> Rows:
        return replace(self, index=self.index[index])

    def take(self, device: Device, index: Array, out: Array, *scaling: Array) -> None:
        self.whole.take(device, self.index[index], out, *scaling)
