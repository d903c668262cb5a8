"""Settings that must be numbers of a kind: the sentence that says so."""

from numbers import Real
from typing import Any

import numpy as np

from ffnn_gpu.errors import ConfigurationError


def require_positive_int(what: str, value: Any) -> None:
    """Raise ConfigurationError unless value is an integer of at least 1."""
    if not is_whole(value) or value < 1:
        raise ConfigurationError(f"{what} must be a whole number of at least 1, not {value!r}")


def require_positive(what: str, value: Any) -> None:
    """Raise ConfigurationError unless value is a positive finite number."""
    if not is_number(value) or not 0 < value < float("inf"):
        raise ConfigurationError(f"{what} must be positive and finite, not {value!r}")


def seed_number(value: Any) -> int:
    """value as a seed. Raises ConfigurationError unless it is an integer from 0 to 2⁶⁴ − 1, as long as Philox's key."""
    if not is_whole(value) or not 0 <= value < 2**64:
        raise ConfigurationError(f"seed must be a whole number of at least 0 and below 2**64, not {value!r}")
    return int(value)


def is_number(value: Any) -> bool:
    """Whether value is a real number; True and False are not."""
    return isinstance(value, (Real, np.floating)) and not isinstance(value, (bool, np.bool_))


def is_whole(value: Any) -> bool:
    """Whether value is an integer; True and False are not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
