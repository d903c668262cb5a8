"""Columns → a matrix for a network: scales, levels and cycles, fitted on the training rows.

number      x′ = u / √(1 + (u / 3)²),  u = (x − median) / (x₇₅ − x₂₅)      a missing number is the median
time        its seconds as a number, and its place in the day, week and year on a circle
boolean     −1, 1
category    one column for each level that the training rows have often enough, one for all the others

A column of which training rows lack cells gets one more: 1 where the cell is missing. A level that no training
row has counts as one of the others. Why the smooth limit of ±3: one cell of a million standard deviations moves
nothing, and two large cells still differ.

Reference: D. Holzmüller, L. Grinsztajn, I. Steinwart, Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on
Tabular Data, NeurIPS 2024, section 3.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.errors import DataError, ShapeError
from ffnn_gpu.tables.cells import levels_of, number_of, others_error, time_of, truths_of
from ffnn_gpu.tables.kinds import Column
from ffnn_gpu.tables.spelling import Spelling, as_spelled
from ffnn_gpu.tables.table import MAX_LISTED_NAMES, MISSING, Codes, Floats, Table

LIMIT = 3.0
RARE = 5  # training rows below which a level is one of the others, where a column has more than two levels
MOST_LEVELS = 64  # levels of a column with a column of their own: the most frequent ones
DAY = 86_400.0
PERIODS = {"day": DAY, "week": 7 * DAY, "year": 365.2425 * DAY}  # seconds


class Encoder(ABC):
    """How one column of a table becomes columns of the matrix."""

    kind: ClassVar[str]
    name: str

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """The names of the columns of the matrix."""

    @abstractmethod
    def encode(self, cells: Any) -> Floats:
        """Return (n, outputs) of the cells: floats with NaN where missing, or codes with their texts."""

    def to_json(self) -> dict[str, Any]:
        """Return an object for `json.dumps`."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class NumberEncoder(Encoder):
    """x′ = u / √(1 + (u / 3)²), u = factor · (x − center); then 1 where x is missing, if `lacks`."""

    kind = "number"
    name: str
    center: float
    factor: float
    lacks: bool

    @classmethod
    def fit(cls, name: str, x: Floats) -> "NumberEncoder":
        """Fit to the training rows x (n,), of which at least one is there."""
        present = x[~np.isnan(x)]
        if not len(present):
            return cls(name, 0.0, 0.0, bool(len(x)))
        low, lower, center, upper, high = np.percentile(present, (0, 25, 50, 75, 100)).tolist()
        spread = upper / 2 - lower / 2 or high / 4 - low / 4  # halved: the difference cannot overflow
        return cls(name, center, 0.5 / spread if spread else 0.0, len(present) < len(x))

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.name, f"{self.name} is missing") if self.lacks else (self.name,)

    def encode(self, cells: Floats) -> Floats:
        missing = np.isnan(cells)
        with np.errstate(over="ignore", under="ignore"):
            u = np.where(missing, 0.0, (cells - self.center) * self.factor)
            scaled = u / np.hypot(1.0, u / LIMIT)
        scaled = np.where(np.isinf(u), np.copysign(LIMIT, u), scaled)
        return np.stack([scaled, missing], axis=1) if self.lacks else scaled[:, None]


@dataclass(frozen=True)
class TimeEncoder(Encoder):
    """Seconds as a number, then (sin, cos) of 2π t / T for each period T in which the training rows differ."""

    kind = "time"
    name: str
    seconds: NumberEncoder
    periods: tuple[str, ...]
    written: str = ""

    @classmethod
    def fit(cls, name: str, x: Floats, written: str) -> "TimeEncoder":
        """Fit to the training rows x (n,), in seconds since 1970."""
        present = x[~np.isnan(x)]
        span = np.ptp(present) if len(present) else 0.0
        periods = tuple(
            period
            for period, T in PERIODS.items()
            if (span >= T and len(np.unique(present % T)) > 1) or (span and T == DAY and (present % T).any())
        )
        return cls(name, NumberEncoder.fit(name, x), periods, written)

    @property
    def outputs(self) -> tuple[str, ...]:
        circles = tuple(
            f"{part} of the {period} of {self.name}" for period in self.periods for part in ("sin", "cos")
        )
        return (*self.seconds.outputs, *circles)

    def encode(self, cells: Floats) -> Floats:
        angles = [2 * np.pi * (cells % PERIODS[period]) / PERIODS[period] for period in self.periods]
        circles = [part(angle) for angle in angles for part in (np.sin, np.cos)]
        return np.column_stack([self.seconds.encode(cells), *(np.nan_to_num(circle) for circle in circles)])


