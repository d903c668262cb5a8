"""The cells of a column in the form that its encoder reads: floats with NaN, or codes with their texts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.cells import family, levels_of, misread_error, number_of, time_of, truths_of
from ffnn_gpu.tables.encoders import BooleanEncoder, Encoder, LevelEncoder, NumberEncoder, TimeEncoder
from ffnn_gpu.tables.iso_times import has_zone
from ffnn_gpu.tables.spelling import Spelling, as_spelled
from ffnn_gpu.tables.table import MISSING, TOGETHER, Floats, Table

ROOM = 1 << 25  # bytes of the numbers that one query returns
C = TypeVar("C")


def cells_of_columns(
    table: Table, columns: Sequence[tuple[int, Encoder]], spelling: Spelling
) -> Iterator[Any]:
    """Yield the cells of columns, given as place and encoder, as `cells_for` returns them."""
    for some in few_columns(table, columns):
        known = table.numbers_of(
            [
                number_of(table, place, spelling)
                for place, encoder in some
                if isinstance(encoder, NumberEncoder)
            ]
        )
        for place, encoder in some:
            yield cells_for(table, place, encoder, spelling, known)


def few_columns(table: Table, columns: Sequence[C]) -> Iterator[Sequence[C]]:
    """Yield the columns in pieces of one query, whose numbers take about ROOM bytes."""
    most = max(1, min(TOGETHER, ROOM // (8 * max(1, len(table)))))
    return (columns[start : start + most] for start in range(0, len(columns), most))


def cells_for(
    table: Table, place: int, encoder: Encoder, spelling: Spelling, known: Mapping[str, Floats]
) -> Any:
    """Return the cells of a column in the form that its encoder reads. Raises DataError, with the line.

    known: {SQL expression: its values} of columns of numbers.
    """
    if isinstance(encoder, BooleanEncoder):
        return truths_of(table, place, spelling)
    if isinstance(encoder, LevelEncoder):
        codes, words = levels_of(table, place, spelling)
        if table.is_text(place):  # pandas writes 1 as 1.0 once a column lacks a cell
            own = {*encoder.levels}
            return codes, [a if a in own else re.sub(r"^([+-]?\d+)\.0+$", r"\1", a) for a in words]
        return codes, as_spelled(words, encoder.levels)
    written = encoder.written if isinstance(encoder, TimeEncoder) else None
    value = number_of(table, place, spelling) if written is None else time_of(table, place, written, spelling)
    x = table.numbers(value) if (numbers := known.get(value)) is None else numbers
    lacking = np.count_nonzero(np.isnan(x))
    if written and lacking < len(x):
        _require_zone(table, place, written)
    if lacking and lacking > table.nulls(place):
        texts = table.levels(place, f"({value}) IS NULL", 1000)
        if bad := [text for text in texts if not spelling.is_missing_number(text)]:
            raise misread_error(table, place, bad, encoder.kind, written or "")
    return x


def _require_zone(table: Table, place: int, written: str) -> None:
    """Raise DataError if a model reads texts of times with a zone, and this column has times without one."""
    if has_zone(written) and family(table.types[place]) == "time" and place not in table.zoned:
        raise DataError(
            f"{table.source}, column {table.names[place]!r} holds times without a time zone; the model was "
            "trained on times with one. Give the column its zone, such as "
            f"frame[{table.names[place]!r}].dt.tz_localize('UTC')"
        )


def without(x: HostArray, lost: Sequence[float]) -> HostArray:
    """Return numbers with NaN for those that mean a missing cell."""
    return np.where(np.isin(x, lost), np.nan, x) if lost else x


def cells_of_numbers(x: Floats, encoder: Encoder) -> Any:
    """Return numbers (n,), NaN where missing, in the form that an encoder reads."""
    if not isinstance(encoder, LevelEncoder):
        return np.asarray(x, np.float64)
    values, codes = np.unique(x, return_inverse=True)
    texts = [f"{value:.0f}" if value == np.floor(value) else repr(float(value)) for value in values]
    if isinstance(encoder, BooleanEncoder):
        texts = [{"0": "false", "1": "true"}.get(text, text) for text in texts]
    return np.where(np.isnan(x), MISSING, codes), as_spelled(texts, encoder.levels)


def some_cells(cells: Any, start: int, stop: int) -> Any:
    """Return some of the cells of a column, in the form that its encoder reads."""
    return (cells[0][start:stop], cells[1]) if isinstance(cells, tuple) else cells[start:stop]
