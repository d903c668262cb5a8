"""What a table holds, how its columns will be encoded, and what may go wrong with them.

A column that alone predicts the target almost perfectly may be a leak: something that is known only once the
target is. It is found without a model: the rows of a sample are cut into two halves, and each row of one half
is predicted by the rows of the other half with the nearest value of this column.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.tables.cells import number_of, time_of
from ffnn_gpu.tables.encoders import (
    BooleanEncoder,
    CodeEncoder,
    Encoder,
    LevelEncoder,
    NumberEncoder,
    TimeEncoder,
)
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.kinds import Column
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import CELLS, Codes, Table

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
LEAK = 0.98  # share of the error without the column that the column alone removes
LEAK_ROWS = 20_000  # of the sample
FEWEST_ROWS = 40  # below which any column may predict a target by chance
MOSTLY = 0.5  # share of missing cells
FEW_ROWS = 10  # of a class
RARE_CLASS = 0.05  # share of the rows
MOST_NAMED = 5


@dataclass(frozen=True)
class Concern:
    """What may go wrong.

    about: leak, missing, imbalance, classes, duplicates, dates, unclear or target.
    """

    about: str
    columns: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Inspected:
    """One column with its distribution and what the encoding makes of it.

    Attributes:
        quantiles: minimum, quartiles and maximum of numbers, as numbers; of times, as texts.
        levels: {cell: number of rows} of categories and booleans, the most frequent first.
        treatment: what the network reads instead of the column.
    """

    name: str
    kind: str
    reason: str
    missing: int
    treatment: str
    quantiles: tuple[float | str, ...] | None = None
    levels: dict[str, int] | None = None


@dataclass(frozen=True)
class Inspection:
    """What a table holds.

    Attributes:
        target: its names, the number of rows that lack it, and its classes or quantiles.
    """

    source: str
    rows: int
    remarks: tuple[str, ...]
    target: dict[str, Any] | None
    columns: tuple[Inspected, ...]
    warnings: tuple[Concern, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return an object for `json.dumps` without NaN."""
        return asdict(self)


def inspect(
    table: Table,
    columns: Sequence[Column],
    spelling: Spelling,
    targets: Sequence[int] = (),
    y: HostArray | None = None,
    rows: Codes | None = None,
) -> Inspection:
    """Return what the columns hold.

    Args:
        targets: the indices of the target columns; y and rows: their values and the rows that have them.
    """
    there = np.arange(len(table)) if rows is None else rows
    used = [column for column in columns if column.is_used]
    encoders = {}
    if used and len(there):
        encoding = Encoding.fit(table, columns, there, spelling.missing)
        encoders = {encoder.name: encoder for encoder in encoding.encoders}
    quantiles = _quantiles(table, used, spelling)
    found = tuple(
        _inspected(column, encoders.get(column.name), quantiles.get(column.place)) for column in columns
    )
    names = tuple(table.names[place] for place in targets)
    warned = tuple(warnings_of(table, columns, spelling, names, y, there))
    described = _target(names, y, len(table) - len(there)) if targets else None
    return Inspection(table.source, len(table), table.remarks, described, found, warned)


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
        yield from _leaks(table, columns, spelling, targets, y, rows)
    for column in columns:
        if column.kind == "unclear":
            yield Concern("unclear", (column.name,), f"{column.name!r}: {column.reason}")
    yield from _duplicates(table, columns, targets)
    if y is not None and y.ndim == 1:
        yield from _few_of_a_class(y)
    for column in columns:
        if column.is_used and column.missing > MOSTLY * len(table):
            share = f"{column.missing / len(table):.0%} of its cells are missing"
            yield Concern("missing", (column.name,), f"{column.name!r}: {share}")
        if column.note:
            yield Concern("dates", (column.name,), f"{column.name!r} is {column.note}")


def treatment_of(column: Column, encoder: Encoder | None) -> str:
    """median 3.2, + missing column"""
    if encoder is None:
        return f"left out: {column.reason}"
    lacks = ", + missing column" * getattr(encoder, "lacks", False)
    if isinstance(encoder, NumberEncoder):
        return f"median {encoder.center:.6g}, scaled by quartiles{lacks}"
    if isinstance(encoder, TimeEncoder):
        cycles = " and ".join(encoder.periods)
        plain = "seconds as a number" + ", + missing column" * encoder.seconds.lacks
        return plain + (f", cycle of the {cycles}" if cycles else "")
    if isinstance(encoder, BooleanEncoder) and encoder.is_opposite:
        return "false −1, true 1"
    assert isinstance(encoder, LevelEncoder)
    if encoder.is_opposite:
        return f"{encoder.levels[0]} −1, {encoder.levels[1]} 1"
    rare = len({cell.strip() for cell in column.levels}) - len(encoder.levels)
    others = f", {rare} rare → others" if encoder.has_others else ""
    embedded = ", embedded" * isinstance(encoder, CodeEncoder)
    return f"{len(encoder.levels)} levels{others}{embedded}{lacks}"


def _inspected(
    column: Column, encoder: Encoder | None, quantiles: tuple[float | str, ...] | None
) -> Inspected:
    merged: dict[str, int] = {}
    for cell, count in column.levels.items():
        merged[cell.strip()] = merged.get(cell.strip(), 0) + count
    levels = dict(sorted(merged.items(), key=lambda item: -item[1])) if column.levels else None
    treatment = treatment_of(column, encoder)
    return Inspected(column.name, column.kind, column.reason, column.missing, treatment, quantiles, levels)