@dataclass(frozen=True)
class LevelEncoder(Encoder):
    """Levels of a category or a boolean.

    Two levels and nothing else are one column: −1, 1, and 0 for anything else. Otherwise each level has a column of
    0 and 1, then come the others, if training rows have some, and the missing cells, if `lacks`.
    """

    kind = "category"
    name: str
    levels: tuple[str, ...]
    has_others: bool
    lacks: bool

    @classmethod
    def fit(cls, name: str, codes: Codes, texts: Sequence[str]) -> "LevelEncoder":
        """Fit to the training rows: codes (n,) of texts, MISSING for a missing cell."""
        counts = np.bincount(codes[codes != MISSING], minlength=len(texts))
        found = [(int(-counts[k]), texts[k]) for k in np.flatnonzero(counts).tolist()]
        often = [text for count, text in found if len(found) <= 2 or -count >= RARE]
        frequent = [text for _, text in sorted(found) if text in {*often}][:MOST_LEVELS]
        return cls(name, tuple(sorted(frequent)), len(frequent) < len(found), bool((codes == MISSING).any()))

    @property
    def is_opposite(self) -> bool:
        """True if two levels share one column."""
        return len(self.levels) == 2 and not self.has_others and not self.lacks

    @property
    def outputs(self) -> tuple[str, ...]:
        if self.is_opposite:
            return (f"{self.name} is {self.levels[1]}, not {self.levels[0]}",)
        others = (f"{self.name} is another",) * self.has_others
        return (
            *(f"{self.name} is {level}" for level in self.levels),
            *others,
            *((f"{self.name} is missing",) * self.lacks),
        )

    def encode(self, cells: tuple[Codes, Sequence[str]]) -> Floats:
        codes, texts = cells
        place = {level: k for k, level in enumerate(self.levels)}
        columns = np.array(
            [place.get(text, len(place)) for text in texts] + [len(place) + 1]
        )  # [MISSING] is the last
        table = np.zeros((len(place) + 2, len(self.outputs)))
        if self.is_opposite:
            table[:2, 0] = -1, 1
        else:
            table[: len(place), : len(place)] = np.eye(len(place))
            table[len(place), len(place) : len(place) + self.has_others] = 1
            table[len(place) + 1, table.shape[1] - self.lacks :] = 1
        return np.asarray(table[columns][codes])


class BooleanEncoder(LevelEncoder):
    """The levels of a boolean, false and true, however they are written: `no`, `FALSE` and `0` are one level."""

    kind = "boolean"


ENCODERS: dict[str, type[Encoder]] = {
    encoder.kind: encoder for encoder in (NumberEncoder, TimeEncoder, LevelEncoder, BooleanEncoder)
}


