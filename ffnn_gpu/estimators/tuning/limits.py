"""When a search ends."""

import math
import re
from dataclasses import dataclass
from typing import Any

from ffnn_gpu.checks import is_number, require_positive_int
from ffnn_gpu.errors import ConfigurationError

UNITS = {"h": 3600, "m": 60, "s": 1}
TIME = re.compile(r"(?=.)(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?")


@dataclass(frozen=True)
class Limits:
    """The trials of a whole study and the seconds of one search; None for no limit. One is needed."""

    trials: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, trials: Any, time: Any) -> "Limits":
        """Return the limits of `trials` and `time`, such as 90, "90s", "10m" or "1h30m".

        Raises ConfigurationError for another value, and if both are None.
        """
        if trials is None and time is None:
            raise ConfigurationError(
                "a search needs an end: give trials, such as 50, or time, such as 10m, or both"
            )
        if trials is not None:
            require_positive_int("trials", trials)
        return cls(trials, None if time is None else seconds_of(time))


def seconds_of(time: Any) -> float:
    """Return a time in seconds. Raises ConfigurationError."""
    seconds = float(time) if is_number(time) else math.nan
    if isinstance(time, str) and (found := TIME.fullmatch(time.strip().lower().replace(" ", ""))):
        try:
            parts = zip(found.groups(), UNITS.values(), strict=True)
            seconds = sum(float(number) * unit for number, unit in parts if number is not None)
        except ValueError:  # 1.2.3
            pass
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigurationError(
            f"time = {time!r} is not accepted: give seconds or a time such as 90s, 10m, 1h or 1h30m"
        )
    return seconds
