"""JSON as RFC 8259 defines it: NaN and Infinity, which Python writes and most readers refuse, are no JSON.

Files for other programs have null in their place. Our own files have {"float": "nan"}, so that `loads`
returns the same numbers.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any


def dumps(value: Any, **settings: Any) -> str:
    """Return the JSON text of a value, with null for each number that is not finite."""
    return json.dumps(_replaced(value, lambda number: None), allow_nan=False, **settings)


def dumps_exactly(value: Any) -> str:
    """Return a JSON text from which `loads` restores every number."""
    return json.dumps(_replaced(value, lambda number: {"float": str(number)}), allow_nan=False)


def loads(text: str | bytes) -> Any:
    """Return the value of a text of `dumps_exactly`, or of an older text with NaN and Infinity."""
    return json.loads(text, object_hook=_number)


def _replaced(value: Any, replace: Callable[[float], Any]) -> Any:
    """Return the value with `replace(number)` for each number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else replace(float(value))
    if isinstance(value, Mapping):
        return {name: _replaced(part, replace) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(part, replace) for part in value]
    return value


def _number(found: dict[str, Any]) -> Any:
    is_number = found.keys() == {"float"} and found["float"] in ("nan", "inf", "-inf")
    return float(found["float"]) if is_number else found
