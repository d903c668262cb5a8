"""What each column is, with the reason, and what the user decided otherwise.

A kind is decided by all cells of a column, never by its worst one: if almost all are numbers, the few others are
an error that names their lines and the options that say what they mean.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.spelling import Spelling, seconds
from ffnn_gpu.tables.table import CELLS, MISSING, Codes, Table, literal

Kind = Literal["number", "boolean", "category", "time", "text", "id", "constant", "empty", "dropped"]
USED: tuple[Kind, ...] = ("number", "boolean", "category", "time")

NUMERIC = ("INT", "FLOAT", "DOUBLE", "DECIMAL")  # parts of the names of the database's types
TEMPORAL = ("DATE", "TIME")
BOOLEANS = tuple(map(frozenset, (("true", "false"), ("yes", "no"), ("t", "f"), ("y", "n"))))
FEW_OTHERS = 0.05  # share of other cells up to which a column of numbers is an error, above it is text
FEW_LEVELS, SEVERAL = 20, 3  # "3+" among numbers is a level if there are few levels, each in several rows
MOST_LEVELS = 10_000
SAMPLE = 1000  # cells that decide in which way times are written
TIMES = (  # in strptime's language; the first that reads every cell is used
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ",
    "%Y-%m-%dT%H:%M:%S%z", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%m/%d/%Y",
    "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%d/%m/%Y", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d.%m.%Y",
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d-%m-%Y", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d %B %Y",
    "%B %d, %Y", "%b-%Y", "%Y-%m", "%H:%M:%S", "%H:%M",
)  # fmt: skip


@dataclass(frozen=True)
class Decisions:
    """What the user says about columns, by name.

    Args:
        categorical, number, drop: the columns that are categories, numbers, or not used.
        missing: texts that mean a missing cell.
    """

    categorical: tuple[str, ...] = ()
    number: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """One column of a table: what it is, and why.

    Attributes:
        place: its index in the table.
        missing: the number of missing cells.
        levels: {cell: number of rows} of a boolean or a category, as the cells are written.
        written: how times are written, in strptime's language; "" for a column of times.
    """

    name: str
    place: int
    kind: Kind
    reason: str
    missing: int = 0
    levels: dict[str, int] = field(default_factory=dict)
    written: str = ""

    @property
    def is_used(self) -> bool:
        """True if a network can learn from it."""
        return self.kind in USED


def columns_of(
    table: Table, decisions: Decisions, spelling: Spelling, without: Iterable[str] = ()
) -> list[Column]:
    """Return the columns of a table but those called `without`.

    Raises DataError: a column of numbers has a few other cells, or a decision names no column.
    """
    named = {
        table.column(name, f"--{option}"): option
        for option in ("drop", "number", "categorical")
        for name in getattr(decisions, option)
    }
    places = [k for k, name in enumerate(table.names) if name not in {*without}]
    return [_column(table, k, named.get(k, ""), spelling) for k in places]


def _column(table: Table, place: int, decision: str, spelling: Spelling) -> Column:
    name, kind = table.names[place], table.types[place]
    if decision == "drop":
        return Column(name, place, "dropped", "--drop names it")
    if decision == "categorical":
        return _words(table, place, spelling, "--categorical names it")
    if place in table.declared and decision != "number":
        return _words(table, place, spelling, "its type is categorical")
    if any(part in kind for part in TEMPORAL):
        return Column(name, place, "time", f"its type is {kind}", _nulls(table, place))
    others = _others(table, place, spelling)
    if others is None:
        return _times(table, place, spelling) or _words(table, place, spelling)
    bad = {cell: count for cell, count in others.items() if not spelling.is_missing_number(cell)}
    missing = _nulls(table, place) + sum(others.values()) - sum(bad.values())
    numbers = len(table) - missing - sum(bad.values())
    if bad and decision != "number":
        few = sum(bad.values()) <= FEW_OTHERS * (len(table) - missing)
        levels = table.levels(place, most=FEW_LEVELS + 1) if few else {}
        if not few or (len(levels) <= FEW_LEVELS and min(levels.values()) >= SEVERAL):
            return _times(table, place, spelling) or _words(table, place, spelling)
    if bad:
        raise others_error(table, place, numbers, [*bad][:3])
    return _number(table, place, spelling, missing, decision) if numbers else _words(table, place, spelling)


def number_of(table: Table, place: int, spelling: Spelling) -> str:
    """Return the SQL expression for the number in a cell; NULL if the cell holds none."""
    if any(part in table.types[place] for part in NUMERIC):
        return f"CASE WHEN isfinite(CAST(c{place} AS DOUBLE)) THEN CAST(c{place} AS DOUBLE) END"
    return spelling.number(table.text(place))


def time_of(table: Table, place: int, written: str) -> str:
    """Return the SQL expression for the time in a cell, in seconds since 1970; NULL if it holds none."""
    return seconds(table.text(place), written) if table.is_text(place) else f"epoch(c{place}::TIMESTAMP)"


def levels_of(table: Table, place: int, spelling: Spelling) -> tuple[Codes, list[str]]:
    """Return the codes of a column's texts in text order; blanks around them do not count."""
    cells = [*table.levels(place)]
    texts = sorted({cell.strip() for cell in cells if not spelling.is_missing(cell)})
    code = {text: k for k, text in enumerate(texts)}
    merged = np.array([code.get(cell.strip(), MISSING) for cell in cells] + [MISSING])
    return merged[table.codes(place, cells)], texts


