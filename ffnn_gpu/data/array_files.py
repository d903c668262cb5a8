"""Read binary array files: IDX (plain or gzip), .npy and .npz.

Why not `np.load` alone: measured, it requests 32 GiB from the system if the header of a 128-byte file
declares so much, and it reports damage as six kinds of exception. A 1 MB gzip can grow to 1 GB. Here memory
grows with the bytes that arrive, block by block, up to the declared size and never past `max_bytes`. Every
failure is a DataError that names the file, and nothing is ever unpickled.
"""

import gzip
import io
import math
import os
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy_format

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.file_rows import FileRows, joined
from ffnn_gpu.arrays.rows import BLOCK_ELEMENTS
from ffnn_gpu.checks import special_file
from ffnn_gpu.errors import DataError, FfnnGpuError

MAX_BYTES = 4 << 30  # 4 GiB, 91 times the training images of MNIST
GZIP_MAGIC = b"\x1f\x8b"
IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IDX_MAX_AXES = 32

ByteStream = IO[bytes] | io.BufferedIOBase


@contextmanager
def reading(source: str | Path) -> Iterator[None]:
    """Turn every failure inside into a DataError that names the source, except MemoryError."""
    try:
        yield
    except (FfnnGpuError, MemoryError):
        raise
    except Exception as error:  # damage surfaces as OSError, EOFError, SyntaxError, zlib.error, …
        raise DataError(f"{source} cannot be read: {type(error).__name__}: {error}") from error


def read_idx(path: str | Path, max_bytes: int = MAX_BYTES) -> HostArray:
    """Read the array of an IDX file, plain or gzip (recognized by content), in native byte order.

        0 0 code axes | axes × uint32 dimensions | elements in C order | end of file        (big-endian)

    Reference: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, "The IDX file
    format".
    """
    with reading(path), open(path, "rb") as plain:
        packed = plain.read(2) == GZIP_MAGIC
        plain.seek(0)
        if not packed:
            return _idx_array(plain, path, max_bytes)
        with gzip.GzipFile(fileobj=plain) as stream:
            return _idx_array(stream, path, max_bytes)


def read_npy(path: str | Path) -> HostArray:
    """Map the array of a .npy file into memory, read-only; its size must be what the header declares."""
    _require_seekable(path)
    with reading(path):
        with open(path, "rb") as stream:
            dtype, shape, _ = _npy_header(stream, path)
            declared = stream.tell() + _byte_count(dtype, shape)
        size = os.path.getsize(path)
        if size != declared:
            header = f"its header declares {declared} (shape {shape} of {dtype})"
            raise DataError(f"{path} has {size} bytes; {header}")
        mode: Literal["r"] | None = "r" if math.prod(shape) else None  # an empty array cannot be mapped
        array: HostArray = np.load(path, mmap_mode=mode, allow_pickle=False)
        return array


def npy_rows(source: str | Path | Sequence[str | Path]) -> FileRows:
    """Return the rows of a .npy file, of several in the order given, or of a folder (2.npy before 10.npy).

    Nothing is loaded: `fit`, `evaluate` and `predict` accept it as x and read rows when they need them.

    Raises: DataError, ShapeError: no file, a damaged one, or one not like the first; not stored row by row.
    """
    paths = [Path(source)] if isinstance(source, (str, Path)) else [Path(path) for path in source]
    if len(paths) == 1 and paths[0].is_dir():
        paths = sorted(paths[0].glob("*.npy"), key=_by_number)
    if not paths:
        raise DataError(f"{source} holds no .npy file")
    arrays = [(path, read_npy(path)) for path in paths]
    single = next((path for path, array in arrays if not array.ndim), None)
    if single is not None:
        raise DataError(f"{single} holds one number, not rows")
    filled = [array for _, array in arrays if isinstance(array, np.memmap)]
    if not filled:
        raise DataError(f"{paths[0]} holds no rows")
    with reading(paths[0]):
        return joined(filled)


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that compares numbers within names as numbers."""
    return [(int(text), "") if text.isdigit() else (0, text) for text in re.split(r"(\d+)", path.name)]


def _archive(path: str | Path) -> Any:
    """Open a .npz file."""
    import zipfile  # takes 3 ms

    return zipfile.ZipFile(path)


def npz_names(path: str | Path) -> tuple[str, ...]:
    """Return the names of the arrays in a .npz file, in file order."""
    _require_seekable(path)
    with reading(path), _archive(path) as archive:
        return tuple(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))


def read_npz(path: str | Path, name: str, max_bytes: int = MAX_BYTES) -> HostArray:
    """Read the array called `name` of a .npz file and verify its checksum."""
    with reading(path), _archive(path) as archive, archive.open(f"{name}.npy") as stream:
        source = f"{path}, array {name!r}"
        dtype, shape, is_fortran = _npy_header(stream, source)
        elements = _elements(stream, dtype, shape, source, max_bytes)
        return elements.reshape(shape, order="F" if is_fortran else "C")


def _require_seekable(path: str | Path) -> None:
    if kind := special_file(path):
        raise DataError(f"{path} is {kind}; .npy and .npz are read from files only, so copy it to a file")


def _idx_array(stream: ByteStream, source: str | Path, max_bytes: int) -> HostArray:
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(f"{source} ends after {len(magic)} of 4 magic bytes")
    zeros, code, axes = struct.unpack(">HBB", magic)
    if zeros or code not in IDX_DTYPES or not 1 <= axes <= IDX_MAX_AXES:
        raise DataError(f"{source} is not an IDX file: its first bytes are {magic.hex(' ')}")
    dimensions = stream.read(4 * axes)
    if len(dimensions) < 4 * axes:
        raise DataError(f"{source} ends after {len(dimensions)} of {4 * axes} bytes of dimensions")
    shape = struct.unpack(f">{axes}I", dimensions)
    dtype = np.dtype(IDX_DTYPES[code])
    elements = _elements(stream, dtype, shape, source, max_bytes)
    return elements.reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _npy_header(stream: ByteStream, source: str | Path) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """Return (dtype, shape, whether the order is Fortran's); leave the stream at the first element."""
    version = npy_format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(
            f"{source}: .npy version {version[0]}.{version[1]} is not supported; only 1.0 and 2.0 are"
        )
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise DataError(f"{source} holds Python objects ({dtype}); only numbers and strings are supported")
    if min(shape, default=0) < 0:
        raise DataError(f"{source} declares the shape {shape}; no dimension may be negative")
    return dtype, shape, is_fortran


def _elements(
    stream: ByteStream, dtype: np.dtype[Any], shape: tuple[int, ...], source: str | Path, cap: int
) -> HostArray:
    """Read the declared elements as one flat array; they must be all that is left in the stream."""
    declared = _byte_count(dtype, shape)
    if declared > cap:
        raise DataError(
            f"{source} declares {declared} bytes (shape {shape} of {dtype}); at most {cap} are allowed"
        )
    content = bytearray()
    while len(content) < declared:
        piece = stream.read(min(BLOCK_ELEMENTS, declared - len(content)))
        if not piece:
            raise DataError(f"{source} ends after {len(content)} of {declared} declared bytes")
        content += piece
    if stream.read(1):  # reading the end makes gzip and zip compare their checksums
        raise DataError(
            f"{source} goes on after the {declared} bytes its header declares (shape {shape} of {dtype})"
        )
    return np.frombuffer(content, dtype=dtype, count=math.prod(shape))


def _byte_count(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return math.prod(shape) * dtype.itemsize  # Python integers: a product of dimensions cannot wrap around
