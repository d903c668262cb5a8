"""When a search ends."""

from dataclasses import dataclass
from typing import Any

from ffnn_gpu.checks import require_positive_int
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.durations import seconds_of


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
