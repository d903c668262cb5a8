"""What each column is, with the reason, and what the user decided otherwise.

A kind is decided by all cells of a column, never by its worst one: if almost all are numbers, the few others
are an error that names their lines and the options that say what they mean.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.cells import family, holding, number_of, option_value, others_sentence, said, time_of
from ffnn_gpu.tables.scan import MOST_LISTED, SAMPLE, Counts, others, scan, spread
from ffnn_gpu.tables.spelling import Spelling, are_booleans, number_with_signs
from ffnn_gpu.tables.table import CELLS, Table
from ffnn_gpu.tables.times import times_of

Kind = Literal[
    "number", "boolean", "category", "time",
    "text", "id", "constant", "empty", "dropped", "weight", "group", "unclear",
]  # fmt: skip
USED: tuple[Kind, ...] = ("number", "boolean", "category", "time")

FEW_OTHERS = 0.05  # share of other cells up to which a column of numbers is an error, above it is text
FEW_LEVELS, SEVERAL = 20, 3  # "3+" among numbers is a level if there are few levels, each in several rows
LONGEST_ID = 64  # characters
# 007, which is no quantity. Why first < '1': it costs nothing, and few numbers begin with 0 or a blank.
LEADING_ZERO = r"{0} < '1' AND regexp_full_match({0}, '\s*0[0-9]+\s*')"
IDS = ("id", "index", "uuid", "guid", "key", "rowid", "row_id", "")


@dataclass(frozen=True)
class Decisions:
    """What the user says about columns, by name.

    Args:
        categorical, number: the columns that are categories, or numbers.
        drop, id: the columns that are not used; ids name the rows.
        weight: the column with the weight of each row.
        group: the column of which rows with the same cell stay in one part of a split.
        split_by: the column by which earlier rows are for training and later ones for the test.
        missing: texts that mean a missing cell.
    """

    categorical: tuple[str, ...] = ()
    number: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    id: tuple[str, ...] = ()
    weight: str | None = None
    group: str | None = None
    split_by: str | None = None
    missing: tuple[str, ...] = ()

    def named(self) -> list[tuple[str, str]]:
        """Return (setting, name of a column) for each decision about a column."""
        found = []
        for setting in (each.name for each in fields(self) if each.name != "missing"):
            value = getattr(self, setting)
            names = value if isinstance(value, tuple) else () if value is None else (value,)
            found += [(setting, name) for name in names]
        return found


@dataclass(frozen=True)
class Column:
    """One column of a table: what it is, and why.

    Attributes:
        place: its index in the table.
        missing: the number of missing cells.
        levels: {cell: number of rows} of a boolean or a category, as the cells are written.
        written: how times are written, in strptime's language; "" for a column of times.
        note: what was decided without evidence.
    """

    name: str
    place: int
    kind: Kind
    reason: str
    missing: int = 0
    levels: dict[str, int] = field(default_factory=dict)
    written: str = ""
    note: str = ""

    @property
    def is_used(self) -> bool:
        """True if a network can learn from it."""
        return self.kind in USED


def columns_of(
    table: Table,
    decisions: Decisions,
    spelling: Spelling,
    without: Iterable[str] = (),
    allow_unclear: bool = False,
) -> list[Column]:
    """Return the columns of a table but those called `without`.

    allow_unclear: return a column with a few bad cells as "unclear", with the error as its reason.

    Raises DataError: a column of numbers has a few other cells, or a decision names no column.
    """
    decided = decisions_by_place(table, decisions)
    left_out = {*without}
    places = [k for k, name in enumerate(table.names) if name not in left_out]
    counts = scan(table, [place for place in places if not _is_set_apart(decided.get(place, ""))], spelling)
    columns = [_column(table, place, decided.get(place, ""), spelling, counts) for place in places]
    unclear = [column for column in columns if column.kind == "unclear"]
    if unclear and not allow_unclear:
        raise DataError(_sentence(table, unclear))
    return columns


def decisions_by_place(table: Table, decisions: Decisions) -> dict[int, str]:
    """Return the setting that names each column; split_by only where nothing else does.

    Raises DataError: a name is no column, or two settings contradict each other.
    """
    decided: dict[int, str] = {}
    for setting, name in decisions.named():
        option = f"--{setting.replace('_', '-')}"
        place = table.column(name, option)
        before = decided.get(place, setting)
        if setting == "split_by":
            decided.setdefault(place, setting)
        elif before != setting:
            raise DataError(
                f"column {table.names[place]!r} is named by --{before} and by {option}; choose one"
            )
        else:
            decided[place] = setting
    return decided


def _is_set_apart(decision: str) -> bool:
    return decision in ("drop", "id", "weight", "group")


def _sentence(table: Table, unclear: list[Column]) -> str:
    first = unclear[0]
    more = [repr(column.name) for column in unclear[1:6]] + ["…"] * (len(unclear) > 6)
    also = f". The same holds for {', '.join(more)}; `ffnn-gpu inspect` lists all" if more else ""
    return f"{table.source}, column {first.name!r}: {first.reason}{also}"


def _column(
    table: Table, place: int, decision: str, spelling: Spelling, counted: Mapping[int, Counts]
) -> Column:
    name, kind = table.names[place], table.types[place]
    if _is_set_apart(decision):
        says = {"drop": "dropped", "id": "id", "weight": "weight", "group": "group"}
        return Column(name, place, says[decision], f"--{decision} names it")  # type: ignore[arg-type]
    counts = counted[place]
    missing = len(table) - counts.present
    if not counts.present:
        return Column(name, place, "empty", "every cell is missing", missing)
    if decision == "categorical":
        return _words(table, place, spelling, counts, "--categorical names it")
    if place in table.declared and decision != "number":
        return _words(table, place, spelling, counts, "its type is categorical")
    sort = family(kind)
    if sort == "other":
        label: Kind = "id" if kind == "UUID" else "text"
        return Column(name, place, label, f"its type is {kind.lower()}", missing)
    if sort == "time":
        return _typed_time(table, place, missing)
    if sort == "text" and counts.varied and not counts.numbers and decision != "number":
        return _times(table, place, spelling, counts) or _words(table, place, spelling, counts)
    return _number_or_words(table, place, decision, spelling, counts)


def _number_or_words(table: Table, place: int, decision: str, spelling: Spelling, counts: Counts) -> Column:
    stray = others(table, place, spelling, counts)
    if stray is None:
        if decision != "number":
            return _times(table, place, spelling, counts) or _words(table, place, spelling, counts)
        value = number_of(table, place, spelling)
        stray = table.levels(place, f"({value}) IS NULL", SAMPLE)
    bad = {cell: count for cell, count in stray.items() if not spelling.is_missing_number(cell)}
    missing = len(table) - counts.numbers - sum(bad.values())
    if bad and decision != "number" and _are_words(table, counts, bad):
        return _times(table, place, spelling, counts) or _words(table, place, spelling, counts)
    if bad:
        sentence = others_sentence(table, place, counts.numbers, [*bad][:3])
        return Column(table.names[place], place, "unclear", sentence, missing)
    if not counts.numbers:
        return _words(table, place, spelling, counts)
    if decision != "number" and table.is_text(place) and table.count(LEADING_ZERO.format(table.text(place))):
        return _words(table, place, spelling, counts, "numbers with leading zeros are names")
    return _number(table, place, spelling, counts, missing, decision)


def _are_words(table: Table, counts: Counts, bad: Mapping[str, int]) -> bool:
    """Return whether the cells that are no numbers are too many, or too regular, for a slip."""
    cells = counts.numbers + sum(bad.values())
    if sum(bad.values()) > FEW_OTHERS * cells:
        return True
    levels = counts.levels or {}
    return bool(levels) and (
        are_booleans(levels) or (len(levels) <= FEW_LEVELS and min(levels.values()) >= SEVERAL)
    )


def _number(
    table: Table, place: int, spelling: Spelling, counts: Counts, missing: int, decision: str
) -> Column:
    name, low, high = table.names[place], counts.low, counts.high
    if decision == "number":
        return Column(name, place, "number", "--number names it", missing)
    if low == high and not missing:
        return Column(name, place, "constant", f"every cell is {low:.6g}")
    value = number_of(table, place, spelling)
    if counts.numbers == len(table) > 2 and low in (0, 1) and high == low + len(table) - 1:
        first = int(low)
        if table.count(f"({value}) = rowid + {first}") == len(table):
            return Column(name, place, "id", f"the cells are the row numbers {first}, {first + 1}, …")
    nameless = table.has_names and name == str(place)  # the index that pandas writes has an empty name
    if (nameless or _is_called_id(name)) and counts.varied and _are_unique_and_whole(table, place, value):
        said_how = "without a name" if nameless or name.startswith("Unnamed") else "called an id"
        return Column(name, place, "id", f"whole numbers that never repeat, {said_how}")
    return Column(name, place, "number", f"numbers from {low:.6g} to {high:.6g}", missing)


def _is_called_id(name: str) -> bool:
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    if plain in IDS or plain.endswith("_id") or plain.startswith(("id_", "unnamed:_")):
        return True
    return name.endswith(("Id", "ID")) and not name.isupper()


def _are_unique_and_whole(table: Table, place: int, value: str) -> bool:
    """Return whether all cells are different whole numbers, more than two."""
    whole = table.count(f"({value}) = floor({value})")
    return whole == len(table) > 2 and _all_differ(table, place)


def _all_differ(table: Table, place: int) -> bool:
    distinct, present = table.ask(f"SELECT count(DISTINCT c{place}), count(c{place}) FROM {CELLS}")[0]
    return bool(distinct == present)


def _typed_time(table: Table, place: int, missing: int) -> Column:
    name, kind = table.names[place], table.types[place].lower()
    value = time_of(table, place, "")
    low, high, lacking = table.ask(
        f"SELECT min({value}), max({value}), count_if({value} IS NULL) FROM {CELLS}"
    )[0]
    if low is None:
        return Column(name, place, "empty", "every cell is missing", lacking)
    if low == high and not lacking:
        return Column(name, place, "constant", "every cell is the same time")
    return Column(name, place, "time", f"its type is {kind}", lacking)


def _times(table: Table, place: int, spelling: Spelling, counts: Counts) -> Column | None:
    """Return the column if almost all of its cells are times written in one way."""
    found = times_of(table, place, spelling, counts)
    if found is None:
        return None
    name, missing = table.names[place], len(table) - found.read - sum(found.others.values())
    if found.others:
        sentence = others_sentence(table, place, found.read, [*found.others][:3], "time")
        return Column(name, place, "unclear", sentence, missing)
    levels = counts.levels or {}
    if len(levels) == 1 and not missing:
        return Column(name, place, "constant", f"every cell is {next(iter(levels)).strip()!r}")
    reason = f"written like {found.written}"
    return Column(name, place, "time", reason, missing, {}, found.written, found.note)


def _words(table: Table, place: int, spelling: Spelling, counts: Counts, reason: str = "") -> Column:
    name, n = table.names[place], len(table)
    cells = counts.levels
    if cells is None:
        cells = table.levels(place, most=MOST_LISTED + 1)
    if len(cells) > MOST_LISTED:
        return _many_words(table, place, counts)
    levels = {cell: count for cell, count in cells.items() if not spelling.is_missing(cell)}
    present = sum(levels.values())
    missing, texts = n - present, len({cell.strip() for cell in levels})
    if not levels:
        return Column(name, place, "empty", "every cell is missing", n)
    if reason:
        return Column(name, place, "category", reason, missing, levels)
    if texts == 1 and not missing:
        return Column(name, place, "constant", f"every cell is {next(iter(levels)).strip()!r}")
    if column := _signed_numbers(table, place, spelling, levels, missing):
        return column
    if are_booleans(cell for cell in levels if not spelling.is_missing_number(cell)):
        unknown = sum(count for cell, count in levels.items() if spelling.is_missing_number(cell))
        return Column(name, place, "boolean", "two opposite words", missing + unknown, levels)
    if texts == present > 2 and _look_like_ids(name, levels):
        return Column(name, place, "id", "every cell is another word", missing)
    if texts > max(2, present / 2):
        return Column(name, place, "text", f"{texts:,} different texts in {present:,} cells", missing)
    return Column(name, place, "category", f"{texts:,} different texts", missing, levels)


def _many_words(table: Table, place: int, counts: Counts) -> Column:
    """Return a column of more different texts than a category may have."""
    name, missing, text = table.names[place], len(table) - counts.present, table.text(place)
    sample = {
        cell: 1
        for (cell,) in table.ask(f"SELECT {text} AS c FROM {CELLS} WHERE {spread(table)} AND c IS NOT NULL")
    }
    if column := _signed_numbers(table, place, Spelling(table.decimal), sample, missing):
        return column
    if _look_like_ids(name, sample) and _all_differ(table, place):
        return Column(name, place, "id", "every cell is another word", missing)
    return Column(
        name, place, "text", f"more than {MOST_LISTED:,} different texts in {counts.present:,} cells", missing
    )


def _look_like_ids(name: str, cells: Mapping[str, int]) -> bool:
    """Return whether texts that never repeat are names of rows and not sentences."""
    return _is_called_id(name) or all(
        len(cell) <= LONGEST_ID and " " not in cell.strip() and any(map(str.isdigit, cell)) for cell in cells
    )


def _signed_numbers(
    table: Table, place: int, spelling: Spelling, levels: Mapping[str, int], missing: int
) -> Column | None:
    """Return the unclear column if almost all texts are numbers and some have a sign."""
    if len(levels) <= FEW_LEVELS and min(levels.values()) >= SEVERAL:
        return None
    signs = {cell: number_with_signs(cell, table.decimal) for cell in [*levels][:SAMPLE]}
    signed = [cell for cell, sign in signs.items() if sign]
    plain = sum(
        1
        for cell in signs
        if cell.strip().replace(spelling.decimal, ".").lstrip("+-").replace(".", "", 1).isdigit()
    )
    if not signed or len(signed) + plain < (1 - FEW_OTHERS) * len(signs):
        return None
    name, found = table.names[place], holding(table, place, signed[:1])
    value = option_value(name)
    sentence = (
        f"the cells are numbers with {signs[signed[0]]}; {said(found)}. Write plain numbers in the file, or "
        f"use --categorical {value} or --drop {value}"
    )
    return Column(name, place, "unclear", sentence, missing)
