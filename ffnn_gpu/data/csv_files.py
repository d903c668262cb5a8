"""Read CSV files: quoted fields, optional header, optional gzip; errors name the line and the column.

Why row by row into one flat buffer: a list of lists of Python floats takes 4 times the memory, and the errors
of `np.loadtxt` name neither line nor column. A number is whatever `float()` parses to a finite value.
"""

import csv
import difflib
import gzip
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.data.array_files import MAX_BYTES, reading
from ffnn_gpu.errors import DataError

MAX_LINE = 1 << 24  # characters, so that a file of one endless line does not fill the memory

Row = tuple[int, list[str]]  # line number, cells
Select = Callable[[list[str]], list[int] | None]


class Table(NamedTuple):
    """x (n, features) float64, strings and line numbers of the target column (n,), names in the header."""

    x: HostArray
    texts: list[str]
    lines: list[int]
    feature_names: tuple[str, ...] | None
    target_name: str | None


def read_csv(path: str | Path, target: str | int | None = None) -> tuple[HostArray, HostArray, Table]:
    """Return features (n, features) float64, target (n,), and the table they were read from.

    The target is int64 if every cell is an integer, float64 if every cell is a number, strings otherwise.

    target: name or 0-based index of the target column; default: the last one.
    """
    table = _parse(path, target, has_target=True)
    return table.x, _typed(table, path), table


def read_table(
    source: str | Path | TextIO, select: Select | None = None
) -> tuple[HostArray, tuple[str, ...] | None]:
    """Read a matrix (n, columns) float64 and its header; every column is a feature. Raises DataError.

    Args:
        source: a path, or an open text stream such as stdin.
        select: called with the cells of the first row. If it returns indices, only these columns are read, in
            this order, and the first row is their header; the other columns may hold anything.
    """
    table = _parse(source, None, has_target=False, select=select)
    return table.x, table.feature_names


def first_row(path: str | Path) -> list[str]:
    """Return the cells of the first row. Raises DataError."""
    with _opened(path) as (stream, where):
        return _stripped(next(_rows(stream, where), (0, []))[1])


def column_index(
    target: str | int | None, names: Sequence[str] | None, width: int, source: str | Path
) -> int:
    """Return the index of the target column: by name, by index (an int or its digits), or the last column."""
    if target is None:
        return width - 1
    if names and isinstance(target, str) and names.count(target) > 1:
        raise DataError(
            f"{source}: {names.count(target)} columns are called {target!r}; use the index of one"
        )
    if names and target in names:
        return names.index(str(target))
    if isinstance(target, int) or target.isdecimal():
        if 0 <= int(target) < width:
            return int(target)
        raise DataError(f"{source} has no column {target}; the columns are 0 … {width - 1}")
    if not names:
        raise DataError(f"{source} has no header, so no column {target!r}; use an index, 0 … {width - 1}")
    near = difflib.get_close_matches(target, names, n=1)
    known = ", ".join(names[:10]) + ", …" * (width > 10)
    hint = f"did you mean {near[0]!r}?" if near else f"columns: {known}"
    raise DataError(f"{source} has no column {target!r}; {hint}")


def _parse(
    source: str | Path | TextIO, target: str | int | None, has_target: bool, select: Select | None = None
) -> Table:
    with _opened(source) as (stream, where):
        rows = _rows(stream, where)
        first = list(islice(rows, 2))
        if not first:
            raise DataError(f"{where} is empty")
        width = len(first[0][1])
        if has_target and width < 2:
            raise DataError(f"{where} has 1 column; it must have features and a target, separated by commas")
        kept = select(_stripped(first[0][1])) if select else None
        has_header = kept is not None or _is_header(first, target, has_target)
        found: Iterator[Row] = chain(first, rows)
        if kept is not None:
            width, found = len(kept), ((line, [cells[k] for k in kept]) for line, cells in found)
        header = tuple(_stripped(next(found)[1])) if has_header else None
        index = column_index(target, header, width, where) if has_target else None
        return _collect(found, header, width, index, where)