def _others(table: Table, place: int, spelling: Spelling) -> dict[str, int] | None:
    """Return {cell: number of rows} of the cells that are no numbers; None if there are too many texts."""
    found = table.levels(place, f"({number_of(table, place, spelling)}) IS NULL", MOST_LEVELS + 1)
    return None if len(found) > MOST_LEVELS else found


def _nulls(table: Table, place: int) -> int:
    return table.count(f"c{place} IS NULL")


def _number(table: Table, place: int, spelling: Spelling, missing: int, decision: str) -> Column:
    name, n = table.names[place], len(table)
    if decision == "number":
        return Column(name, place, "number", "--number names it", missing)
    low, high, whole, running, distinct = table.ask(
        f"SELECT min(v), max(v), count(*) FILTER (v = floor(v)), count(*) FILTER (v - row = low), "
        f"approx_count_distinct(v) FROM (SELECT v, row, min(v) OVER () AS low FROM "
        f"(SELECT {number_of(table, place, spelling)} AS v, rowid AS row FROM {CELLS}))"
    )[0]
    if low == high and not missing:
        return Column(name, place, "constant", f"every cell is {low:.6g}")
    if running == n > 2 and low in (0, 1):
        return Column(name, place, "id", f"the cells are the row numbers {low:.0f}, {low + 1:.0f}, …")
    if _is_called_id(name) and whole == n and distinct > 0.9 * n:
        return Column(name, place, "id", "whole numbers that never repeat, called an id")
    return Column(name, place, "number", f"numbers from {low:.6g} to {high:.6g}", missing)


def _is_called_id(name: str) -> bool:
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    return plain in ("id", "index", "uuid", "key") or plain.endswith("_id") or name.endswith(("Id", "ID"))


def _times(table: Table, place: int, spelling: Spelling) -> Column | None:
    """Return the column if all of its cells are times written in one way."""
    cells = [cell for cell in table.levels(place, most=SAMPLE) if not spelling.is_missing_number(cell)]
    if not cells:
        return None
    counts = ", ".join(f"count({seconds('c', written)})" for written in TIMES)
    listed = ", ".join(f"({literal(cell)})" for cell in cells)
    reads = table.ask(f"SELECT {counts} FROM (VALUES {listed}) AS t(c)")[0]
    for written, count in zip(TIMES, reads, strict=True):
        if count == len(cells):
            others = table.levels(place, f"({seconds(table.text(place), written)}) IS NULL", SAMPLE)
            if all(map(spelling.is_missing_number, others)):
                missing = _nulls(table, place) + sum(others.values())
                return Column(
                    table.names[place], place, "time", f"written like {written}", missing, {}, written
                )
    return None


def _words(table: Table, place: int, spelling: Spelling, reason: str = "") -> Column:
    name, n = table.names[place], len(table)
    cells = table.levels(place, most=MOST_LEVELS + 1)
    levels = {cell: count for cell, count in cells.items() if not spelling.is_missing(cell)}
    missing = n - sum(levels.values()) if len(cells) <= MOST_LEVELS else 0
    texts = len({cell.strip() for cell in levels})
    if reason and len(cells) <= MOST_LEVELS:
        return Column(name, place, "category", reason, missing, levels)
    if not levels:
        return Column(name, place, "empty", "every cell is missing", n)
    if len(cells) > MOST_LEVELS:
        return Column(name, place, "text", f"more than {MOST_LEVELS:,} different texts in {n:,} rows")
    if texts == 1 and not missing:
        return Column(name, place, "constant", f"every cell is {next(iter(levels)).strip()!r}")
    if texts > max(2, (n - missing) / 2):
        return Column(name, place, "text", f"{texts:,} different texts in {n - missing:,} cells", missing)
    if frozenset(cell.strip().lower() for cell in levels) in BOOLEANS:
        return Column(name, place, "boolean", "two opposite words", missing, levels)
    return Column(name, place, "category", f"{texts:,} different texts", missing, levels)


def others_error(table: Table, place: int, numbers: int, bad: list[str], kind: str = "number") -> DataError:
    """Return the error about cells that are something else in a column of numbers or times, with their places."""
    listed = ", ".join(map(literal, bad))
    cell = table.text(place)
    found = table.ask(
        f"SELECT min(rowid), {cell} AS c FROM {CELLS} WHERE c IN ({listed}) GROUP BY c ORDER BY 1"
    )
    said = ", ".join(f"{table.place(row)} holds {text!r}" for row, text in found)
    name = table.names[place]
    return DataError(
        f"{table.source}, column {name!r}: {numbers:,} of {len(table):,} cells are {kind}s; {said}. "
        f"If that means a missing cell, use --missing {found[0][1]!r}; if the column holds categories, use "
        f"--categorical {name!r}"
    )