def _quantiles(
    table: Table, columns: Sequence[Column], spelling: Spelling
) -> dict[int, tuple[float | str, ...]]:
    """Return the quantiles of numbers and times by place, in one scan."""
    some = [column for column in columns if column.kind in ("number", "time")]
    if not some:
        return {}
    asked = ", ".join(
        f"quantile_disc({_value(table, column, spelling)}, [{', '.join(map(str, QUANTILES))}])"
        for column in some
    )
    row = table.ask(f"SELECT {asked} FROM {CELLS}")[0]
    return {
        column.place: tuple(_day(value) if column.kind == "time" else value for value in values)
        for column, values in zip(some, row, strict=True)
        if values is not None and values[0] is not None
    }


def _value(table: Table, column: Column, spelling: Spelling) -> str:
    if column.kind == "time":
        return time_of(table, column.place, column.written)
    return number_of(table, column.place, spelling) if column.kind == "number" else table.text(column.place)


def _day(seconds: float) -> str:
    """Return a time as ISO 8601 writes it, without a time of day at midnight."""
    try:
        written = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.6g} s"
    return written.removesuffix(" 00:00:00")


def _target(names: tuple[str, ...], y: HostArray | None, lacking: int) -> dict[str, Any]:
    described: dict[str, Any] = {"names": names, "missing": lacking, "classes": None, "quantiles": None}
    if y is None or y.ndim != 1:
        return described
    values, counts = np.unique(y, return_counts=True)
    if y.dtype.kind not in "biuf" or _are_few(y):
        described["classes"] = {str(value): int(n) for value, n in zip(values, counts, strict=True)}
    else:
        described["quantiles"] = tuple(np.quantile(y.astype(np.float64), QUANTILES).tolist())
    return described


def _duplicates(table: Table, columns: Sequence[Column], targets: Sequence[str]) -> Iterator[Concern]:
    """Count the rows of which an earlier row has the same cells in all columns but ids."""
    places = [column.place for column in columns if column.kind not in ("id", "dropped", "weight")]
    places += [table.names.index(name) for name in targets]
    if not any(column.is_used for column in columns):
        return
    cells = ", ".join(f"c{place}" for place in places)
    distinct = table.ask(f"SELECT count(DISTINCT hash({cells})) FROM {CELLS}")[0][0]
    if copies := len(table) - distinct:
        rows = "row repeats an earlier row" if copies == 1 else "rows repeat an earlier row"
        yield Concern("duplicates", (), f"{copies:,} {rows}; copies in training and test flatter the test")


def _few_of_a_class(y: HostArray) -> Iterator[Concern]:
    values, counts = np.unique(y, return_counts=True)
    if len(values) < 2 or (y.dtype.kind in "iuf" and not _are_few(y)):
        return
    few = [f"{str(value)!r} has {n}" for value, n in zip(values, counts, strict=True) if n < FEW_ROWS]
    if few:
        more = ", …" * (len(few) > MOST_NAMED)
        yield Concern("classes", (), f"few rows of a class: {', '.join(few[:MOST_NAMED])}{more}")
    least = int(counts.min())
    if FEW_ROWS <= least < RARE_CLASS * len(y):
        rarest = str(values[counts.argmin()])
        text = f"class {rarest!r} has {least:,} of {len(y):,} rows"
        yield Concern("imbalance", (), f"{text}; --class-weight balanced weighs classes equally")


def _leaks(
    table: Table,
    columns: Sequence[Column],
    spelling: Spelling,
    targets: Sequence[str],
    y: HostArray,
    rows: Codes,
) -> Iterator[Concern]:
    """Yield a warning for each column that alone predicts a target almost perfectly."""
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
    for column, values in zip(used, cells, strict=True):
        codes = _ranks(values[known])
        for k, name in enumerate(targets):
            if removed_error(codes, sampled[:, k]) >= LEAK:
                text = f"{column.name!r} alone predicts {name!r} almost perfectly, a possible leak"
                yield Concern("leak", (column.name,), f"{text}: is it known before {name!r} is?")
                break


def _sample(table: Table, columns: Sequence[Column], spelling: Spelling) -> tuple[Codes, list[HostArray]]:
    """Return the indices of some rows, drawn by hash, and the cells of each column in them."""
    asked = ", ".join(f"{_value(table, column, spelling)} AS v{k}" for k, column in enumerate(columns))
    some = f"hash(rowid) % {max(1, len(table) // LEAK_ROWS)} = 0"
    cursor = table.connection.cursor()
    found = cursor.execute(f"SELECT rowid AS r, {asked} FROM {CELLS} WHERE {some} ORDER BY r").fetchnumpy()
    return np.asarray(found["r"], np.int64), [found[f"v{k}"] for k in range(len(columns))]


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
    is_class = y.dtype.kind != "f" and (y.dtype.kind in "Ub" or _are_few(y))
    codes = np.unique(y, return_inverse=True)[1] if is_class else np.asarray(y, np.float64)
    halves = np.arange(len(x)) % 2 == 0
    wrong = base = 0.0
    for fitted in (halves, ~halves):
        guess = _nearest(x[fitted], codes[fitted], x[~fitted], is_class)
        default = np.bincount(codes[fitted]).argmax() if is_class else codes[fitted].mean()
        truth = codes[~fitted]
        wrong += float((guess != truth).sum() if is_class else ((guess - truth) ** 2).sum())
        base += float((truth != default).sum() if is_class else ((truth - default) ** 2).sum())
    return 1 - wrong / base if base > 0 else 0.0


def _are_few(y: HostArray) -> bool:
    """Return whether whole numbers are classes, as `data.labels.infer_task` decides."""
    return bool(len(np.unique(y)) <= max(20, len(y) ** 0.5))


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