@dataclass(frozen=True)
class Encoding:
    """The encoders of the columns that the network reads, in the order of the matrix.

    columns: the names of all columns of the table but the targets, in its order.
    missing: further texts that mean a missing cell.
    """

    encoders: tuple[Encoder, ...]
    columns: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls, table: Table, columns: Sequence[Column], rows: Codes, missing: tuple[str, ...] = ()
    ) -> "Encoding":
        """Fit each used column to some rows of a table. Raises DataError if there is no used column."""
        used = [column for column in columns if column.is_used]
        if not used:
            said = ", ".join(f"{column.name!r} ({column.kind}: {column.reason})" for column in columns[:5])
            raise DataError(f"{table.source} has no column to learn from: {said or 'it has only the target'}")
        spelling = Spelling(table.decimal, missing)
        encoders = tuple(_fitted(table, column, rows, spelling) for column in used)
        return cls(encoders, tuple(column.name for column in columns), missing)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns of a table that are read."""
        return tuple(encoder.name for encoder in self.encoders)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the columns of the matrix."""
        return tuple(output for encoder in self.encoders for output in encoder.outputs)

    def encode(self, table: Table, dtype: DTypeLike = np.float32, skip: Sequence[int] = ()) -> HostArray:
        """Return the matrix (n, outputs) of a table; its columns are found by name if it has names.

        skip: columns that are targets; only where there are no names, this matters.

        Raises DataError: a column is missing or twice there, or a cell is no number where numbers are needed.
        """
        spelling = Spelling(table.decimal, self.missing)
        places = self._places(table, skip)
        return self._matrix(
            len(table),
            (
                _cells(table, place, encoder, spelling)
                for place, encoder in zip(places, self.encoders, strict=True)
            ),
            dtype,
        )

    def encode_numbers(self, x: HostArray, dtype: DTypeLike = np.float32) -> HostArray:
        """Return the matrix of numbers x (n, columns); NaN is a missing number.

        The columns are those of the training table without its targets, or those that are read, in this order.
        """
        names = self.columns if x.ndim == 2 and x.shape[1] == len(self.columns) else self.names
        if x.ndim != 2 or x.shape[1] != len(names):
            raise ShapeError(f"x has shape {x.shape}; the model reads {len(names)} columns: {_listed(names)}")
        places = (names.index(name) for name in self.names)
        cells = (
            _cells_of_numbers(x[:, k], encoder) for k, encoder in zip(places, self.encoders, strict=True)
        )
        return self._matrix(len(x), cells, dtype)

    def to_json(self) -> dict[str, Any]:
        """Return an object for `json.dumps`."""
        return {
            "encoders": [encoder.to_json() for encoder in self.encoders],
            "columns": [*self.columns],
            "missing": [*self.missing],
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Encoding":
        """Restore what `to_json` wrote. Raises DataError if it is damaged."""
        try:
            encoders = tuple(map(_restored, saved["encoders"]))
            return cls(encoders, *(tuple(map(str, saved[name])) for name in ("columns", "missing")))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a saved encoding: {type(error).__name__}: {error}") from error

    def _matrix(self, n: int, cells: Any, dtype: DTypeLike) -> HostArray:
        x = np.empty((n, len(self.outputs)), dtype)
        start = 0
        for encoder, column in zip(self.encoders, cells, strict=True):
            stop = start + len(encoder.outputs)
            x[:, start:stop] = encoder.encode(column)
            start = stop
        return x

    def _places(self, table: Table, skip: Sequence[int]) -> list[int]:
        """Return the index in the table of each column that is read."""
        if not table.has_names:
            inputs = [place for place in range(len(table.names)) if place not in skip]
            if len(inputs) == len(self.columns):
                return [inputs[self.columns.index(name)] for name in self.names]
            raise DataError(
                f"{table.source} has no header and {len(inputs)} columns; the model was trained on "
                f"{len(self.columns)}: {_listed(self.columns)}"
            )
        lacking = [name for name in self.names if name not in table.names]
        twice = [name for name in self.names if table.names.count(name) > 1]
        if lacking or twice:
            problem = "lacks these columns" if lacking else "contains these columns more than once"
            listed = _listed([*map(repr, lacking or twice)])
            raise DataError(f"{table.source} {problem}, which the model was trained on: {listed}")
        return [table.names.index(name) for name in self.names]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_LISTED_NAMES]) + ", …" * (len(names) > MAX_LISTED_NAMES)


def _fitted(table: Table, column: Column, rows: Codes, spelling: Spelling) -> Encoder:
    if column.kind == "boolean":
        codes, texts = truths_of(table, column.place, spelling)
        return BooleanEncoder.fit(column.name, codes[rows], texts)
    if column.kind == "category":
        codes, texts = levels_of(table, column.place, spelling)
        return LevelEncoder.fit(column.name, codes[rows], texts)
    if column.kind == "time":
        x = table.numbers(time_of(table, column.place, column.written))
        return TimeEncoder.fit(column.name, x[rows], column.written)
    return NumberEncoder.fit(column.name, table.numbers(number_of(table, column.place, spelling))[rows])


def _cells(table: Table, place: int, encoder: Encoder, spelling: Spelling) -> Any:
    """Return the cells of a column in the form that its encoder reads. Raises DataError, with the line."""
    if isinstance(encoder, BooleanEncoder):
        return truths_of(table, place, spelling)
    if isinstance(encoder, LevelEncoder):
        codes, words = levels_of(table, place, spelling)
        return codes, words if table.is_text(place) else as_spelled(words, encoder.levels)
    written = encoder.written if isinstance(encoder, TimeEncoder) else None
    value = number_of(table, place, spelling) if written is None else time_of(table, place, written)
    x = table.numbers(value)
    if np.isnan(x).any():
        texts = table.levels(place, f"({value}) IS NULL", 1000)
        if bad := [text for text in texts if not spelling.is_missing_number(text)]:
            raise others_error(table, place, int((~np.isnan(x)).sum()), bad[:3], encoder.kind)
    return x


def _cells_of_numbers(x: Floats, encoder: Encoder) -> Any:
    if not isinstance(encoder, LevelEncoder):
        return np.asarray(x, np.float64)
    values, codes = np.unique(x, return_inverse=True)
    texts = [f"{value:.0f}" if value == np.floor(value) else repr(float(value)) for value in values]
    if isinstance(encoder, BooleanEncoder):
        texts = [{"0": "false", "1": "true"}.get(text, text) for text in texts]
    return np.where(np.isnan(x), MISSING, codes), as_spelled(texts, encoder.levels)


def _restored(saved: Mapping[str, Any]) -> Encoder:
    fields = dict(saved)
    kind = ENCODERS[fields.pop("kind")]
    if kind is TimeEncoder:
        fields["seconds"] = NumberEncoder(**fields["seconds"])
    return kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    )
