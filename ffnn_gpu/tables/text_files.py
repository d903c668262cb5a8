"""Read delimited text of any dialect as text, cell by cell.

DuckDB reads a file that is plain; every other file is read by Python's csv module, which accepts it (mixed
line ends, blank lines, one column) or names the line of the error, and is written again as a plain file. Why
not by DuckDB's own detection of dialects: measured on DuckDB 2.0, it reads a file in which one row has a cell
too many as one column, and turns `1_5` into 15.
"""

import csv
import io
import re
import shutil
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ffnn_gpu.checks import counted
from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.dialects import MAX_LINE, Dialect, decided, doubt, first_rows, rows_of
from ffnn_gpu.tables.embedded_database import Scratch, literal, path_literal
from ffnn_gpu.tables.packed_files import unpacked
from ffnn_gpu.tables.plain_numbers import LARGE, TextOnDemand, candidates, numbered, selected, spans, stamp
from ffnn_gpu.tables.plain_text import Plain, plain
from ffnn_gpu.tables.table import CELLS, Span, Table
from ffnn_gpu.tables.text_encodings import as_utf8

SAMPLE = 1 << 18  # characters that decide the dialect
SAMPLE_LINES = 20  # and at least as many lines, if they are long
SEPARATOR_LINE = re.compile(r'"?sep=(?P<separator>[^\w\s"]|\t| )"?(?P<end>\r?\n|\r)', re.IGNORECASE)
LONGEST_SEPARATOR_LINE = 10  # characters
LONGEST = 2_000_000  # bytes of a row that DuckDB reads without being told


def read_text(
    path: Path,
    dialect: Dialect,
    source: str,
    known: Sequence[str],
    scratch: Scratch,
    connection: Any,
    as_text: bool = False,
) -> Table:
    """Return the cells of a text file.

    Args:
        source: what messages call the file.
        known: names of columns that the user or a model gave: a first row with one of them is a header.
        scratch: a folder that lives as long as the table.
        as_text: store all cells as text, also those of columns of plain numbers.

    Raises:
        DataError: the file is empty or ragged, or its bytes are not text in the encoding; the message names
        the
            line.
    """
    folder = scratch.folder()
    utf8, encoding = as_utf8(unpacked(path, source, folder), dialect.encoding, source, folder)
    utf8, separator = _without_separator_line(utf8, folder)
    if separator and not dialect.separator:
        dialect = replace(dialect, separator=separator)
    sample = _sample(utf8)
    if not sample.strip():
        raise DataError(f"{source} is empty")
    found = decided(sample, replace(dialect, encoding=encoding), known)
    first = next(rows_of(io.StringIO(sample, newline=""), found, source))[1]
    remarks = (f"the first line, sep={separator}, is no row",) * bool(separator)
    is_sure = dialect.header is not None or any(cell.strip() in known for cell in first if cell.strip())
    remarks += found.remarks(is_sure) + (() if dialect.decimal else doubt(sample, found))
    is_large = utf8.stat().st_size >= LARGE and not as_text
    rows = first_rows(sample, found)[0][bool(found.header) :] if is_large else []
    numbers = candidates(rows, found.decimal, len(first))
    plain_columns, bring_text = _load(connection, utf8, found, len(first), source, folder, sample, numbers)

    def place(row: int) -> str:
        with open(utf8, encoding="utf-8-sig", newline="") as stream:
            rows = rows_of(stream, found, source)
            return f"line {next(islice(rows, row + bool(found.header), None), (0, []))[0]}"

    return Table(
        source, _names(first, found), connection, place, bool(found.header), found.decimal,
        remarks, keeps=scratch, dialect=found, plain=plain_columns, bring_text=bring_text,
    )  # fmt: skip


def _without_separator_line(path: Path, folder: Path) -> tuple[Path, str]:
    """Return a file without Excel's first line sep=; and the separator that it names, "" if there is none.

    An empty line takes its place, so that lines keep their numbers.
    """
    with open(path, encoding="utf-8-sig", newline="") as stream:
        found = SEPARATOR_LINE.fullmatch(stream.readline(LONGEST_SEPARATOR_LINE))
        if not found:
            return path, ""
        with open(folder / "rows", "w", encoding="utf-8", newline="") as rest:
            rest.write(found["end"])
            shutil.copyfileobj(stream, rest)
    return folder / "rows", found["separator"]


def _names(first: Sequence[str], dialect: Dialect) -> tuple[str, ...]:
    """Return the names in the header; a column without one is called by its index, or as pandas calls it."""
    cells = [cell.strip() if dialect.header else "" for cell in first]
    return tuple(cell or (f"Unnamed: {k}" if str(k) in cells else str(k)) for k, cell in enumerate(cells))


def _load(
    connection: Any,
    path: Path,
    dialect: Dialect,
    width: int,
    source: str,
    folder: Path,
    sample: str,
    numbers: Sequence[int],
) -> tuple[dict[int, Span], TextOnDemand]:
    """Fill the database with the cells; return the columns that are stored as numbers, and their text.

    numbers: the columns that may be stored so.
    """
    before, has_returns = stamp(path), "\r\n" in sample
    size = _checked_copy(connection, path, dialect, width, has_returns, numbers)
    if size is None:
        rewritten = folder / "rewritten"
        size = _rewrite(path, rewritten, dialect, width, source)
        path, before, dialect = rewritten, stamp(rewritten), replace(dialect, separator=",", quote='"')
        copy_plain(connection, path, dialect, width, size, source, numbers)
    found = spans(connection, numbers)
    if len(found) < len(numbers):
        copy_plain(connection, path, dialect, width, size, source, [*found])
    if found:  # the only file that may be read later
        connection.execute(f"SET allowed_paths = [{path_literal(path)}]")
    return found, TextOnDemand(connection, _relation(path, dialect, width, size), path, source, before)


