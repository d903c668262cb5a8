"""Columns that alone predict the target almost perfectly.

Such a column may be a leak: something that is known only once the target is. It is found without a model: the
rows of a sample are cut into two halves, and each row of one half is predicted by the rows of the other half
with the nearest value of this column.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.whole_numbers import are_codes
from ffnn_gpu.tables.cells import number_of, time_of
from ffnn_gpu.tables.columns import Column
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Codes, Table

LEAK = 0.98  # share of the error without the column that the column alone removes
LEAK_ROWS = 20_000  # of the sample
FEWEST_ROWS = 40  # below which any column may predict a target by chance


def leaking(
    table: Table,
    columns: Sequence[Column],
    spelling: Spelling,
    targets: Sequence[str],
    y: HostArray,
    rows: Codes,
) -> Iterator[tuple[str, str]]:
    """Yield (column, warning) for each column that alone predicts a target almost perfectly.

    y: the targets of these rows.
    """
    used = [column for column in columns if column.is_used]
    if len(used) < 2:
        return
    index, cells = _sample(table, used, spelling)
    order = np.argsort(rows, kind="stable")
    found = np.searchsorted(rows[order], index)
    known = (found < len(rows)) & (rows[order][np.minimum(found, len(rows) - 1)] == index)
    sampled = y[order][found[known]].reshape(known.sum(), -1)
    if len(sampled) < FEWEST_ROWS:
        return
    truths = [(name, *_codes(sampled[:, k])) for k, name in enumerate(targets)]
    for column, values in zip(used, cells, strict=True):
        ranks = _ranks(values[known])
        for name, truth, is_class in truths:
            if _removed(ranks, truth, is_class) >= LEAK:
                text = f"{column.name!r} alone predicts {name!r} almost perfectly, a possible leak"
                yield column.name, f"{text}: is it known before {name!r} is?"
                break


def _sample(table: Table, columns: Sequence[Column], spelling: Spelling) -> tuple[Codes, list[HostArray]]:
    """Return the indices of some rows, drawn by hash, and the cells of each column in them."""
    values = [value_of(table, column, spelling) for column in columns]
    return table.some_rows(values, f"hash(rowid) % {max(1, len(table) // LEAK_ROWS)} = 0")


def _ranks(values: Any) -> HostArray:
    """Return numbers as they are and texts as ranks; a missing cell is below all others."""
    mask = np.ma.getmaskarray(values)
    if values.dtype.kind in "fiub":
        x = np.asarray(np.ma.filled(values.astype(np.float64), np.nan))
        return np.where(mask | np.isnan(x), -np.inf, x)
    cells = zip(np.ma.getdata(values), mask, strict=True)
    texts = np.array(["" if lacks or cell is None else str(cell).strip() for cell, lacks in cells])
    return np.unique(texts, return_inverse=True)[1].astype(np.float64)


def removed_error(x: HostArray, y: HostArray) -> float:
    """Return which share of the error without x the nearest x of the other half removes, at most 1.

    The error is the share of wrong classes or the squared error; without x, that of the most frequent class
    or the mean.
    """
    return _removed(x, *_codes(y))


def _codes(y: HostArray) -> tuple[HostArray, bool]:
    """Return targets as codes of classes or as numbers, and whether they are classes.

    Numbers are divided by a power of 2, so that the largest is about 1 and its square cannot overflow.
    """
    is_class = y.dtype.kind != "f" and (y.dtype.kind in "Ub" or are_classes(y))
    if is_class:
        return np.unique(y, return_inverse=True)[1], True
    numbers = np.asarray(y, np.float64)
    return np.ldexp(numbers, -np.frexp(np.abs(numbers).max(initial=0))[1]), False


def _removed(x: HostArray, codes: HostArray, is_class: bool) -> float:
    halves = np.arange(len(x)) % 2 == 0
    wrong = base = 0.0
    for fitted in (halves, ~halves):
        guess = _nearest(x[fitted], codes[fitted], x[~fitted], is_class)
        default = np.bincount(codes[fitted]).argmax() if is_class else codes[fitted].mean()
        truth = codes[~fitted]
        wrong += float((guess != truth).sum() if is_class else ((guess - truth) ** 2).sum())
        base += float((truth != default).sum() if is_class else ((truth - default) ** 2).sum())
    return 1 - wrong / base if base > 0 else 0.0


def are_classes(y: HostArray) -> bool:
    """Return whether numbers are classes, as `data.labels.infer_task` decides."""
    if y.dtype.kind == "f" and (y != np.floor(y)).any():
        return False
    return are_codes(y)[0]


def _nearest(x: HostArray, y: HostArray, asked: HostArray, is_class: bool) -> HostArray:
    """Return for each asked value the most frequent class, or the mean, of the y at the nearest x."""
    values, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    answer: HostArray
    if is_class:
        pairs, n = np.unique(place * (y.max() + 1) + y, return_counts=True)
        order = np.argsort(n, kind="stable")  # the most frequent class of a value is written last
        answer = np.zeros(len(values), np.int64)
        answer[pairs[order] // (y.max() + 1)] = pairs[order] % (y.max() + 1)
    else:
        answer = np.bincount(place, weights=y) / counts
    right = np.searchsorted(values, asked).clip(1, max(1, len(values) - 1))
    if len(values) == 1:
        return np.full(len(asked), answer[0])
    with np.errstate(invalid="ignore"):
        is_left = asked - values[right - 1] <= values[right] - asked
    is_left |= asked == values[right - 1]
    is_left &= asked != values[right]
    return np.asarray(answer[np.where(is_left, right - 1, right)])


def value_of(table: Table, column: Column, spelling: Spelling) -> str:
    """Return the SQL expression for the number, time or text in a cell."""
    if column.kind == "time":
        return time_of(table, column.place, column.written, spelling)
    return number_of(table, column.place, spelling) if column.kind == "number" else table.text(column.place)
