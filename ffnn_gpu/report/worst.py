"""The test rows with the largest errors, with some of their cells."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.checks import shortened
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.report.findings import Worst, WorstRow
from ffnn_gpu.tables.rows import TableRows
from ffnn_gpu.tables.table import CELLS

ROWS, CELLS_OF_A_ROW = 20, 6
LONGEST = 40  # characters of a cell


class Answers(NamedTuple):
    """Of each test row: its error, a larger one is worse; what is true and what was predicted, as texts."""

    what: str
    error: HostArray
    true: Sequence[Any]
    predicted: Sequence[Any]


def worst_of(model: Model, x: Any, answers: Answers, important: Sequence[str]) -> Worst:
    """Return the rows of x with the largest errors.

    important: names of columns, of which the first ones are shown.
    """
    rows = np.argsort(-answers.error, kind="stable")[:ROWS]
    names = list(dict.fromkeys([*important, *_names(model)]))[:CELLS_OF_A_ROW]
    if isinstance(x, TableRows):
        names = [name for name in names if name in x.table.names]
        where, cells = _of_table(x, rows, names)
    else:
        where, cells = [f"test row {row + 1}" for row in rows.tolist()], _of_matrix(model, x, rows, names)
    found = (
        WorstRow(place, text(answers.true[row]), text(answers.predicted[row]), float(answers.error[row]), own)
        for place, own, row in zip(where, cells, rows.tolist(), strict=True)
    )
    return Worst(answers.what, tuple(names), tuple(found))


def _names(model: Model) -> Sequence[str]:
    if model.encoding is not None:
        return model.encoding.names
    return model.feature_names or column_names(model.network.n_in)


def column_names(count: int) -> list[str]:
    """Return what columns without names are called."""
    return [f"column {k}" for k in range(count)]


def _of_table(x: TableRows, rows: HostArray, names: Sequence[str]) -> tuple[list[str], list[tuple[str, ...]]]:
    table, ids = x.table, x.index[rows].tolist()
    cells = [table.text(table.names.index(name)) for name in names]
    listed = ", ".join(map(str, ids))
    asked = ", ".join(["rowid", *cells])
    found = {row: own for row, *own in table.ask(f"SELECT {asked} FROM {CELLS} WHERE rowid IN ({listed})")}
    return [table.place(row) for row in ids], [tuple(map(text, found[row])) for row in ids]


def _of_matrix(model: Model, x: Any, rows: HostArray, names: Sequence[str]) -> list[tuple[str, ...]]:
    known = [*_names(model)]
    places = [known.index(name) for name in names]
    some = rows_of(x)
    return [tuple(text(number) for number in np.asarray(some[row : row + 1])[0, places]) for row in rows]


def text(value: Any) -> str:
    """Return a cell, a label or a number as text; a missing cell is ""."""
    if value is None:
        return ""
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    return shortened(str(value), LONGEST)
