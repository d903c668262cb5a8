"""Columns of plain numbers in a large text file: stored as numbers; their text is read again when asked for.

The first rows name the candidates: columns of numbers with a decimal sign, which are no labels. Of these, a
column is stored as numbers if no cell is anything else: no marker of a missing cell, no group of thousands,
no leading zero. All other columns are stored as text.

Why: storing text and converting it afterwards costs more than parsing the file. Measured on 1 million rows of
12 numbers and 8 categories, 2 cores: reading and typing took 3.0 s of processor time → 2.0 s.
"""

import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import CELLS, Span

LARGE = 1 << 22  # bytes; of a smaller file all cells are stored as text
FEWEST = 20  # cells of the first rows that name a candidate


def candidates(rows: Sequence[Sequence[str]], decimal: str, width: int) -> list[int]:
    """Return the columns whose cells in these rows are plain numbers, one at least with a decimal sign."""
    spelling = Spelling(decimal)
    found = []
    for k in range(width):
        cells = [row[k] for row in rows if k < len(row) and row[k]]
        has_sign = any(decimal in cell for cell in cells)
        if has_sign and len(cells) >= FEWEST and all(_is_plain(cell, spelling) for cell in cells):
            found.append(k)
    return found


def _is_plain(cell: str, spelling: Spelling) -> bool:
    has_zero = cell.strip()[:1] == "0" and cell.strip().isdecimal() and len(cell.strip()) > 1
    return not has_zero and not spelling.is_grouped(cell) and spelling.value(cell) is not None


def stored(column: int, decimal: str) -> str:
    """Return the SQL expression for n{column}: a cell as a number, NULL if it is empty, NaN if not plain.

    An infinity stays one. Why the comparison first: blanks, signs and 0 are below 1, most cells are not.
    """
    cell = f"c{column}"
    group, text = (",", cell) if decimal == "." else (".", f"replace({cell}, ',', '.')")
    grouped = f"contains({cell}, '_')" + f" OR contains({cell}, '.')" * (group == ".")
    leading = f"NOT contains({cell}, '{decimal}') AND regexp_full_match({cell}, '\\s*0[0-9]+\\s*')"
    odd = f"{grouped} OR ({cell} < '1' AND (contains({cell}, '+-') OR ({leading})))"
    nan = "'nan'::DOUBLE"
    value = f"coalesce(try_cast({text} AS DOUBLE), CASE WHEN {cell} IS NOT NULL THEN {nan} END)"
    return f"CASE WHEN {odd} THEN {nan} ELSE {value} END AS n{column}"


def spans(connection: Any, columns: Sequence[int]) -> dict[int, Span]:
    """Return the span of each stored column whose cells are all plain, and are not all missing."""
    if not columns:
        return {}
    asked = ", ".join(f"count(n{k}), min(n{k}), max(n{k}), bool_and(isfinite(n{k}))" for k in columns)
    row = connection.execute(f"SELECT {asked} FROM {CELLS}").fetchone()
    parts = ((k, row[4 * i : 4 * i + 3], row[4 * i + 3]) for i, k in enumerate(columns))
    return {k: span for k, span, are_plain in parts if are_plain}


class TextOnDemand:
    """Adds the text of stored columns to the database, from the file that they were read from."""

    def __init__(
        self, connection: Any, relation: str, path: Path, source: str, before: tuple[int, int]
    ) -> None:
        self.connection, self.relation, self.path, self.source = connection, relation, path, source
        self.before = before
        self.added: set[int] = set()
        self.lock = threading.Lock()

    def __call__(self, column: int) -> None:
        """Add column c{column}. Raises DataError if the file has changed."""
        with self.lock:
            if column not in self.added:
                self._add(self.connection.cursor(), f"c{column}")
                self.added.add(column)

    def _add(self, cursor: Any, name: str) -> None:
        try:
            cursor.execute(f"CREATE OR REPLACE TEMP TABLE texts AS SELECT {name} FROM {self.relation}")
            is_same = stamp(self.path) == self.before
        except Exception as error:
            if not _may_be_gone(error):
                raise
            is_same = False
        if not is_same:
            raise DataError(f"{self.source} has changed since it was read; run the command again")
        cursor.execute(f"ALTER TABLE {CELLS} ADD COLUMN {name} VARCHAR")
        cursor.execute(f"UPDATE {CELLS} SET {name} = t.{name} FROM texts AS t WHERE t.rowid = {CELLS}.rowid")
        cursor.execute("DROP TABLE texts")


def _may_be_gone(error: Exception) -> bool:
    import duckdb

    return isinstance(error, (OSError, duckdb.IOException, duckdb.InvalidInputException))


def stamp(path: Path) -> tuple[int, int]:
    """Return the size of a file and when it was changed."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def numbered(width: int, numbers: Iterable[int]) -> str:
    """Return the columns of a table of the database if c{k} is a number already for these k."""
    chosen = {*numbers}
    return ", ".join(f"c{k} AS n{k}" if k in chosen else f"c{k}" for k in range(width))


def selected(width: int, numbers: Iterable[int], decimal: str) -> str:
    """Return the columns of a table of the database: n{k} for those stored as numbers, else c{k}."""
    chosen = {*numbers}
    return ", ".join(stored(k, decimal) if k in chosen else f"c{k}" for k in range(width))
