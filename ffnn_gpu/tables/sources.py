"""What the user names → Table."""

import os
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.dialects import Dialect
from ffnn_gpu.tables.table import Scratch, Table, connect
from ffnn_gpu.tables.text_files import read_text

STDIN = "-"
TEXT = (".csv", ".tsv", ".txt", ".tab", ".dat", ".psv")
PACKED = (".gz", ".zst")


def is_table(source: str) -> bool:
    """Return whether `read_table` reads this kind of source, by its name; a pipe is one."""
    if source == STDIN:
        return True
    name = source.lower()
    for ending in PACKED:
        name = name.removesuffix(ending)
    return name.endswith(TEXT) or is_pipe(source)


def is_pipe(source: str) -> bool:
    """Return whether a path is a pipe or another stream that can be read once."""
    try:
        mode = os.stat(source).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def read_table(source: str, dialect: Dialect = Dialect(), known: Sequence[str] = ()) -> Table:
    """Read a table from a file, a pipe or standard input ("-").

    known: names of columns that the user or a model gave; a first row with one of them is a header.

    Raises DataError: there is no such file, or it is malformed.
    """
    if source == STDIN or is_pipe(source):
        return _from_stream(source, dialect, known)
    if not Path(source).is_file():
        raise DataError(f"there is no file {source}")
    scratch = Scratch()
    return read_text(Path(source), dialect, source, known, scratch, connect(scratch.path))


def _from_stream(source: str, dialect: Dialect, known: Sequence[str]) -> Table:
    """Copy what can be read once to a temporary file, and read that."""
    scratch = Scratch()
    copy, said = scratch.path / "stream", "standard input" if source == STDIN else source
    with open(copy, "wb") as file:
        if source == STDIN:
            if sys.stdin is None:
                raise DataError("there is no standard input; give a file")
            shutil.copyfileobj(sys.stdin.buffer, file)
        else:
            with open(source, "rb") as stream:
                shutil.copyfileobj(stream, file)
    return read_text(copy, dialect, said, known, scratch, connect(scratch.path))
