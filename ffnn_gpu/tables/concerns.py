"""What may go wrong with a table: leaks, unclear cells, copies, rare or misspelt classes, gaps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checks import counted, shortened
from ffnn_gpu.tables.columns import Column
from ffnn_gpu.tables.leaks import are_classes, leaking
from ffnn_gpu.tables.misspelt import misspelt
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import CELLS, Codes, Table

MOSTLY = 0.5  # share of missing cells
FEW_ROWS = 10  # of a class
RARE_CLASS = 0.05  # share of the rows
MOST_NAMED = 5


@dataclass(frozen=True)
class Concern:
    """What may go wrong.

    about: leak, unclear, numbers, dates, classes, misspelt, imbalance, duplicates, missing or target.
    """

    about: str
    columns: tuple[str, ...]
    text: str


def warnings_of(
    table: Table,
    columns: Sequence[Column],
    spelling: Spelling,
    targets: Sequence[str],
    y: HostArray | None,
    rows: Codes,
) -> Iterator[Concern]:
    """Yield what may go wrong, the most important first. y: the targets of these rows."""
    if y is not None and len(targets):
        for name, text in leaking(table, columns, spelling, targets, y, rows):
            yield Concern("leak", (name,), text)
    for column in columns:
        if column.kind == "unclear":
            yield Concern("unclear", (column.name,), f"{column.name!r}: {column.reason}")
    for column in columns:
        if column.note:
            about = "dates" if column.kind == "time" else "numbers"
            yield Concern(about, (column.name,), f"{column.name!r} is {column.note}")
    if y is not None and y.ndim == 1:
        yield from _misspelt_classes(table, spelling, targets)
        yield from _few_of_a_class(y)
    yield from _duplicates(table, columns, targets)
    for column in columns:
        if column.is_used and column.missing > MOSTLY * len(table):
            share = f"{column.missing / len(table):.0%} of its cells are missing"
            yield Concern("missing", (column.name,), f"{column.name!r}: {share}")


def _misspelt_classes(table: Table, spelling: Spelling, targets: Sequence[str]) -> Iterator[Concern]:
    for name in targets:
        for text in misspelt(table, table.names.index(name), spelling):
            yield Concern("misspelt", (name,), f"target {name!r}: {text}")


def _duplicates(table: Table, columns: Sequence[Column], targets: Sequence[str]) -> Iterator[Concern]:
    """Count the rows of which an earlier row has the same cells in all columns but ids."""
    places = [column.place for column in columns if column.kind not in ("id", "dropped", "weight")]
    places += [table.names.index(name) for name in targets]
    if not any(column.is_used for column in columns):
        return
    cells = ", ".join(map(table.stored, places))
    distinct = table.ask(f"SELECT count(DISTINCT hash({cells})) FROM {CELLS}")[0][0]
    if copies := len(table) - distinct:
        rows = counted(copies, "row repeats", "rows repeat")
        yield Concern(
            "duplicates",
            (),
            f"{rows} an earlier row; copies in both training and test make the test metrics too good",
        )


def _few_of_a_class(y: HostArray) -> Iterator[Concern]:
    values, counts = np.unique(y, return_counts=True)
    if len(values) < 2 or (y.dtype.kind in "iuf" and not are_classes(y)):
        return
    few = [
        f"{shortened(str(value))!r} has {n}" for value, n in zip(values, counts, strict=True) if n < FEW_ROWS
    ]
    if few:
        more = ", …" * (len(few) > MOST_NAMED)
        yield Concern("classes", (), f"few rows of a class: {', '.join(few[:MOST_NAMED])}{more}")
    least = int(counts.min())
    if FEW_ROWS <= least < RARE_CLASS * len(y):
        rarest = shortened(str(values[counts.argmin()]))
        text = f"class {rarest!r} has {least:,} of {counted(len(y), 'row')}"
        yield Concern("imbalance", (), f"{text}; --class-weight balanced weighs classes equally")