def _checked_copy(
    connection: Any, path: Path, dialect: Dialect, width: int, has_returns: bool, numbers: Sequence[int]
) -> Plain | None:
    """Copy a file into the database and check it at the same time; return its size, None if it is not plain.

    DuckDB parses the columns of numbers. If one holds a text that DuckDB reads otherwise than `stored`, or
    cannot read, the file is copied again.

    has_returns: whether lines probably end with CR LF.
    """
    parsed = numbers if dialect.decimal == "." else ()

    def stop(check: Future[Plain | None]) -> None:
        if check.exception() or check.result() is None:
            connection.interrupt()

    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(plain, path, dialect, width, parsed)
        check.add_done_callback(stop)
        relation = _relation(path, dialect, width, Plain(0, 0, has_returns), parsed)
        columns = numbered(width, parsed) if parsed else selected(width, numbers, dialect.decimal)
        rows = _copied(connection, relation, columns)
    size = check.result()
    if size is None:
        return None
    is_whole = rows == size.rows - bool(dialect.header) and size.returns == has_returns
    if is_whole and not size.odd:
        return size
    is_copied = _is_copied(connection, path, dialect, width, size, numbers)
    return size if is_copied else None


def copy_plain(
    connection: Any,
    path: Path,
    dialect: Dialect,
    width: int,
    size: Plain,
    source: str,
    numbers: Sequence[int] = (),
) -> None:
    """Copy a file that was written as a plain one into the database."""
    if not _is_copied(connection, path, dialect, width, size, numbers):
        raise DataError(f"{source} cannot be read: its rows are too long for the database")


def _is_copied(
    connection: Any, path: Path, dialect: Dialect, width: int, size: Plain, numbers: Sequence[int]
) -> bool:
    """Copy a plain file into the database; return whether DuckDB finds every row."""
    columns = selected(width, numbers, dialect.decimal)
    rows = _copied(connection, _relation(path, dialect, width, size), columns)
    return rows == size.rows - bool(dialect.header)


def _copied(connection: Any, relation: str, columns: str) -> int | None:
    """Copy these columns of a file into the database; return the number of rows.

    Return None if DuckDB does not accept the file, or if the check beside the copy has interrupted it.
    """
    import duckdb

    try:
        connection.execute(f"CREATE OR REPLACE TABLE {CELLS} AS SELECT {columns} FROM {relation}")
        # inside, because the interrupt may come when the copy has just ended
        (rows,) = connection.execute(f"SELECT count(*) FROM {CELLS}").fetchone()
    except duckdb.OutOfMemoryException as error:
        raise MemoryError(str(error)) from error
    except duckdb.Error:
        return None
    return int(rows)


def _relation(path: Path, dialect: Dialect, width: int, size: Plain, numbers: Collection[int] = ()) -> str:
    """Return the SQL relation of the cells c0, c1, … of a plain file, as text, or as numbers by DuckDB."""
    columns = ", ".join(f"'c{k}': '{'DOUBLE' if k in numbers else 'VARCHAR'}'" for k in range(width))
    quote, skip = literal(dialect.quote), int(bool(dialect.header))
    # Why only for LF: told that lines end with CR LF, DuckDB 2.0 reads "1,a\r\n2,b" as one row; told nothing,
    # it takes the first CR LF in quotes for the end of all lines.
    line_end = "" if size.returns else r", new_line='\n'"
    return (
        f"read_csv({path_literal(path)},"
        f" delim={literal(dialect.separator)}, quote={quote}, escape={quote}, header=false, skip={skip},"
        f" strict_mode=true, auto_detect=false, compression='none', hive_partitioning=false,"
        f" columns={{{columns}}}, max_line_size={max(LONGEST, size.longest + 2)}{line_end})"
    )


def _rewrite(path: Path, target: Path, dialect: Dialect, width: int, source: str) -> Plain:
    """Write the rows again as a plain file. Raises DataError with the line of a ragged row."""
    count = longest = 0
    with (
        open(path, encoding="utf-8-sig", newline="") as stream,
        open(target, "w", encoding="utf-8", newline="") as clean,
    ):
        writer = csv.writer(clean, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for line, row in rows_of(stream, dialect, source):
            if len(row) != width:
                raise DataError(
                    f"{source}, line {line} has {counted(len(row), 'cell')}; the first row has {width} "
                    f"(separated by {dialect.separator!r})"
                )
            longest = max(longest, writer.writerow(row))
            count += 1
    return Plain(count, 4 * longest)  # bytes of a character


def _sample(path: Path) -> str:
    """Return whole lines from the beginning of a text."""
    lines: list[str] = []
    size = 0
    with open(path, encoding="utf-8-sig", newline="") as stream:
        while (size < SAMPLE or len(lines) < SAMPLE_LINES) and (line := stream.readline(MAX_LINE)):
            lines.append(line)
            size += len(line)
    return "".join(lines)
