"""In which way the cells of a column write times.

All cells of a column are read in one way, or in several ways of ISO 8601. Where day and month could be
either, the user decides, else the order of the rows if it can, else the month comes first; the last two are
said.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from ffnn_gpu.tables.cells import EXAMPLES, holding, option_value, said
from ffnn_gpu.tables.embedded_database import literal
from ffnn_gpu.tables.iso_times import MIXED, ZONED
from ffnn_gpu.tables.scan import SAMPLE, Counts, spread
from ffnn_gpu.tables.spelling import ISO, Spelling, seconds
from ffnn_gpu.tables.table import CELLS, Table

DATES = (
    "%Y/%m/%d", "%Y.%m.%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m-%d-%Y", "%d-%m-%Y", "%m/%d/%y",
    "%d/%m/%y", "%d.%m.%y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d. %b %Y", "%b %d, %Y", "%b %d %Y",
    "%d %B %Y", "%d. %B %Y", "%B %d, %Y", "%B %d %Y", "%a, %d %b %Y",
)  # fmt: skip
CLOCKS = ("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
WITH_ZONE = tuple(
    f"%Y-%m-%d{middle}%H:%M:%S{fraction}{zone}"
    for middle in "T " for fraction in ("", ".%f") for zone in ("Z", "%z", " UTC")
)  # fmt: skip
# in strptime's language; the first that reads most cells is used
WAYS = (
    *ISO, *WITH_ZONE, *(date + clock for clock in CLOCKS for date in DATES), "%Y-%m-%d %I:%M %p",
    "%Y-%m-%d %I:%M:%S %p", "%I:%M %p", "%I:%M:%S %p", "%b %Y", "%b-%Y", "%B %Y", "%Y-%m", "%Y/%m",
)  # fmt: skip
PATTERNS = {
    "%Y": r"\d{4}", "%y": r"\d{2}", "%m": r"\d{1,2}", "%d": r"\d{1,2}", "%H": r"\d{1,2}", "%I": r"\d{1,2}",
    "%M": r"\d{1,2}", "%S": r"\d{1,2}", "%f": r"\d{1,9}", "%b": "[A-Za-z]{3}", "%B": "[A-Za-z]{3,9}",
    "%a": "[A-Za-z]{3}", "%p": "[AaPp][Mm]", "%z": r"[+-]\d\d(?::?\d\d)?",
}  # fmt: skip
FIRST_LOOK = 30  # cells that leave few of the ways
ALMOST_ALL = 0.95
Levels = dict[str, int] | None
OPTIONS = "--day-first or --month-first decides"


@dataclass(frozen=True)
class Times:
    """How a column's times are written.

    Attributes:
        written: in strptime's language.
        read: the number of cells that are times.
        others: {cell: number of rows} of the cells that are not, but for missing ones.
        note: what was decided without evidence.
        trouble: what is wrong with the others, if it is more than that they are no times.
    """

    written: str
    read: int
    others: dict[str, int]
    note: str = ""
    trouble: str = ""


def times_of(table: Table, place: int, spelling: Spelling, counts: Counts) -> Times | None:
    """Return how a column of texts writes times; None if less than 95 % of its cells are times."""
    cells = [cell for cell in _sample(table, place, counts) if not spelling.is_missing_number(cell)]
    if not cells or not any(letter.isdigit() for letter in cells[0]):
        return None
    written, note, is_forced = _best(table, cells), "", False
    swapped = _swapped(written)
    if swapped != written and spelling.day_first is not None:
        written = min(written, swapped) if spelling.day_first else max(written, swapped)  # %d < %m
        is_forced = True
    elif swapped != written:
        written, note = _day_or_month(table, spelling.filled(table.text(place)), written, swapped)
    found = _read(table, place, spelling, written, counts.levels) if written else None
    if found is None or (found.others and not is_forced):
        found = _read_as_iso(table, place, spelling, cells, counts.levels) or found
    if found is None:
        return None
    if is_forced and found.others:
        return replace(found, trouble=_wrong_order(table, place, found, spelling))
    if not found.trouble and sum(found.others.values()) > (1 - ALMOST_ALL) * _cells(found):
        return None
    return replace(found, note=note)


def _read(table: Table, place: int, spelling: Spelling, written: str, levels: Levels) -> Times:
    """Return which cells are times if all are written in one way.

    levels: those of the column, if they are known.
    """
    time = seconds(spelling.filled(table.text(place)), written)
    if levels is not None:
        times = table.valued([*levels], time, f"c{place}")
        found = {cell: levels[cell] for cell, value in zip(levels, times, strict=True) if value is None}
        read = sum(levels.values()) - sum(found.values())
        found = dict([*found.items()][:SAMPLE])
    else:
        table.compute([time])
        ((read, *_),) = table.spans([time])
        found = table.levels(place, f"({time}) IS NULL", SAMPLE) if read < len(table) else {}
    others = {cell: count for cell, count in found.items() if not spelling.is_missing_number(cell)}
    return Times(written, read, others)


def _read_as_iso(
    table: Table, place: int, spelling: Spelling, cells: list[str], levels: Levels
) -> Times | None:
    """Return which cells are times in any way of ISO 8601; None if almost none or too few are."""
    (_, plain), (_, zoned) = _reads(table, cells, (MIXED, ZONED))
    if plain + zoned < ALMOST_ALL * len(cells):
        return None
    found = _read(table, place, spelling, ZONED if zoned > plain else MIXED, levels)
    other = seconds(spelling.filled(table.text(place)), MIXED if zoned > plain else ZONED)
    rest = table.levels(place, f"({other}) IS NOT NULL", SAMPLE)
    mixed = {cell: count for cell, count in found.others.items() if cell in rest}
    if not mixed:
        return found
    with_zone = found.read if zoned > plain else sum(mixed.values())
    return replace(
        found,
        trouble=(
            f"{with_zone:,} of {_cells(found):,} times have a zone such as Z or +02:00 and the others none; "
            f"{said(holding(table, place, mixed, EXAMPLES))}. Write all with a zone or none, or use "
            f"--drop {option_value(table.names[place])}"
        ),
    )


def _cells(found: Times) -> int:
    return found.read + sum(found.others.values())


def _wrong_order(table: Table, place: int, found: Times, spelling: Spelling) -> str:
    """Return what contradicts the order of day and month that the user gave."""
    given, other = ("--day-first", "month") if spelling.day_first else ("--month-first", "day")
    return (
        f"with {given}, {found.read:,} of {_cells(found):,} cells are times written like {found.written}; "
        f"{said(holding(table, place, found.others, EXAMPLES))}. Correct them, use --missing for them, or "
        f"--{other}-first"
    )


def _sample(table: Table, place: int, counts: Counts) -> list[str]:
    if counts.levels is not None:
        return [*counts.levels][:SAMPLE]
    cell, where = table.text(place), spread(table, SAMPLE // 2)
    query = f"SELECT DISTINCT {cell} AS c FROM {CELLS} WHERE {where} AND c IS NOT NULL ORDER BY c"
    return [text for (text,) in table.ask(query)]


def _best(table: Table, cells: list[str]) -> str:
    """Return the first way that reads most of the cells, "" if none reads almost all."""
    few = cells[:: max(1, len(cells) // FIRST_LOOK)]
    near = [
        way for way in WAYS if sum(map(bool, map(_pattern(way).fullmatch, few))) >= ALMOST_ALL * len(few) - 1
    ]
    if not near:
        return ""
    way, count = max(_reads(table, cells, near), key=lambda item: item[1])
    return way if count >= ALMOST_ALL * len(cells) else ""


@cache
def _pattern(way: str) -> re.Pattern[str]:
    """Return the pattern of texts written in a way. Why: DuckDB takes seconds to plan a query of all ways."""
    parts = re.split(r"(%[a-zA-Z])", way)
    return re.compile(r"\s*" + "".join(PATTERNS.get(part) or re.escape(part) for part in parts) + r"\s*")


def _reads(table: Table, cells: list[str], ways: Sequence[str]) -> list[tuple[str, int]]:
    counts = ", ".join(f"count({seconds('c', way)})" for way in ways)
    listed = ", ".join(f"({literal(cell)})" for cell in cells)
    return [*zip(ways, table.ask(f"SELECT {counts} FROM (VALUES {listed}) AS t(c)")[0], strict=True)]


def _swapped(written: str) -> str:
    """Return the way with day and month exchanged, if both are numbers separated by / or -."""
    for sign in "/-":
        if written.startswith((f"%m{sign}%d", f"%d{sign}%m")):
            return written[3:5] + sign + written[:2] + written[5:]
    return written


def _day_or_month(table: Table, text: str, written: str, swapped: str) -> tuple[str, str]:
    """Return the way that reads more cells, or leaves the rows in order, and a note where neither decides."""
    one, other = seconds(text, written), seconds(text, swapped)
    reads, reads_swapped = table.ask(f"SELECT count({one}), count({other}) FROM {CELLS}")[0]
    if reads != reads_swapped:
        return (written, "") if reads > reads_swapped else (swapped, "")
    times = f"SELECT rowid AS r, {one} AS a, {other} AS b FROM {CELLS}"
    before = f"SELECT a, b, lag(a) OVER (ORDER BY r) AS a0, lag(b) OVER (ORDER BY r) AS b0 FROM ({times})"
    back, back_swapped, same = table.ask(
        f"SELECT count_if(a < a0), count_if(b < b0), count_if(a <> b) = 0 FROM ({before})"
    )[0]
    if same:
        return written, ""
    if bool(back) != bool(back_swapped):
        chosen = swapped if back else written
        return chosen, f"read as {chosen} because the rows are then in order; no day is above 12, {OPTIONS}"
    month_first = written if written.startswith("%m") else swapped
    return (
        month_first,
        f"read as {month_first}, the month first; no day is above 12, so it may be the other way; {OPTIONS}",
    )
