"""Durations that a person writes: 90, "90s", "10m", "1h30m"."""

import math
import re
from typing import Any

from ffnn_gpu.checks import is_number
from ffnn_gpu.errors import ConfigurationError

UNITS = {"h": 3600, "m": 60, "s": 1}
TIME = re.compile(r"(?=.)(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?")


def seconds_of(time: Any, name: str = "time") -> float:
    """Return a duration in seconds. Raises ConfigurationError, with the name of the argument."""
    seconds = float(time) if is_number(time) else math.nan
    if isinstance(time, str) and (found := TIME.fullmatch(time.strip().lower().replace(" ", ""))):
        try:
            parts = zip(found.groups(), UNITS.values(), strict=True)
            seconds = sum(float(number) * unit for number, unit in parts if number is not None)
        except ValueError:  # 1.2.3
            pass
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigurationError(
            f"{name} = {time!r} is not accepted: give seconds or a time such as 90s, 10m, 1h or 1h30m"
        )
    return seconds
