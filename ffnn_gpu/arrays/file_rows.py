"""Rows of arrays that lie in files, read when they are asked for.

Why read and not mapped: pages of a mapped file count as memory of the process. Of 10 million rows of 64 float32 (2.56 GB)
that are gathered in random order all are soon mapped, because the system maps what lies around a page, 64 KiB to 2 MiB, as
it likes. Once by hand, per row, the file in the system's cache: 0.1 µs from a mapped file; 7 to 10 µs where pages are given
back (MADV_DONTNEED) whenever they exceed 64 to 256 MiB; 1.6 µs by reading each row, which maps nothing at all. So files of
up to MAPPED bytes stay mapped; of larger ones several ranks, each of which would count them, read rows. One process keeps
what its caller has mapped, for speed, and reads what comes as FileRows.
"""

import math
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffnn_gpu.errors import DataError, ShapeError

MAPPED = 256 << 20  # bytes of a file that may be mapped whole
_SEEKING = threading.Lock()


def _seek_and_read(file: int, buffers: Sequence[Any], offset: int) -> int:
    """os.preadv of one buffer, where the platform has none."""
    with _SEEKING:
        os.lseek(file, offset, os.SEEK_SET)
        data = os.read(file, len(buffers[0]))
    buffers[0][: len(data)] = data
    return len(data)


read_at = getattr(os, "preadv", _seek_and_read)


@dataclass(frozen=True)
class Part:
    """Rows of one file: row i begins at byte offset + i stride."""

    path: str
    offset: int
    stride: int
    rows: int


