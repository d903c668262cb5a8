"""How the cells of one column become columns of the matrix.

number      x′ = u / √(1 + (u / 3)²),  u = (x − median) / (x₇₅ − x₂₅)      a missing number is the median
            and where training rows have |u| > 5, x″ = tail · clip(u, ±100), of mean square 1
time        its seconds as a number, and its place in the day, week and year on a circle
boolean     −1, 1
category    one column for each level that the training rows have often enough, one for all the others;
            or, of many levels, the code that an Embedding layer reads

A column of which training rows lack cells gets one more: 1 where the cell is missing. A level that no
training row has counts as one of the others. Why the smooth limit of ±3: one cell of a million standard
deviations moves nothing, and two large cells still differ. Why x″: what is proportional to a column with long
tails, such as a delay or a number of applications, cannot be learnt from x′.

Reference: D. Holzmüller, L. Grinsztajn, I. Steinwart, Better by Default: Strong Pre-Tuned MLPs and Boosted
Trees on Tabular Data, NeurIPS 2024, section 3.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.tables.quartiles import quartiles
from ffnn_gpu.tables.table import MISSING, Codes, Floats

LIMIT = 3.0
FAR = 1e100  # |u| whose square may overflow
LONG, END = 5.0, 100.0  # |u| from which a column has a long tail, and at which the tail ends
RARE = 5  # training rows below which a level is one of the others, where a column has more than two levels
MOST_RARE = 10_000  # rare levels of a column that are remembered
MOST_COLUMNS = 32  # levels of a column that get a column each; more are embedded
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
    def encode(self, cells: Any) -> HostArray:
        """Return (n, outputs) of the cells: floats with NaN where missing, or codes with their texts."""

    def fill(self, out: HostArray, cells: Any) -> None:
        """Write what `encode` returns into out (n, outputs), which holds zeros."""
        out[...] = self.encode(cells)

    def to_json(self) -> dict[str, Any]:
        """Return an object for `json.dumps`."""
        return {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class NumberEncoder(Encoder):
    """x′ = u / √(1 + (u / 3)²), u = factor · (x − center); then 1 where x is missing, if `lacks`.

    tail: the factor of x″ = tail · clip(u, ±100), which comes last; 0 if the column has no long tail.
    seen: the smallest and the largest number of the training rows, which `unfamiliar` reads.
    """

    kind = "number"
    name: str
    center: float
    factor: float
    lacks: bool
    tail: float = 0.0
    seen: tuple[float, float] | None = field(default=None, compare=False)

    @classmethod
    def fit(cls, name: str, x: Floats) -> "NumberEncoder":
        """Fit to the training rows x (n,), of which at least one is there."""
        missing = np.isnan(x)
        present = x[~missing] if missing.any() else x
        if not len(present):
            return cls(name, 0.0, 0.0, bool(len(x)))
        low, lower, center, upper, high = quartiles(present)
        spread = upper / 2 - lower / 2 or high / 4 - low / 4  # halved: the difference cannot overflow
        factor = 0.5 / spread if spread else 0.0
        tail = 0.0
        if max(high - center, center - low) * factor > LONG:
            tail = float(1 / np.sqrt(np.mean(_cut(present, center, factor) ** 2)))
        return cls(name, center, factor, len(present) < len(x), tail, (low, high))

    @property
    def outputs(self) -> tuple[str, ...]:
        missing, tail = (f"{self.name} is missing",) * self.lacks, (f"{self.name}, its tail",)
        return (self.name, *missing, *tail * bool(self.tail))

    def encode(self, cells: Floats) -> HostArray:
        missing = np.isnan(cells)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            u = np.where(missing, 0.0, (cells - self.center) * self.factor)
            scaled = u / np.sqrt(1.0 + np.square(u / LIMIT))  # np.hypot takes eight times as long
        if (far := np.abs(u) > FAR).any():
            scaled[far] = np.copysign(LIMIT, u[far])
        columns = [scaled, *[missing] * self.lacks]
        if self.tail:
            columns.append(self.tail * np.clip(u, -END, END))
        return np.stack(columns, axis=1)


def _cut(x: Floats, center: float, factor: float) -> Floats:
    """Return clip(u, ±100)."""
    with np.errstate(over="ignore", under="ignore"):
        return np.clip((x - center) * factor, -END, END)


@dataclass(frozen=True)
class TimeEncoder(Encoder):
    """Seconds as a number, then (sin, cos) of 2π t / T for each period T in which training rows differ."""

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
            if (span >= T and np.ptp(present % T) > 0) or (span and T == DAY and (present % T).any())
        )
        return cls(name, NumberEncoder.fit(name, x), periods, written)

    @property
    def outputs(self) -> tuple[str, ...]:
        circles = tuple(
            f"{part} of the {period} of {self.name}" for period in self.periods for part in ("sin", "cos")
        )
        return (*self.seconds.outputs, *circles)

    def encode(self, cells: Floats) -> HostArray:
        angles = [2 * np.pi * (cells % PERIODS[period]) / PERIODS[period] for period in self.periods]
        circles = [part(angle) for angle in angles for part in (np.sin, np.cos)]
        return np.column_stack([self.seconds.encode(cells), *(np.nan_to_num(circle) for circle in circles)])


def frequent_levels(codes: Codes, texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the levels that rows have often enough, the most frequent first, and the others.

    Of two levels, each is frequent enough.
    """
    counts = np.bincount(codes[codes != MISSING], minlength=len(texts))
    found = sorted((-int(counts[k]), texts[k]) for k in np.flatnonzero(counts).tolist())
    least = RARE if len(found) > 2 else 1
    return [text for count, text in found if -count >= least], [t for count, t in found if -count < least]


