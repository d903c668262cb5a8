"""gzip and Zstandard files → plain files, found by their first bytes.

Why not by the database: DuckDB 2.0 reads half a Zstandard file without an error and returns half of the rows.
"""

import gzip
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

from ffnn_gpu.errors import ConfigurationError, DataError

GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BLOCK = 1 << 20
OTHERS = {  # what else begins like this, and what to do
    b"PK\x03\x04": "a zip archive or an Excel workbook; unpack it, or save the sheet as .csv",
    b"BZh": "packed by bzip2; unpack it",
    b"\xfd7zX": "packed by xz; unpack it",
    b"PAR1": "a Parquet file; give it the ending .parquet",
    b"SQLi": "a SQLite database; export the table as .csv",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as .csv",
}


def unpacked(path: Path, source: str, scratch: Path) -> Path:
    """Return a file with the unpacked contents, in `scratch` if the file is packed.

    Raises DataError: the file is damaged or incomplete, or packed in another way.
    """
    with open(path, "rb") as stream:
        magic = stream.read(4)
    for start, what in OTHERS.items():
        if magic.startswith(start):
            raise DataError(f"{source} is {what}")
    if not magic.startswith((GZIP, ZSTANDARD)):
        return path
    kind = "gzip" if magic.startswith(GZIP) else "Zstandard"
    target = scratch / "unpacked"
    try:
        with _opened(path, kind) as packed, open(target, "wb") as plain:
            shutil.copyfileobj(packed, plain, BLOCK)
    except (EOFError, zlib.error, gzip.BadGzipFile, _zstd_error()) as error:
        raise DataError(
            f"{source} is a damaged or incomplete {kind} file ({error}); copy it again from its origin"
        ) from error
    return target


def _opened(path: Path, kind: str) -> Any:
    return gzip.GzipFile(path) if kind == "gzip" else _zstd().ZstdFile(path)


def _zstd() -> Any:
    """Return Python's module for Zstandard: its own from 3.14 on. Raises ConfigurationError."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise ConfigurationError(f'reading .zst files: pip install "ffnn_gpu[tables]" ({error})') from error
    return zstd


def _zstd_error() -> type[Exception]:
    try:
        return _zstd().ZstdError  # type: ignore[no-any-return]
    except ConfigurationError:
        return EOFError
