"""What each column is, with the reason.

A kind is decided by all cells of a column, never by its worst one: if almost all are numbers, the few others
are an error that names their lines and the options that say what they mean. If at least half are numbers, the
column counts as text with a warning.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.cells import family, number_of, others_sentence, time_of
from ffnn_gpu.tables.columns import FEW_OTHERS, Column, Kind
from ffnn_gpu.tables.decisions import Decisions, decisions_by_place
from ffnn_gpu.tables.embedded_database import literal
from ffnn_gpu.tables.mixed_numbers import doubted
from ffnn_gpu.tables.row_ids import number_id
from ffnn_gpu.tables.scan import SAMPLE, Counts, others, scan
from ffnn_gpu.tables.spelling import Spelling, are_booleans
from ffnn_gpu.tables.table import CELLS, Table
from ffnn_gpu.tables.times import times_of
from ffnn_gpu.tables.words import are_regular, words

LEADING_ZERO = re.compile(r"[ \t\n\f\r]*0[0-9]+[ \t\n\f\r]*")  # 007, which is no quantity
PROOF_OF_POINT = r"[+-]?(\d{1,3}|\d.*\..*|\d.*,.*,.*)"  # 950, 1,234.5 or 1,234,567 beside 1,234


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
        whole = replace(counts, levels=table.levels(place))  # also of more levels than a scan lists
        return words(table, place, spelling, whole, "--categorical names it")
    if place in table.declared and decision != "number":
        return words(table, place, spelling, counts, "its type is categorical")
    sort = family(kind)
    if sort == "other":
        label: Kind = "id" if kind == "UUID" else "text"
        return Column(name, place, label, f"its type is {kind.lower()}", missing)
    if sort == "time":
        return _typed_time(table, place, spelling)
    if sort == "text" and counts.varied and not counts.numbers and decision != "number":
        return _times_or_words(table, place, spelling, counts)
    return _number_or_words(table, place, decision, spelling, counts)


def _number_or_words(table: Table, place: int, decision: str, spelling: Spelling, counts: Counts) -> Column:
    stray = others(table, place, spelling, counts)
    if stray is None and decision != "number":
        return _times_or_words(table, place, spelling, counts)
    if stray is None:
        value = number_of(table, place, spelling)
        stray = table.levels(place, f"({value}) IS NULL", SAMPLE)
    bad = {cell: count for cell, count in stray.items() if not spelling.is_missing_number(cell)}
    missing = len(table) - counts.numbers - sum(bad.values())
    # in a column whose type is numeric only infinities are bad, and they are no words
    is_number = family(table.types[place]) == "number"
    if bad and decision != "number" and not is_number and _are_words(table, counts, bad):
        return _times_or_words(table, place, spelling, counts)
    if bad:
        sentence = others_sentence(table, place, counts.numbers, [*bad])
        return Column(table.names[place], place, "unclear", sentence, missing)
    if not counts.numbers:
        return words(table, place, spelling, counts)
    if decision != "number" and _has_leading_zeros(table, place, counts):
        return words(table, place, spelling, counts, "numbers with leading zeros are names")
    return _number(table, place, spelling, counts, missing, decision)


def _are_words(table: Table, counts: Counts, bad: Mapping[str, int]) -> bool:
    """Return whether the cells that are no numbers are too many, or too regular, for a slip."""
    cells = counts.numbers + sum(bad.values())
    if sum(bad.values()) > FEW_OTHERS * cells:
        return True
    levels = counts.levels or {}
    return bool(levels) and (are_booleans(levels) or are_regular(levels))


def _number(
    table: Table, place: int, spelling: Spelling, counts: Counts, missing: int, decision: str
) -> Column:
    name, low, high = table.names[place], counts.low, counts.high
    if decision == "number":
        return Column(name, place, "number", "--number names it", missing)
    if low == high and not missing:
        return Column(name, place, "constant", f"every cell is {low:.6g}")
    if why := number_id(table, place, number_of(table, place, spelling), counts):
        return Column(name, place, "id", why)
    reason, note = f"numbers from {low:.6g} to {high:.6g}", _thousands_note(table, place, spelling, counts)
    return Column(name, place, "number", reason, missing, note=note)


def _may_have_signs(table: Table, place: int) -> bool:
    """Return whether numbers may have leading zeros or groups: those that the file keeps as text may."""
    return table.is_text(place) and place not in table.plain


def _has_leading_zeros(table: Table, place: int, counts: Counts) -> bool:
    if not _may_have_signs(table, place):
        return False
    if counts.levels is not None:
        return any(map(LEADING_ZERO.fullmatch, counts.levels))
    # Why the comparison first: it costs less than the pattern, and blanks and 0 are below 1.
    cell = table.text(place)
    return table.count(f"{cell} < '1' AND regexp_full_match({cell}, '{LEADING_ZERO.pattern}')") > 0


def _thousands_note(table: Table, place: int, spelling: Spelling, counts: Counts) -> str:
    """Return how numbers such as 1,234 are read if no cell of the column proves it; "" if there are none.

    After a decimal comma the file has proven that points group thousands.
    """
    if not _may_have_signs(table, place) or spelling.decimal == ",":
        return ""
    if counts.levels is not None and not any("," in cell for cell in counts.levels):
        return ""
    row = table.ask(f"SELECT min(rowid) FROM {CELLS} WHERE contains({table.text(place)}, ',')")[0][0]
    text = f"trim({table.text(place)})"
    if row is None or table.count(f"regexp_full_match({text}, {literal(PROOF_OF_POINT)})"):
        return ""
    cell = table.ask(f"SELECT {text} FROM {CELLS} WHERE rowid = {row}")[0][0]
    return (
        f"read with thousands: {cell!r} in {table.place(row)} is {cell.replace(',', '')}; if the comma is a "
        "decimal sign, use --decimal ,"
    )


def _typed_time(table: Table, place: int, spelling: Spelling) -> Column:
    name, kind = table.names[place], table.types[place].lower()
    value = time_of(table, place, "", spelling)
    low, high, lacking = table.ask(
        f"SELECT min({value}), max({value}), count_if({value} IS NULL) FROM {CELLS}"
    )[0]
    if low is None:
        return Column(name, place, "empty", "every cell is missing", lacking)
    if low == high and not lacking:
        return Column(name, place, "constant", "every cell is the same time")
    return Column(name, place, "time", f"its type is {kind}", lacking)


def _times_or_words(table: Table, place: int, spelling: Spelling, counts: Counts) -> Column:
    """Return the column as times if almost all of its cells are, else as texts."""
    found = times_of(table, place, spelling, counts)
    if found is None:
        return doubted(table, words(table, place, spelling, counts), spelling, counts)
    name, missing = table.names[place], len(table) - found.read - sum(found.others.values())
    if found.others:
        sentence = found.trouble or others_sentence(table, place, found.read, found.others, "time")
        return Column(name, place, "unclear", sentence, missing)
    levels = counts.levels or {}
    if len(levels) == 1 and not missing:
        return Column(name, place, "constant", f"every cell is {next(iter(levels)).strip()!r}")
    reason = f"written like {found.written}"
    return Column(name, place, "time", reason, missing, {}, found.written, found.note)