def _remembered(others: Sequence[str]) -> tuple[str, ...] | None:
    return tuple(sorted(others)) if len(others) <= MOST_RARE else None


@dataclass(frozen=True)
class LevelEncoder(Encoder):
    """Levels of a category or a boolean.

    Two levels and nothing else are one column: −1, 1, and 0 for anything else. Otherwise each level has a
    column of 0 and 1, then come the others, if training rows have some, and the missing cells, if `lacks`.

    rare: the others of the training rows, which `unfamiliar` reads; None if they are more than MOST_RARE.
    """

    kind = "category"
    name: str
    levels: tuple[str, ...]
    has_others: bool
    lacks: bool
    rare: tuple[str, ...] | None = field(default=None, compare=False)

    @classmethod
    def fit(cls, name: str, codes: Codes, texts: Sequence[str]) -> "LevelEncoder":
        """Fit to the training rows: codes (n,) of texts, MISSING for a missing cell."""
        frequent, others = frequent_levels(codes, texts)
        lacks = bool((codes == MISSING).any())
        return cls(name, tuple(sorted(frequent)), bool(others), lacks, _remembered(others))

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

    def encode(self, cells: tuple[Codes, Sequence[str]]) -> HostArray:
        codes, texts = cells
        place = {level: k for k, level in enumerate(self.levels)}
        columns = np.array(
            [place.get(text, len(place)) for text in texts] + [len(place) + 1]
        )  # [MISSING] is the last
        table = np.zeros((len(place) + 2, len(self.outputs)), np.float32)
        if self.is_opposite:
            table[:2, 0] = -1, 1
        else:
            table[: len(place), : len(place)] = np.eye(len(place))
            table[len(place), len(place) : len(place) + self.has_others] = 1
            table[len(place) + 1, table.shape[1] - self.lacks :] = 1
        return np.take(table[columns], codes, axis=0)

    def fill(self, out: HostArray, cells: tuple[Codes, Sequence[str]]) -> None:
        if len(self.outputs) == 1:
            out[...] = self.encode(cells)
            return
        codes, texts = cells
        place = {level: k for k, level in enumerate(self.levels)}
        others = len(place) if self.has_others else -1
        columns = np.array(
            [place.get(text, others) for text in texts] + [len(self.outputs) - 1 if self.lacks else -1]
        )
        column = columns[codes]
        row = np.arange(len(codes))
        if column.min(initial=0) < 0:
            row, column = row[column >= 0], column[column >= 0]
        out[row, column] = 1


class BooleanEncoder(LevelEncoder):
    """The levels of a boolean, however they are written: `no`, `FALSE` and `0` are one level."""

    kind = "boolean"


class CodeEncoder(LevelEncoder):
    """Levels as codes for an Embedding layer: 0 for the others, 1 for a missing cell if `lacks`, then levels.

    At least one level of the training rows counts as one of the others, so that their code is trained.
    """

    kind = "codes"

    @classmethod
    def most(cls, name: str, codes: Codes, texts: Sequence[str], limit: int) -> "CodeEncoder":
        """Fit to the training rows as `LevelEncoder.fit`, with at most `limit` codes."""
        (frequent, others), lacks = frequent_levels(codes, texts), bool((codes == MISSING).any())
        kept = frequent[: limit - 1 - lacks]
        if not others and len(kept) == len(frequent):
            kept = kept[:-1]
        rare = _remembered([*others, *frequent[len(kept) :]])
        return cls(name, tuple(sorted(kept)), True, lacks, rare)

    @property
    def codes(self) -> int:
        """The number of codes."""
        return 1 + self.lacks + len(self.levels)

    @property
    def outputs(self) -> tuple[str, ...]:
        return (f"{self.name}, its code",)

    def encode(self, cells: tuple[Codes, Sequence[str]]) -> HostArray:
        codes, texts = cells
        place = {level: k for k, level in enumerate(self.levels, 1 + self.lacks)}
        return np.array([place.get(text, 0) for text in texts] + [int(self.lacks)], np.float32)[codes, None]


KINDS = (NumberEncoder, TimeEncoder, LevelEncoder, BooleanEncoder, CodeEncoder)
ENCODERS: dict[str, type[Encoder]] = {encoder.kind: encoder for encoder in KINDS}


def restored(saved: Mapping[str, Any]) -> Encoder:
    """Return the encoder that `to_json` wrote."""
    fields = dict(saved)
    kind = ENCODERS[fields.pop("kind")]
    if kind is TimeEncoder:
        fields["seconds"] = NumberEncoder(**_with_tuples(fields["seconds"]))
    return kind(**_with_tuples(fields))


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
