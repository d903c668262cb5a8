"""Columns of texts that may be meant as numbers: half of the cells are, or all have a unit.

They are a warning and no error: house numbers, tickets and postal codes mix numbers and texts too. A column
that is left out, or becomes a category of many levels, is named with the options that decide otherwise.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from ffnn_gpu.checks import counted
from ffnn_gpu.tables.cells import holding, option_value, option_values, said
from ffnn_gpu.tables.columns import Column
from ffnn_gpu.tables.scan import SAMPLE, Counts
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Table
from ffnn_gpu.tables.words import are_regular

ENOUGH = 0.5  # share of the cells that are numbers
ALMOST_ALL = 0.95
EXAMPLES = 3
WITH_UNIT = re.compile(
    r"[+-]?\d+(?:[.,]\d+)?(?:\s?[^\W\d_]{1,9}|\s?[°µ%$€£][^\W\d_]{0,9})[²³]?(?:/\w{1,9}[²³]?)?"
)


def doubted(table: Table, column: Column, spelling: Spelling, counts: Counts) -> Column:
    """Return the column, with a note if at least half of its cells are numbers or all of them with a unit."""
    if column.kind not in ("text", "id", "category") or column.note:
        return column
    if counts.numbers:
        return _with_numbers(table, column, spelling, counts)
    return _with_units(table, column, spelling) if column.kind == "text" else column


def _with_numbers(table: Table, column: Column, spelling: Spelling, counts: Counts) -> Column:
    text = table.text(column.place)
    is_other = f"({spelling.number(text)}) IS NULL"
    bad = _present(table.levels(column.place, is_other, SAMPLE), spelling)
    others = sum(bad.values())
    if not bad or counts.numbers < ENOUGH * (counts.numbers + others):
        return column
    if counts.levels is not None and are_regular(_present(counts.levels, spelling)):
        return column
    are = "is a number" if counts.numbers == 1 else "are numbers"
    share = f"{counts.numbers:,} of its {counted(counts.numbers + others, 'cell')} {are}"
    return _noted(table, column, share, bad)


def _with_units(table: Table, column: Column, spelling: Spelling) -> Column:
    cells = _present(table.levels(column.place, most=SAMPLE), spelling)
    like = {cell: count for cell, count in cells.items() if WITH_UNIT.fullmatch(cell.strip())}
    if len(like) < ALMOST_ALL * len(cells):
        return column
    name = option_value(column.name)
    remedy = f"Write plain numbers in the file, or use --categorical {name} or --drop {name}"
    return _noted(table, column, "its cells are numbers with units", like, remedy)


def _present(cells: Mapping[str, int], spelling: Spelling) -> dict[str, int]:
    return {cell: count for cell, count in cells.items() if not spelling.is_missing_number(cell)}


def _noted(table: Table, column: Column, why: str, bad: Mapping[str, int], remedy: str = "") -> Column:
    """Return the column with a note. remedy: what to do, "" for what the bad cells may mean."""
    name, found = option_value(column.name), holding(table, column.place, bad, EXAMPLES)
    taken = f"taken as {column.kind}" + ("" if column.is_used else " and left out")
    more = ", …" if len(bad) > len(found) else ""
    remedy = remedy or (
        f"If such cells mean missing ones, use --missing {option_values(cell for _, cell in found)}; to "
        f"require numbers, use --number {name}; if they are categories, --categorical {name}"
    )
    return replace(column, note=f"{taken}, although {why}; {said(found)}{more}. {remedy}")
