"""Rows that lie in files, mapped or read when they are asked for.

Why read and not mapped: pages of a mapped file count as memory of the process. Gathering 10 million rows of
64 float32 (2.56 GB) in random order soon maps them all, because the system maps 64 KiB to 2 MiB around each
page. Per row, with the file in the system's cache:

- 0.1 µs from a mapped file
- 7 to 10 µs if pages are returned (MADV_DONTNEED) above a limit, for limits of 64 to 256 MiB
- 1.6 µs by reading each row, which maps nothing

So files of up to MAPPED bytes stay mapped. With several ranks, the pages of larger files would count for
every rank, so their rows are read. With one process, files that the caller has mapped stay mapped, for speed.
The rows of a FileRows are always read.
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

from ffnn_gpu.arrays.array_types import Array, Device, HostArray
from ffnn_gpu.arrays.rows import ArrayRows, Rows
from ffnn_gpu.errors import DataError, ShapeError

MAPPED = 256 << 20  # bytes; a larger file is not mapped by several ranks, and never copied
_SEEKING = threading.Lock()


def _seek_and_read(file: int, buffers: Sequence[Any], offset: int) -> int:
    """os.preadv of one buffer, for platforms without it."""
    with _SEEKING:
        os.lseek(file, offset, os.SEEK_SET)
        data = os.read(file, len(buffers[0]))
    buffers[0][: len(data)] = data
    return len(data)


read_at = getattr(os, "preadv", _seek_and_read)


@dataclass(frozen=True)
class Extent:
    """Where rows of one file lie: row i begins at byte offset + i · stride."""

    path: str
    offset: int
    stride: int
    rows: int


class FileRows(Rows):
    """The rows of files, one file after the other, indexed like an array (n, …) but not held in memory.

    extents: where the rows lie; the bytes of a row are contiguous.
    """

    shape: tuple[int, ...] = ()
    dtype = np.dtype(np.float64)

    def __init__(self, extents: Sequence[Extent], row_shape: tuple[int, ...], dtype: Any) -> None:
        self.extents, self.dtype = tuple(extents), np.dtype(dtype)
        self._starts = np.cumsum([0, *(extent.rows for extent in extents)])
        self.shape = (int(self._starts[-1]), *row_shape)
        self._width = math.prod(row_shape) * self.dtype.itemsize
        self._offsets = np.array([extent.offset for extent in extents])
        self._strides = np.array([extent.stride for extent in extents])
        self.files: list[int] = []
        for extent in extents:
            self.files.append(os.open(extent.path, os.O_RDONLY | getattr(os, "O_BINARY", 0)))
            weakref.finalize(self, os.close, self.files[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy opens the files again, because these are closed with the rows that opened them."""
        return FileRows, (self.extents, self.shape[1:], self.dtype)

    def __getitem__(self, index: Any) -> HostArray:
        """Read the rows of a slice, an array of indices or a mask; one row of an integer."""
        index = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        at = np.where(index < 0, index + len(self), index).reshape(-1).astype(np.int64)
        if len(at) and not 0 <= at.min() <= at.max() < len(self):
            raise IndexError(f"rows {at.min()} to {at.max()} are out of range: there are {len(self)} rows")
        out = np.empty((len(at), *self.shape[1:]), self.dtype)
        if out.size:
            self.read(at, out)
        return out.reshape(*index.shape, *self.shape[1:])

    def columns(self, first: int, last: int) -> "FileRows":
        """Return the FileRows of the columns `first` to `last` − 1."""
        moved = [replace(e, offset=e.offset + first * self.dtype.itemsize) for e in self.extents]
        return FileRows(moved, (last - first,), self.dtype)

    def read(self, index: HostArray, out: HostArray) -> None:
        """out (k, …), contiguous ← the rows index (k,), each in [0, n); adjacent rows by one call."""
        file = np.searchsorted(self._starts, index, side="right") - 1
        offsets = self._offsets[file] + (index - self._starts[file]) * self._strides[file]
        apart = (np.diff(offsets) != self._width) | (np.diff(file) != 0)
        first = np.flatnonzero(np.concatenate([[True], apart]))
        begin = first * self._width
        end = np.append(begin[1:], out.nbytes)
        view = memoryview(out.reshape(-1).view(np.uint8).data)
        runs = zip(file[first].tolist(), offsets[first].tolist(), begin.tolist(), end.tolist(), strict=True)
        for k, offset, a, b in runs:
            while (got := read_at(self.files[k], [view[a:b]], offset)) < b - a:  # at most 2 GiB at once
                if not got:
                    path, needed = self.extents[k].path, offset + b - a
                    raise DataError(f"{path} ends before byte {needed}: it was truncated after it was opened")
                a, offset = a + got, offset + got


class MappedRows(ArrayRows):
    """The rows of a memory-mapped file, or of a view of one."""

    select, on = Rows.select, Rows.on

    @property
    def stays_in_files(self) -> bool:
        return bool(self.array.nbytes > MAPPED)

    def take(self, device: Device, index: Array, out: Array, *scaling: Array) -> None:
        if self.array.flags.c_contiguous:
            device.take(self.array, index, out, *scaling)
        else:  # some of a file's columns
            Rows.take(self, device, index, out, *scaling)

    def unmapped(self) -> Rows:
        """FileRows over the same file if it is large and the bytes of each row are contiguous, else self."""
        x = self.array
        contiguous = x.ndim == 2 and x.strides[1] == x.itemsize
        # with mode "c", memory may hold changes that are not in the file
        if not (self.stays_in_files and contiguous and x.mode != "c" and x.filename is not None):
            return self
        where = _mapping(x.ctypes.data)
        if where is None:
            return self
        offset, inode = where
        try:
            rows = FileRows([Extent(str(x.filename), offset, x.strides[0], len(x))], x.shape[1:], x.dtype)
        except OSError:
            return self
        renamed = os.fstat(rows.files[0]).st_ino != inode  # another file may have the name by now
        return self if renamed else rows


def _mapping(address: int) -> tuple[int, int] | None:
    """Return (offset within its file, inode) of a mapped address; None if the system does not list them."""
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


def joined(arrays: "Sequence[np.memmap[Any, Any]]") -> FileRows:
    """The rows of files that have just been mapped, one after the other, all of one shape and type."""
    first = arrays[0]
    for a in arrays:
        if a.shape[1:] != first.shape[1:]:
            shapes = f"rows of shape {a.shape[1:]}; {first.filename} has {first.shape[1:]}"
            raise ShapeError(f"{a.filename} has {shapes}")
        if a.dtype != first.dtype:
            raise DataError(f"{a.filename} holds {a.dtype}; {first.filename} holds {first.dtype}")
        if not a.flags.c_contiguous:
            raise DataError(f"{a.filename} is not stored row by row (C order)")
    extents = [Extent(str(a.filename), int(a.offset), a[:1].nbytes, len(a)) for a in arrays]
    return FileRows(extents, first.shape[1:], first.dtype)
