"""What the user names → Table."""

import os
import re
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ffnn_gpu.checks import nearest
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.tables.databases import ENDINGS as DATABASES
from ffnn_gpu.tables.databases import forbid_files, is_database, read_database, read_query, split
from ffnn_gpu.tables.dialects import Dialect
from ffnn_gpu.tables.embedded_database import Scratch, connect
from ffnn_gpu.tables.json_lines import read_json_lines
from ffnn_gpu.tables.many_files import is_pattern, matches, read_many
from ffnn_gpu.tables.parquet import read_parquet
from ffnn_gpu.tables.table import Table
from ffnn_gpu.tables.text_files import read_text

STDIN = "-"
TEXT = (".csv", ".tsv", ".txt", ".tab", ".dat", ".psv")
JSON_LINES = (".jsonl", ".ndjson")
JSON = (".json",)  # JSON lines too, except in folders, where such a file describes others
PARQUET = (".parquet", ".pq")
PACKED = (".gz", ".zst")
ARRAY = re.compile(rb"\[\s*\{")  # the beginning of a JSON array of rows
ACCEPTED = ", ".join((*TEXT, *JSON_LINES, *PARQUET, *DATABASES))


def is_table(source: str) -> bool:
    """Return whether `read_table` reads this kind of source, by its name; a pipe is one."""
    if source == STDIN or is_database(source) or is_pipe(source):
        return True
    if is_pattern(source):
        return not _ending(source) or _is_file_of_rows(source) or any(map(_is_file_of_rows, matches(source)))
    if Path(source).is_dir():
        return bool(_files(source))
    return _is_file_of_rows(source) or _ending(source) in JSON


def is_pipe(source: str) -> bool:
    """Return whether a path is a pipe or another stream that can be read once."""
    try:
        mode = os.stat(source).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def read_table(
    source: str, dialect: Dialect = Dialect(), known: Sequence[str] = (), query: str = ""
) -> Table:
    """Read a table from a file, several files, a database, a pipe, standard input ("-") or a query.

    Args:
        dialect: how a text file is written, as far as the user says.
        known: names of columns that the user or a model gave; a first row with one of them is a header.
        query: one SELECT in SQL; the source is then "" or a DuckDB database whose tables it names.

    Raises DataError: there is no such file, or it is malformed.
    """
    scratch = Scratch()
    connection = connect(scratch.path)
    table = _read(source, dialect, known, query, scratch, connection)
    forbid_files(table.connection)
    return table


def _read(
    source: str, dialect: Dialect, known: Sequence[str], query: str, scratch: Scratch, connection: Any
) -> Table:
    if query:
        if source and not is_database(source):
            raise ConfigurationError(
                f"--query names its own files; remove {source} or give a DuckDB database"
            )
        return read_query(query, source and _existing(source), scratch, connection)
    if source == STDIN or is_pipe(source):
        return _from_stream(source, dialect, known, scratch, connection)
    if is_database(source):
        _existing(split(source)[0])
        return read_database(source, scratch, connection)
    if Path(source).is_dir():
        return read_many(_files(source), dialect, source, known, scratch, connection, _read_as_text)
    if is_pattern(source):
        if not (paths := matches(source)):
            raise DataError(f"no file matches {source}")
        return read_many(paths, dialect, source, known, scratch, connection, _read_as_text)
    return _read_file(_existing(source), dialect, known, scratch, connection)


def _read_as_text(
    source: str, dialect: Dialect, known: Sequence[str], scratch: Scratch, connection: Any
) -> Table:
    """Read one of several files, all of whose columns of text are stored alike. Raises DataError."""
    return _read_file(source, dialect, known, scratch, connection, as_text=True)


def _read_file(
    source: str,
    dialect: Dialect,
    known: Sequence[str],
    scratch: Scratch,
    connection: Any,
    as_text: bool = False,
) -> Table:
    """Read one file by its ending. Raises DataError."""
    ending = _ending(source)
    try:
        if ending in TEXT:
            return read_text(Path(source), dialect, source, known, scratch, connection, as_text)
        if ending in (*JSON_LINES, *JSON):
            return read_json_lines(Path(source), dialect.encoding, source, scratch, connection)
        if ending in PARQUET:
            return read_parquet(Path(source), source, scratch, connection)
    except OSError as error:
        raise DataError(f"{error.filename or source} cannot be read: {error.strerror}") from error
    raise DataError(
        f"{source} has the ending {ending or '(none)'}; tables end with {ACCEPTED}, also with .gz or .zst"
    )


def _from_stream(
    source: str, dialect: Dialect, known: Sequence[str], scratch: Scratch, connection: Any
) -> Table:
    """Copy what can be read once to a temporary file, and read that by its first bytes."""
    copy, said = scratch.path / "stream", "standard input" if source == STDIN else source
    with open(copy, "wb") as file:
        if source == STDIN:
            if sys.stdin is None:
                raise ConfigurationError("standard input is closed; give INPUT, the file to read")
            shutil.copyfileobj(sys.stdin.buffer, file)
        else:
            with open(source, "rb") as stream:
                shutil.copyfileobj(stream, file)
    with open(copy, "rb") as stream:
        start = stream.read(64)
    if start[:4] == b"PAR1":
        return read_parquet(copy, said, scratch, connection)
    if start[:1] == b"{" or ARRAY.match(start):
        return read_json_lines(copy, dialect.encoding, said, scratch, connection)
    return read_text(copy, dialect, said, known, scratch, connection)


def _ending(source: str) -> str:
    """Return the ending of a file in lower case, without that of a packed file."""
    name = source.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def _is_file_of_rows(source: str) -> bool:
    return _ending(source) in (*TEXT, *JSON_LINES, *PARQUET)


def _files(folder: str) -> list[str]:
    """Return the files of rows in a folder, sorted; names that begin with a dot or "_" do not count."""
    return sorted(
        os.path.join(folder, name)
        for name in os.listdir(folder)
        if not name.startswith((".", "_")) and _is_file_of_rows(name) and Path(folder, name).is_file()
    )


def _existing(source: str) -> str:
    """Return the path of a file. Raises DataError with a close name if there is none."""
    if Path(source).is_file():
        return source
    folder = Path(source).parent
    try:
        names = [str(folder / name) for name in os.listdir(folder)]
    except OSError:
        names = []
    near = nearest(source, names)
    raise DataError(f"there is no file {source}" + (f"; did you mean {near!r}?" if near else ""))