def _collect(
    rows: Iterator[Row], header: tuple[str, ...] | None, width: int, index: int | None, where: str
) -> Table:
    names = [repr(name) for name in header] if header else [str(i) for i in range(width)]
    target_name = names.pop(index) if index is not None else ""
    values, texts, lines = array("d"), [], []
    for line, cells in rows:
        if index is not None:
            texts.append(cells.pop(index).strip())
            if not texts[-1]:
                raise DataError(f"{where}, line {line}, column {target_name}: the target is empty")
        values.extend(_numbers(cells, names, f"{where}, line {line}"))
        lines.append(line)
    if not lines:
        raise DataError(f"{where} has a header and no rows")
    x = np.frombuffer(values, dtype=np.float64).reshape(len(lines), len(names))
    if header is None:
        return Table(x, texts, lines, None, None)
    kept = tuple(name for i, name in enumerate(header) if i != index)
    return Table(x, texts, lines, kept, None if index is None else header[index])


def _numbers(cells: list[str], names: list[str], where: str) -> list[float]:
    try:
        numbers = list(map(float, cells))
        if all(map(math.isfinite, numbers)):
            return numbers
    except ValueError:
        pass
    name, cell = next(
        (name, cell)
        for name, cell in zip(names, cells, strict=True)
        if not (_is_number(cell) and math.isfinite(float(cell)))
    )
    complaint = f"{cell!r} is not a finite number" if cell.strip() else "the cell is empty"
    raise DataError(f"{where}, column {name}: {complaint}")


def _typed(table: Table, source: str | Path) -> HostArray:
    """Return the target's cells as int64 if all are integers, float64 if all are numbers, else strings."""
    try:
        return np.array([int(text) for text in table.texts], dtype=np.int64)
    except (ValueError, OverflowError):
        pass
    try:
        y = np.array([float(text) for text in table.texts])
    except ValueError:
        return np.array(table.texts)
    bad = np.flatnonzero(~np.isfinite(y))
    if not bad.size:
        return y
    raise DataError(f"{source}, line {table.lines[bad[0]]}: the target {table.texts[bad[0]]!r} is not finite")


def _is_header(first: list[Row], target: str | int | None, has_target: bool) -> bool:
    """Return whether the first row is a header. It is in each of these cases:

    - none of its cells is a number
    - one of its cells is the target's name
    - only its last cell is a word, and the row below ends with a number

    So "5.1,3.5,setosa" over "4.9,3.0,setosa" is data.
    """
    cells = _stripped(first[0][1])
    are_numbers = [_is_number(cell) for cell in cells]
    if not any(are_numbers) or (isinstance(target, str) and target in cells):
        return True
    only_last_is_word = all(are_numbers[:-1]) and not are_numbers[-1]
    return has_target and only_last_is_word and len(first) == 2 and _is_number(first[1][1][-1])


def _stripped(cells: list[str]) -> list[str]:
    return [cell.strip() for cell in cells]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@contextmanager
def _opened(source: str | Path | TextIO) -> Iterator[tuple[TextIO, str]]:
    """Yield the text stream of a path or an open stream, and its name in messages."""
    if not isinstance(source, (str, Path)):
        where = str(getattr(source, "name", "the table"))
        with reading(where):
            yield source, where
        return
    opened: Any = gzip.open if str(source).lower().endswith(".gz") else open
    with reading(source), opened(source, "rt", encoding="utf-8", newline="") as stream:
        yield stream, str(source)


def _rows(stream: TextIO, where: str) -> Iterator[Row]:
    """Yield the rows that are not blank, each with its last line number; all have the width of the first."""
    reader = csv.reader(_lines(stream, where), skipinitialspace=True, strict=True)
    width = 0
    try:
        for cells in filter(None, reader):
            width = width or len(cells)
            if len(cells) != width:
                fields = f"{len(cells)} fields; the first row has {width}"
                raise DataError(f"{where}, line {reader.line_num}: {fields}")
            yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{where}, line {reader.line_num}: {error}") from error


def _lines(stream: TextIO, where: str) -> Iterator[str]:
    """Yield lines without the byte order mark. Line length and total are limited, which stops a gzip bomb."""
    total = 0
    while line := stream.readline(MAX_LINE):
        if total == 0:
            line = line.removeprefix("\ufeff")
        total += len(line)
        if len(line) == MAX_LINE:
            raise DataError(f"{where} has a line of {MAX_LINE} characters or more")
        if total > MAX_BYTES:
            raise DataError(f"{where} has more than {MAX_BYTES} characters")
        yield line
