"""What a table holds, and how its columns will be encoded."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checks import counted, shortened
from ffnn_gpu.tables.columns import Column
from ffnn_gpu.tables.concerns import Concern, warnings_of
from ffnn_gpu.tables.encoders import (
    BooleanEncoder,
    CodeEncoder,
    Encoder,
    LevelEncoder,
    NumberEncoder,
    TimeEncoder,
)
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.leaks import are_classes, value_of
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Codes, Table

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
MOST_LEVELS = 4  # that `values_of` lists


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
    encoding: Encoding | None = None,
) -> Inspection:
    """Return what the columns hold.

    Args:
        targets: the indices of the target columns; y and rows: their values and the rows that have them.
        encoding: of a model; None to fit one to the rows.
    """
    there = np.arange(len(table)) if rows is None else rows
    used = [column for column in columns if column.is_used]
    if encoding is None and used and len(there):
        encoding = Encoding.fit(table, columns, there, spelling.missing)
    encoders = {encoder.name: encoder for encoder in (encoding.encoders if encoding else ())}
    quantiles = _quantiles(table, used, spelling)
    found = tuple(
        _inspected(column, encoders.get(column.name), quantiles.get(column.place)) for column in columns
    )
    names = tuple(table.names[place] for place in targets)
    warned = tuple(warnings_of(table, columns, spelling, names, y, there))
    described = _target(names, y, len(table) - len(there)) if targets else None
    return Inspection(table.source, len(table), table.remarks, described, found, warned)


def values_of(column: Inspected) -> str:
    """1.5 … 3 … 7 for the quantiles of numbers; red 40%, blue 30%, … for levels."""
    if column.quantiles is not None:
        low, _, middle, _, high = column.quantiles
        return " … ".join(short(value) for value in (low, middle, high))
    if column.levels is None:
        return ""
    total = sum(column.levels.values())
    listed = [
        f"{shortened(name)} {count / total:.0%}" for name, count in [*column.levels.items()][:MOST_LEVELS]
    ]
    return ", ".join(listed) + ", …" * (len(column.levels) > MOST_LEVELS)


def short(value: Any) -> str:
    """Return a quantile as text."""
    return value if isinstance(value, str) else f"{value:.6g}" if abs(value) >= 1000 else f"{value:.4g}"


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
    return f"{counted(len(encoder.levels), 'level')}{others}{embedded}{lacks}"


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
    """Return the quantiles of numbers and times by place."""
    some = [column for column in columns if column.kind in ("number", "time")]
    if not some:
        return {}
    values = [value_of(table, column, spelling) for column in some]
    row = table.aggregates(values, "quantile_disc", f", [{', '.join(map(str, QUANTILES))}]")
    return {
        column.place: tuple(map(_time_of_day if _has_no_day(table, column) else _day, values))
        if column.kind == "time"
        else tuple(values)
        for column, values in zip(some, row, strict=True)
        if values is not None and values[0] is not None
    }


def _day(seconds: float) -> str:
    """Return a time as ISO 8601 writes it, without a time of day at midnight."""
    try:
        written = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.6g} s"
    return written.removesuffix(" 00:00:00")


def _has_no_day(table: Table, column: Column) -> bool:
    """Return whether the times of a column are times of day alone, such as 07:30."""
    kind = table.types[column.place]
    return column.written.startswith("%H") or (kind.startswith("TIME") and "STAMP" not in kind)


def _time_of_day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


def _target(names: tuple[str, ...], y: HostArray | None, lacking: int) -> dict[str, Any]:
    described: dict[str, Any] = {"names": names, "missing": lacking, "classes": None, "quantiles": None}
    if y is None or y.ndim != 1:
        return described
    values, counts = np.unique(y, return_counts=True)
    if y.dtype.kind not in "biuf" or are_classes(y):
        described["classes"] = {str(value): int(n) for value, n in zip(values, counts, strict=True)}
    else:
        described["quantiles"] = tuple(np.quantile(y.astype(np.float64), QUANTILES).tolist())
    return described
