"""Axes of charts: where numbers lie on them, and round numbers to write beside them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

STEPS = (1.0, 2.0, 5.0, 10.0)
INTERVALS = 6  # between ticks, at most
LARGEST = 1.79e308
DECADES = 30.0  # ratio of the largest number to the least from which an axis is logarithmic
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
SHORT = 1e4  # numbers below it are written out


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, low < high; both are positive if it is logarithmic.

    is_whole: its numbers are integers, such as epochs.
    """

    label: str
    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False

    @classmethod
    def around(cls, label: str, numbers: Iterable[float], may_be_log: bool = False) -> "Axis":
        """Return an axis on which all finite numbers lie.

        may_be_log: make it logarithmic if the numbers are positive and span more than a factor of 30.
        """
        finite = [float(number) for number in numbers if math.isfinite(number)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        if may_be_log and low > 0 and high / DECADES > low:
            return cls(label, low, high, True)
        margin = 0.04 * (high / 2 - low / 2) * 2 or 0.05 * abs(low) or 1.0
        return cls(label, max(low - margin, -LARGEST), min(high + margin, LARGEST))

    def place(self, number: float) -> float:
        """Return where a number lies: 0 at `low`, 1 at `high`."""
        if self.is_log:
            return math.log(number / self.low) / math.log(self.high / self.low)
        span = self.high / 2 - self.low / 2  # halved: the difference cannot overflow
        return (number / 2 - self.low / 2) / span

    def ticks(self) -> list[float]:
        """Return at most seven round numbers within the axis."""
        if self.is_log:
            return _decades(self.low, self.high)
        return _round_numbers(self.low, self.high, 1.0 if self.is_whole else 0.0)


def _round_numbers(low: float, high: float, least: float) -> list[float]:
    rough = high / INTERVALS - low / INTERVALS
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 0.0
    if not (power and math.isfinite(power)):
        return [low, high]
    step = max(least, next((each * power for each in STEPS if each * power >= rough), 10 * power))
    first, last = math.ceil(low / step), math.floor(high / step)
    if abs(first) > 2**52:  # the step is below the precision of the ends
        return [low, high]
    return [k * step for k in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return powers of ten, with 2 and 5 times them where these are few."""
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first) / INTERVALS))
    powers = [10.0**k for k in range(first, last + 1, every)]
    finer = [times * power for power in powers for times in (1, 2, 5)]
    for ticks in (finer, powers):
        within = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(within) <= INTERVALS + 1:
            return within
    return within


def short_number(number: float) -> str:
    """0.25, 3000, 20k, 1.5M, 2e−05: a number in at most eight characters."""
    for unit, letter in UNITS:
        if max(unit, SHORT) <= abs(number) < 1000 * UNITS[0][0]:
            return f"{number / unit:.4g}{letter}".replace("-", "\u2212")
    return f"{number + 0.0:.4g}".replace("e+", "e").replace("-", "\u2212")
