"""Which columns name the rows and say nothing about them.

A column is an id if it is called so and its cells never repeat, or if the cells count up with the rows. Why
names of times are exempt: years and steps of a series count up too and are learnt from. Why gaps count in a
first column without a name: a filtered index has gaps of several lengths, the times of a series have one, and
seconds since 1970 have few of the numbers in their range.
"""

import re
from collections.abc import Mapping

from ffnn_gpu.tables.scan import Counts
from ffnn_gpu.tables.table import CELLS, Table

LONGEST_ID = 64  # characters
IDS = (
    "id", "index", "uuid", "guid", "key", "rowid", "row_id", "", "pid", "uid", "caseid", "userid",
    "patientid", "subjectid", "customerid", "orderid", "idnum", "idno",
)  # fmt: skip
# names of ids if the cells also increase from row to row
IN_ORDER = frozenset((
    "no", "nr", "num", "number", "row", "rows", "rownum", "rownames", "rowname", "row_names", "row_number",
    "obs", "observation", "record", "case", "seq", "sequence", "serial", "sno", "s_no", "sl_no", "#", "idx",
    "ix", "pk", "level_0",
))  # fmt: skip
# names of what counts up with the rows and is learnt from: times, and the x of a curve
COUNTED = frozenset((
    "year", "years", "yr", "quarter", "month", "week", "day", "days", "date", "hour", "minute", "second",
    "seconds", "time", "timestamp", "ts", "t", "x", "step", "steps", "period", "season", "epoch", "tick",
    "frame", "age", "cycle", "round", "lap", "iteration", "generation", "jahr", "tag", "zeit",
))  # fmt: skip
YEARS = range(1800, 2101)
FEWEST_RUNNING = 20  # rows of a first column that counts up from another number than 0 or 1
LEAST_DENSITY = 0.1  # share of the whole numbers in its range that an index without a name has after a filter


def number_id(table: Table, place: int, value: str, counts: Counts) -> str:
    """Return why a column of numbers is an id, "" if it is none.

    value: the SQL expression of the number in a cell.
    """
    name, n, low, high = table.names[place], len(table), counts.low, counts.high
    if counts.numbers != n or n <= 2 or low % 1 or high % 1 or high - low < n - 1:
        return ""
    is_counted = _is_called_counted(name) and not is_called_id(name)
    may_run = low in (0, 1) or (place == 0 and _may_be_index(n, low, high))
    runs = high == low + n - 1 and may_run and not is_counted
    if runs and table.count(f"({value}) = rowid + {int(low)}") == n:
        what = "row numbers" if low in (0, 1) else "running numbers"
        return f"the cells are the {what} {int(low)}, {int(low) + 1}, …"
    nameless = _is_nameless(table, place)
    if (nameless or is_called_id(name)) and counts.varied and _are_unique_and_whole(table, place, value):
        how = "without a name" if nameless or name.startswith("Unnamed") else "called an id"
        return f"whole numbers that never repeat, {how}"
    is_dense = n >= LEAST_DENSITY * (high - low + 1) and _may_be_index(n, low, high)
    first = not table.has_names and place == 0 and is_dense
    if (first and _increases(table, value, evenly=False)) or (
        _plain(name) in IN_ORDER and _increases(table, value)
    ):
        how = "in the first column, which has no name" if first else f"called {name!r}"
        return f"whole numbers that increase from row to row, {how}"
    return ""


def look_like_ids(name: str, cells: Mapping[str, int]) -> bool:
    """Return whether texts that never repeat are names of rows and not sentences."""
    return is_called_id(name) or all(
        len(cell) <= LONGEST_ID and " " not in cell.strip() and any(map(str.isdigit, cell)) for cell in cells
    )


def is_called_id(name: str) -> bool:
    """Return whether a column has the name of an id."""
    plain = _plain(name)
    if plain in IDS or plain.endswith("_id") or plain.startswith(("id_", "unnamed:_")):
        return True
    return name.endswith(("Id", "ID")) and not name.isupper()


def all_differ(table: Table, place: int) -> bool:
    """Return whether no cell repeats."""
    cell = table.stored(place)
    distinct, present = table.ask(f"SELECT count(DISTINCT {cell}), count({cell}) FROM {CELLS}")[0]
    return bool(distinct == present)


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_").replace(".", "_")


def _is_called_counted(name: str) -> bool:
    """Return whether a word in a name is one of COUNTED: "year", "Year_built", "timeStep"."""
    return not COUNTED.isdisjoint(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name))


def _is_nameless(table: Table, place: int) -> bool:
    """Return whether the header has an empty name here, as the index that pandas writes."""
    return table.has_names and table.names[place] == str(place)


def _may_be_index(n: int, low: float, high: float) -> bool:
    """Return whether numbers that increase may be an index: they are many and no years."""
    return n >= FEWEST_RUNNING and low >= 0 and not (low in YEARS and high in YEARS)


def _increases(table: Table, value: str, evenly: bool = True) -> bool:
    """Return whether all cells are whole numbers, each larger than the one before.

    evenly: whether they may be evenly spaced, as the times of a series are.
    """
    numbers = f"SELECT ({value}) AS v, lag(v) OVER (ORDER BY rowid) AS before FROM {CELLS}"
    broken, shortest, longest = table.ask(
        f"SELECT count_if(v <= before OR v <> floor(v)), min(v - before), max(v - before) FROM ({numbers})"
    )[0]
    return bool(broken == 0 and (evenly or shortest < longest))


def _are_unique_and_whole(table: Table, place: int, value: str) -> bool:
    whole = table.count(f"({value}) = floor({value})")
    return whole == len(table) and all_differ(table, place)
