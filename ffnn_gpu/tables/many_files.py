"""Folders and patterns of files → one table; their columns are matched by name."""

import glob
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from ffnn_gpu.checks import counted
from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.dialects import Dialect
from ffnn_gpu.tables.embedded_database import Scratch, literal
from ffnn_gpu.tables.table import CELLS, MAX_LISTED_NAMES, Table
from ffnn_gpu.tables.typed_columns import TIMES, is_number

WHOLE = "whole"  # the table of the files that have been read

Reader = Callable[
    [str, Dialect, Sequence[str], Scratch, Any], Table
]  # (path, dialect, known, scratch, connection)


def is_pattern(source: str) -> bool:
    """Return whether a source is a pattern such as sales/*.csv; a file of that name is none."""
    return glob.has_magic(source) and not Path(source).exists()


def matches(pattern: str) -> list[str]:
    """Return the files of a pattern, sorted; ** also matches folders in folders."""
    return sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())


def read_many(
    paths: Sequence[str],
    dialect: Dialect,
    source: str,
    known: Sequence[str],
    scratch: Scratch,
    connection: Any,
    read: Reader,
) -> Table:
    """Return the rows of several files, one file after the other.

    The first file decides the dialect, except the encoding, and the names. Raises DataError: a file has other
    columns.
    """
    parts = [read(paths[0], dialect, known, scratch, connection)]
    first = parts[0]
    lengths = [len(first)]
    alike = replace(first.dialect or dialect, encoding=dialect.encoding, decimal=dialect.decimal)
    if first.dialect is not None:
        alike = replace(alike, usual=first.decimal)
    connection.execute(f"ALTER TABLE {CELLS} RENAME TO {WHOLE}")
    for path in paths[1:]:
        parts.append(read(path, alike, first.names, scratch, connection))
        lengths.append(len(parts[-1]))
        _require_one_decimal_sign(first, parts[-1])
        _append(first, parts[-1], connection)
    connection.execute(f"ALTER TABLE {WHOLE} RENAME TO {CELLS}")
    starts = [0, *accumulate(lengths)]

    def place(row: int) -> str:
        k = bisect_right(starts, row) - 1
        return f"{parts[k].place(row - starts[k])} of {paths[k]}"

    remarks = (counted(len(paths), "file"), *first.remarks)
    return replace(first, source=source, place=place, remarks=remarks)


def _require_one_decimal_sign(first: Table, part: Table) -> None:
    """Raise DataError if the cells of a file prove another decimal sign than those of the first file."""
    if part.decimal == first.decimal or part.dialect is None:
        return
    proof = rf"\s*[+-]?\d*[{part.decimal}](\d{{1,2}}|\d{{4,}})\s*"
    for place, name in enumerate(part.names):
        where = f"regexp_full_match({part.text(place)}, {literal(proof)})"
        ((row,),) = part.ask(f"SELECT min(rowid) FROM {CELLS} WHERE {where}")
        if row is not None:
            raise DataError(
                f"column {name!r}: the decimal sign is {first.decimal!r} in {first.source} and "
                f"{part.decimal!r} in {part.source}, {part.place(row)}; write all files with one sign, or "
                f"use --decimal {first.decimal!r} to read all with that sign"
            )


def _append(first: Table, part: Table, connection: Any) -> None:
    """Append the cells of a file to the whole, by name. Raises DataError if its columns differ."""
    order = _order(first, part)
    kinds = [kind for _, kind, *_ in connection.execute(f"DESCRIBE {WHOLE}").fetchall()]
    for k, place in enumerate(order):
        if (k in first.zoned) != (place in part.zoned):
            raise DataError(
                f"column {first.names[k]!r} holds times with a zone in only one of {first.source} and "
                f"{part.source}; write all with a zone or none, or use --query with a CAST"
            )
        if kinds[k] != part.types[place]:
            _widen(first, part, k, place, (kinds[k], part.types[place]), connection)
    connection.execute(f"INSERT INTO {WHOLE} SELECT {', '.join(f'c{k}' for k in order)} FROM {CELLS}")
    connection.execute(f"DROP TABLE {CELLS}")


def _order(first: Table, part: Table) -> list[int]:
    """Return the index in `part` of each column of `first`."""
    has_names = first.has_names and part.has_names
    if not has_names and len(first.names) == len(part.names):
        return [*range(len(first.names))]
    if has_names and len({*part.names}) == len(part.names) and {*first.names} == {*part.names}:
        return [part.names.index(name) for name in first.names]
    lacking = [name for name in first.names if name not in part.names]
    more = [name for name in part.names if name not in first.names]
    said = [f"it lacks {_listed(lacking)}"] * bool(lacking) + [f"it has also {_listed(more)}"] * bool(more)
    why = (
        " and ".join(said * has_names)
        or f"it has {counted(len(part.names), 'column')}, not {len(first.names)}"
    )
    raise DataError(f"{part.source} has other columns than {first.source}: {why}")


def _widen(first: Table, part: Table, k: int, place: int, kinds: tuple[str, str], connection: Any) -> None:
    """Give a column of the whole the type that holds the numbers, or the times, of both."""
    if not (all(map(is_number, kinds)) or all(kind.startswith(TIMES) for kind in kinds)):
        raise DataError(
            f"column {first.names[k]!r} holds {kinds[0]} values in {first.source} and {kinds[1]} in "
            f"{part.source}; give all files one type, or use --query with a CAST"
        )
    both = f"SELECT c{k} AS c FROM {WHOLE} UNION ALL SELECT c{place} FROM {CELLS}"
    ((_, kind, *_),) = connection.execute(f"DESCRIBE SELECT * FROM ({both})").fetchall()
    connection.execute(f"ALTER TABLE {WHOLE} ALTER c{k} TYPE {kind}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:MAX_LISTED_NAMES])) + ", …" * (len(names) > MAX_LISTED_NAMES)
