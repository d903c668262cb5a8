"""The matrix of a whole table under one encoding: in memory, or in a file that is mapped if it is large.

encoded.npy    the matrix (n, outputs)
encoded.json   what it was made of, and its checksum

With these files a resumed training run does not encode again, unless the cells or the encoding have changed
or a byte of the matrix has. Rows are encoded in blocks, so that neither the table nor the matrix has to fit
in memory.
"""

import hashlib
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ffnn_gpu import temporary
from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.file_rows import MAPPED
from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.embedded_database import Scratch
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.table import Table

MATRIX, MADE_OF = "encoded.npy", "encoded.json"
BLOCK = 1 << 22  # bytes that are checked at once
WRITTEN = 256 << 20  # bytes that are encoded and written at once


class EncodedTable:
    """All rows of a table, encoded when they are first asked for."""

    def __init__(self, table: Table, skip: tuple[int, ...] = ()) -> None:
        self.table, self.skip = table, skip
        self.shared: Encoding | None = None  # with other processes
        self.folder: Path | None = None  # for the files; None for a temporary one
        self._scratch: Scratch | None = None
        self._last: tuple[str, HostArray] = "", np.empty(0)

    def keep_in(self, folder: Path) -> None:
        """Keep the files in this folder from now on; move them there if they exist."""
        before, self.folder = self._scratch, folder
        if before is not None and (before.path / MADE_OF).exists():
            self._last, self._scratch = ("", np.empty(0)), None
            for name in (MATRIX, MADE_OF):
                try:
                    shutil.move(before.path / name, folder / name)
                except OSError as error:
                    raise DataError(f"{folder / name} cannot be written ({error.strerror})") from error

    def lend(self, encoding: Encoding, dtype: DTypeLike) -> tuple[HostArray, Path | None]:
        """Return the matrix, and the folder in which other processes find a large one, else None."""
        self.shared = encoding
        matrix = self.matrix(encoding, dtype)
        folder = self.folder or (None if self._scratch is None else self._scratch.path)
        return matrix, folder if isinstance(matrix, np.memmap) else None

    def matrix(self, encoding: Encoding, dtype: DTypeLike) -> HostArray:
        """Return (n, outputs), mapped if it has more than MAPPED bytes. Raises DataError."""
        key = _key(encoding, np.dtype(dtype))
        if self._last[0] != key:
            self._last = "", np.empty(0)
            size = len(self.table) * len(encoding.outputs) * np.dtype(dtype).itemsize
            made = self._mapped(encoding, np.dtype(dtype), key) if size > MAPPED else None
            self._last = key, encoding.encode(self.table, dtype, self.skip) if made is None else made
            self.table.kept.clear()  # the matrix takes the place of the cells
        return self._last[1]

    def _mapped(self, encoding: Encoding, dtype: np.dtype[Any], key: str) -> HostArray:
        """Return the matrix of the files in the folder; write them unless they hold just that."""
        made_of = {"encoding": key, "cells": self.table.fingerprint()}
        folder = self._own_folder()
        if not _holds(folder, made_of):
            self._write(folder, encoding, dtype, made_of)
        return _opened(folder, dtype)

    def _own_folder(self) -> Path:
        if self.folder is not None:
            return self.folder
        self._scratch = self._scratch or Scratch()
        return self._scratch.path

    def _write(self, folder: Path, encoding: Encoding, dtype: np.dtype[Any], made_of: dict[str, Any]) -> None:
        (folder / MADE_OF).unlink(missing_ok=True)
        n, width, half = len(self.table), len(encoding.outputs), temporary.half_of(folder / MATRIX)
        stored = np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype  # .npy does not know bfloat16
        step, checksum = max(1, WRITTEN // (width * dtype.itemsize)), 0
        temporary.add(half)
        try:
            with open(half, "wb") as file:
                header = {"descr": stored.str, "fortran_order": False, "shape": (n, width)}
                np.lib.format.write_array_header_1_0(file, header)
                for start in range(0, n, step):
                    rows = self.table.part(start, start + step)
                    block = encoding.encode(rows, dtype, self.skip).view(np.uint8).data
                    checksum = zlib.crc32(block, checksum)
                    file.write(block)
            os.replace(half, folder / MATRIX)
        except OSError as error:
            raise DataError(
                f"{folder / MATRIX} cannot be written ({error.strerror}); it needs "
                f"{n * width * dtype.itemsize:,} bytes"
            ) from error
        finally:
            half.unlink(missing_ok=True)
            temporary.discard(half)
        made_of = made_of | {"crc32": checksum, "bytes": n * width * dtype.itemsize}
        (folder / MADE_OF).write_text(json.dumps(made_of) + "\n", encoding="utf-8")


def mapped_from(folder: Path, encoding: Encoding, dtype: DTypeLike) -> HostArray | None:
    """Return the matrix that another process has written there, mapped; None if it is not there, undamaged.

    The other process may move or remove its files afterwards.
    """
    dtype = np.dtype(dtype)
    return _opened(folder, dtype) if _holds(folder, {"encoding": _key(encoding, dtype)}) else None


def _opened(folder: Path, dtype: np.dtype[Any]) -> HostArray:
    stored: HostArray = np.load(folder / MATRIX, mmap_mode="r", allow_pickle=False)
    return stored.view(dtype)


def _key(encoding: Encoding, dtype: np.dtype[Any]) -> str:
    return hashlib.sha256(f"{dtype.name} {json.dumps(encoding.to_json())}".encode()).hexdigest()


def _holds(folder: Path, made_of: dict[str, Any]) -> bool:
    """Return whether the files in a folder hold the matrix of these cells, undamaged."""
    try:
        saved = json.loads((folder / MADE_OF).read_text(encoding="utf-8"))
        if {name: saved[name] for name in made_of} != made_of:
            return False
        checksum, size = 0, 0
        with open(folder / MATRIX, "rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            while block := file.read(BLOCK):
                checksum, size = zlib.crc32(block, checksum), size + len(block)
        return bool((checksum, size) == (saved["crc32"], saved["bytes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False
