"""In which way the cells of a column write times.

All cells of a column are read in one way. Where day and month could be either, the order of the rows decides
if it can, else the month comes first; both are said.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from ffnn_gpu.tables.scan import SAMPLE, Counts, spread
from ffnn_gpu.tables.spelling import ISO, Spelling, seconds
from ffnn_gpu.tables.table import CELLS, Table, literal

DATES = (
    "%Y/%m/%d", "%Y.%m.%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m-%d-%Y", "%d-%m-%Y", "%m/%d/%y",
    "%d/%m/%y", "%d.%m.%y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d. %b %Y", "%b %d, %Y", "%b %d %Y",
    "%d %B %Y", "%d. %B %Y", "%B %d, %Y", "%a, %d %b %Y",
)  # fmt: skip
CLOCKS = ("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
ZONED = tuple(
    f"%Y-%m-%d{middle}%H:%M:%S{fraction}{zone}"
    for middle in "T " for fraction in ("", ".%f") for zone in ("Z", "%z", " UTC")
)  # fmt: skip
# in strptime's language; the first that reads most cells is used
WAYS = (
    *ISO, *ZONED, *(date + clock for clock in CLOCKS for date in DATES), "%Y-%m-%d %I:%M %p",
    "%Y-%m-%d %I:%M:%S %p", "%I:%M %p", "%I:%M:%S %p", "%b %Y", "%b-%Y", "%B %Y", "%Y-%m", "%Y/%m",
)  # fmt: skip
PATTERNS = {
    "%Y": r"\d{4}", "%y": r"\d{2}", "%m": r"\d{1,2}", "%d": r"\d{1,2}", "%H": r"\d{1,2}", "%I": r"\d{1,2}",
    "%M": r"\d{1,2}", "%S": r"\d{1,2}", "%f": r"\d{1,9}", "%b": "[A-Za-z]{3}", "%B": "[A-Za-z]{3,9}",
    "%a": "[A-Za-z]{3}", "%p": "[AaPp][Mm]", "%z": r"[+-]\d\d(?::?\d\d)?",
}  # fmt: skip
FIRST_LOOK = 30  # cells that leave few of the ways
ALMOST_ALL = 0.95


@dataclass(frozen=True)
class Times:
    """How a column's times are written.

    Attributes:
        written: in strptime's language.
        read: the number of cells that are times.
        others: {cell: number of rows} of the cells that are not, but for missing ones.
        note: what was decided without evidence.
    """

    written: str
    read: int
    others: dict[str, int]
    note: str = ""


def times_of(table: Table, place: int, spelling: Spelling, counts: Counts) -> Times | None:
    """Return how a column of texts writes times; None if less than 95 % of its cells are times."""
    cells = [cell for cell in _sample(table, place, counts) if not spelling.is_missing_number(cell)]
    if not cells or not any(letter.isdigit() for letter in cells[0]):
        return None
    written = _best(table, cells)
    if not written:
        return None
    text = table.text(place)
    swapped = _swapped(written)
    note = ""
    if swapped != written:
        written, note = _day_or_month(table, text, written, swapped)
    value = seconds(text, written)
    table.compute([value])
    ((read, *_),) = table.spans([value])
    found = table.levels(place, f"({value}) IS NULL", SAMPLE) if read < counts.present else {}
    others = {cell: count for cell, count in found.items() if not spelling.is_missing_number(cell)}
    if sum(others.values()) > (1 - ALMOST_ALL) * (read + sum(others.values())):
        return None
    return Times(written, read, others, note)


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
        return chosen, f"read as {chosen} because the rows are then in order; no day is above 12"
    month_first = written if written.startswith("%m") else swapped
    return (
        month_first,
        f"read as {month_first}, the month first; no day is above 12, so it may be the other way",
    )
