"""Checks of arguments, and words for messages about them.

Numbers, names from a table, renamed keywords, kinds of files; similar names, and counted things.
"""

import difflib
import functools
import math
import stat
import warnings
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ffnn_gpu.errors import ConfigurationError

ROUNDING = 8 * float(np.finfo(np.float64).eps)  # relative: of a decimal fraction, a product and a quotient
T = TypeVar("T")
P = ParamSpec("P")


def look_up(kind: str, name: Any, table: Mapping[str, T], example: str) -> T:
    """Return table[name], ignoring case, or raise ConfigurationError with the names and the most similar one.

    kind, example: for the message, such as "optimizer" and "Adam(lr=1e-3)", an object instead of a name.
    """
    if not isinstance(name, str):
        wanted = f"an object such as ffnn_gpu.{example}, or a name"
        raise ConfigurationError(f"{kind} must be {wanted}, not {name!r}")
    key = name.strip().lower()
    if key in table:
        return table[key]
    near, names = nearest(key, table), ", ".join(table)
    hint = f"did you mean {near!r}? There are {names}" if near else f"there are {names}"
    raise ConfigurationError(f"no {kind} is called {name!r}; {hint}")


def nearest(key: str, names: Iterable[str]) -> str:
    """Return the name that differs in case only, else the most similar, else one that begins so, else ""."""
    names = list(names)
    if same := [name for name in names if name.casefold() == key.casefold()]:
        return same[0]
    longer = [name for name in names if key and name.startswith(key)]
    return (difflib.get_close_matches(key, names, n=1) or longer or [""])[0]


def counted(n: int, thing: str, things: str = "") -> str:
    """1 row, 2,000 rows; things: the plural, if it is not thing + "s"."""
    return f"{n:,} {thing if n == 1 else things or thing + 's'}"


def shortened(text: str, most: int = 60) -> str:
    """Return a text of the data as messages show it: of a longer one, the first `most` characters and …"""
    return text if len(text) <= most else text[: most - 1] + "…"


def renamed(**names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator: also accept the old names of keywords, old="new", with a DeprecationWarning."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            for old in kwargs.keys() & names.keys():
                new = names[old]
                if new in kwargs:
                    raise ConfigurationError(f"{old}= is the old name of {new}=; give {new}= alone")
                warnings.warn(f"{old}= is now called {new}=", DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return wrapper

    return decorate


def require_positive_int(what: str, value: Any) -> None:
    """Raise ConfigurationError unless value is an integer of at least 1."""
    if not is_whole(value) or value < 1:
        raise ConfigurationError(f"{what} must be a whole number of at least 1, not {value!r}")


def require_positive(what: str, value: Any) -> None:
    """Raise ConfigurationError unless value is a positive finite number."""
    if not is_number(value) or not 0 < value < float("inf"):
        raise ConfigurationError(f"{what} must be positive and finite, not {value!r}")


def seed_number(value: Any) -> int:
    """Return value as a seed, an integer from 0 to 2⁶⁴ − 1, the range of Philox's key."""
    if not is_whole(value) or not 0 <= value < 2**64:
        raise ConfigurationError(f"seed must be a whole number of at least 0 and below 2**64, not {value!r}")
    return int(value)


def special_file(path: str | Path) -> str:
    """Return "a pipe", "a device" or "a socket" if the path is one, else ""."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return ""
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
    return next((kind for test, kind in (*kinds, (stat.S_ISSOCK, "a socket")) if test(mode)), "")


def without_rounding(count: float) -> float:
    """Return the nearest whole number if `count` differs from it by rounding errors only; else `count`.

    Why: 0.14 · 50 is 7.000000000000001, and its ceiling 8.
    """
    nearest = round(count)
    return nearest if math.isclose(count, nearest, rel_tol=ROUNDING) else count


def is_number(value: Any) -> bool:
    """Return whether value is a real number; True and False are not."""
    return isinstance(value, (Real, np.floating)) and not isinstance(value, (bool, np.bool_))


def is_whole(value: Any) -> bool:
    """Return whether value is an integer; True and False are not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
