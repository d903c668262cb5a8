"""What a column of texts is: booleans, categories, ids, free text, or numbers with signs."""

from collections.abc import Mapping

from ffnn_gpu.checks import counted
from ffnn_gpu.tables.cells import holding, option_value, said
from ffnn_gpu.tables.columns import FEW_LEVELS, FEW_OTHERS, SEVERAL, Column
from ffnn_gpu.tables.row_ids import all_differ, look_like_ids
from ffnn_gpu.tables.scan import MOST_LISTED, SAMPLE, Counts, spread
from ffnn_gpu.tables.spelling import Spelling, are_booleans, number_with_signs
from ffnn_gpu.tables.table import CELLS, Table


def words(table: Table, place: int, spelling: Spelling, counts: Counts, reason: str = "") -> Column:
    """Return the column as texts. reason: why they are categories, "" to find out whether they are."""
    name, n = table.names[place], len(table)
    cells = counts.levels
    if cells is None:
        cells = table.levels(place, most=MOST_LISTED + 1)
        if len(cells) > MOST_LISTED:
            return _many_words(table, place, counts)
    levels = {cell: count for cell, count in cells.items() if not spelling.is_missing_level(cell)}
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
    if texts == present > 2 and look_like_ids(name, levels):
        return Column(name, place, "id", "every cell is another word", missing)
    if texts > max(2, present / 2):
        return Column(
            name, place, "text", f"{texts:,} different texts in {counted(present, 'cell')}", missing
        )
    return Column(name, place, "category", counted(texts, "different text"), missing, levels)


def are_regular(levels: Mapping[str, int]) -> bool:
    """Return whether texts are few and each is in several rows, so that none is a slip."""
    return len(levels) <= FEW_LEVELS and min(levels.values()) >= SEVERAL


def _many_words(table: Table, place: int, counts: Counts) -> Column:
    """Return a column of more different texts than a category may have."""
    name, missing, text = table.names[place], len(table) - counts.present, table.text(place)
    sample = {
        cell: 1
        for (cell,) in table.ask(f"SELECT {text} AS c FROM {CELLS} WHERE {spread(table)} AND c IS NOT NULL")
    }
    if column := _signed_numbers(table, place, Spelling(table.decimal), sample, missing):
        return column
    if look_like_ids(name, sample) and all_differ(table, place):
        return Column(name, place, "id", "every cell is another word", missing)
    return Column(
        name, place, "text", f"more than {MOST_LISTED:,} different texts in {counts.present:,} cells", missing
    )


def _signed_numbers(
    table: Table, place: int, spelling: Spelling, levels: Mapping[str, int], missing: int
) -> Column | None:
    """Return the unclear column if almost all texts are numbers and more than a few have a sign."""
    if are_regular(levels):
        return None
    cells = [*levels][:SAMPLE]
    others = [cell for cell in cells if spelling.value(cell) is None]
    signs = {cell: sign for cell in others if (sign := number_with_signs(cell, table.decimal))}
    numbers = len(cells) - len(others) + len(signs)
    if len(signs) <= FEW_OTHERS * len(cells) or numbers < (1 - FEW_OTHERS) * len(cells):
        return None
    name, found = table.names[place], holding(table, place, signs, 1)
    value = option_value(name)
    sentence = (
        f"the cells are numbers with {signs[found[0][1]]}; {said(found)}. Write plain numbers in the file, "
        f"or use --categorical {value} or --drop {value}"
    )
    return Column(name, place, "unclear", sentence, missing)