class FileRows:
    """The rows of some files one after the other, as an array of shape (n, …) of which nothing is in memory.

    Args:
        parts: where rows lie, each of them in one piece.
        row_shape, dtype: of every row.
    """

    def __init__(self, parts: Sequence[Part], row_shape: tuple[int, ...], dtype: Any) -> None:
        self.parts, self.dtype = tuple(parts), np.dtype(dtype)
        self._starts = np.cumsum([0, *(part.rows for part in parts)])
        self.shape = (int(self._starts[-1]), *row_shape)
        self.ndim, self._width = len(self.shape), math.prod(row_shape) * self.dtype.itemsize
        self._offsets, self._strides = (
            np.array([getattr(part, k) for part in parts]) for k in ("offset", "stride")
        )
        self.files = []
        for part in parts:
            self.files.append(os.open(part.path, os.O_RDONLY | getattr(os, "O_BINARY", 0)))
            weakref.finalize(self, os.close, self.files[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy opens the files again: these are closed with the rows that opened them."""
        return FileRows, (self.parts, self.shape[1:], self.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The rows of a slice, an array of indices or a mask; one row of one index. Raises IndexError, DataError."""
        index = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        at = np.where(index < 0, index + len(self), index).reshape(-1).astype(np.int64)
        if len(at) and not 0 <= at.min() <= at.max() < len(self):
            raise IndexError(f"rows {at.min()} to {at.max()} were asked for; there are {len(self)}")
        out = np.empty((len(at), *self.shape[1:]), self.dtype)
        if out.size:
            self.read(at, out)
        return out.reshape(*index.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def columns(self, first: int, last: int) -> "FileRows":
        """The columns first … last − 1 of rows (n, d), as rows of their own."""
        parts = [replace(part, offset=part.offset + first * self.dtype.itemsize) for part in self.parts]
        return FileRows(parts, (last - first,), self.dtype)

    def read(self, index: np.ndarray, out: np.ndarray) -> None:
        """out (k, …), contiguous ← the rows index (k,), each in [0, n); rows that follow each other in one go."""
        part = np.searchsorted(self._starts, index, side="right") - 1
        offsets = self._offsets[part] + (index - self._starts[part]) * self._strides[part]
        apart = (np.diff(offsets) != self._width) | (np.diff(part) != 0)
        first = np.flatnonzero(np.concatenate([[True], apart]))
        begin = first * self._width
        end = np.append(begin[1:], out.nbytes)
        view = memoryview(out.reshape(-1).view(np.uint8).data)
        runs = zip(part[first].tolist(), offsets[first].tolist(), begin.tolist(), end.tolist(), strict=True)
        for k, offset, a, b in runs:
            got = read_at(self.files[k], [view[a:b]], offset)
            if got != b - a:
                self._rest(k, view[a + got : b], offset + got, got)

    def _rest(self, k: int, view: Any, offset: int, got: int) -> None:
        """What one call did not read: the system reads 2 GiB at most at once, and files may have been cut."""
        while len(view):
            if not got:
                raise DataError(
                    f"{self.parts[k].path} ends before byte {offset + len(view)}: it was cut since"
                )
            got = read_at(self.files[k], [view], offset)
            view, offset = view[got:], offset + got


@dataclass(frozen=True, eq=False)
class MappedRows:
    """Some rows of a matrix in files, memory-mapped or not, read when they are asked for."""

    whole: Any
    index: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.index), *self.whole.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return self.whole.dtype

    @property
    def ndim(self) -> int:
        return self.whole.ndim

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self.whole[self.index[rows]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def stays_in_files(x: Any) -> bool:
    """Whether x is so large, or lies so, that its rows are read when they are asked for and not before."""
    return isinstance(x, (FileRows, MappedRows)) or (isinstance(x, np.memmap) and x.nbytes > MAPPED)


def some_of(x: Any, index: np.ndarray) -> MappedRows:
    """The rows `index` of x in files; none is read."""
    return MappedRows(x.whole, x.index[index]) if isinstance(x, MappedRows) else MappedRows(x, index)


def rows_of(arrays: Sequence[np.memmap]) -> FileRows:
    """The rows of files that have just been mapped, one file after the other.

    Raises:
        ShapeError: their rows differ in shape. DataError: they differ in type, or are not stored row by row.
    """
    first = arrays[0]
    for a in arrays:
        if a.shape[1:] != first.shape[1:]:
            raise ShapeError(
                f"{a.filename} has rows of shape {a.shape[1:]}; {first.filename} of {first.shape[1:]}"
            )
        if a.dtype != first.dtype:
            raise DataError(f"{a.filename} holds {a.dtype}; {first.filename} holds {first.dtype}")
        if not a.flags.c_contiguous:
            raise DataError(f"{a.filename} is not stored row by row (C order)")
    parts = [Part(str(a.filename), int(a.offset), a[:1].nbytes, len(a)) for a in arrays]
    return FileRows(parts, first.shape[1:], first.dtype)


def unmapped(x: Any) -> Any:
    """x; of more than MAPPED bytes of a mapped file, whose rows lie in one piece each, the FileRows they are."""
    if isinstance(x, MappedRows):
        return replace(x, whole=unmapped(x.whole))
    if not isinstance(x, np.memmap) or x.nbytes <= MAPPED:
        return x
    whole = x.ndim == 2 and x.strides[1] == x.itemsize and x.mode != "c"  # "c" has changes that no file has
    where = _mapping(x.ctypes.data) if whole and x.filename is not None else None
    if where is None:
        return x
    offset, inode = where
    try:
        rows = FileRows([Part(str(x.filename), offset, x.strides[0], len(x))], x.shape[1:], x.dtype)
    except OSError:
        return x
    return rows if os.fstat(rows.files[0]).st_ino == inode else x  # the name may be another file's by now


def _mapping(address: int) -> tuple[int, int] | None:
    """(byte within its file, number of that file) of a mapped address; None where the system does not say."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None  # not Linux
    for line in lines:
        span, _, offset, _, inode, *_ = line.split(None, 5)
        start, stop = (int(bound, 16) for bound in span.split("-"))
        if start <= address < stop and not line.endswith(" (deleted)"):
            return int(offset, 16) + address - start, int(inode)
    return None


def share(x: Any, rank: int, size: int) -> tuple[Any, int]:
    """(the part of rows in files that one of `size` ranks has to look at, its first row); of other rows all of them."""
    if size == 1 or not isinstance(x, (np.memmap, FileRows, MappedRows)):
        return x, 0
    start, stop = rank * len(x) // size, (rank + 1) * len(x) // size
    return some_of(x, np.arange(start, stop)), start
