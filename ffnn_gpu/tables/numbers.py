"""Columns of numbers in a table → a matrix, for models that were trained on arrays."""

from collections.abc import Sequence

import numpy as np

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.cells import number_of
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import CELLS, Floats, Table


def numbers_of(table: Table, places: Sequence[int]) -> Floats:
    """Return the numbers (n, places) of some columns. Raises DataError for any other cell, with its line."""
    x, spelling = np.empty((len(table), len(places))), Spelling(table.decimal)
    for k, place in enumerate(places):
        x[:, k] = table.numbers(number_of(table, place, spelling))
        if np.isnan(x[:, k]).any():
            raise _error(table, place, int(np.flatnonzero(np.isnan(x[:, k]))[0]))
    return x


def _error(table: Table, place: int, row: int) -> DataError:
    cell = table.ask(f"SELECT {table.text(place)} FROM {CELLS} WHERE rowid = {row}")[0][0]
    trouble = "the cell is empty" if not (cell or "").strip() else f"{cell!r} is not a finite number"
    where = f"{table.source}, {table.place(row)}, column {table.names[place]!r}"
    return DataError(f"{where}: {trouble}; the model was trained on numbers only")
