"""How cells spell numbers, times, booleans and missing values.

Only plain decimal numbers count: `1E2` and `007` are numbers, `1_5`, `0x1F`, `nan` and `inf` are not. A
number is rounded once, to float64. The database converts the cells that are numbers; the texts of the others
are few, so Python decides what they mean.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ffnn_gpu.tables.table import literal

# What data files write for a missing number or time, in lower case. In categories they are levels.
MARKERS = frozenset(
    ("na", "n/a", "#n/a", "nan", "null", "none", "nil", "nat", "<na>", "?", "-", "--", ".", "missing")
)
ISO = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%f",
    "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%H:%M",
)  # fmt: skip


@dataclass(frozen=True)
class Spelling:
    """How the cells of a table are written.

    Args:
        decimal: the decimal sign, "." or ",".
        missing: further texts that mean a missing cell, in every column.
    """

    decimal: str = "."
    missing: tuple[str, ...] = ()

    def is_missing(self, cell: str) -> bool:
        """Return whether a cell is missing in every kind of column."""
        text = cell.strip()
        return not text or text in self.missing

    def is_missing_number(self, cell: str) -> bool:
        """Return whether a cell is missing in a column of numbers or times."""
        return self.is_missing(cell) or cell.strip().lower() in MARKERS

    def number(self, cell: str) -> str:
        """Return the SQL expression for the number that a text spells, NULL if it spells none."""
        # Of the texts that the database takes for numbers, only those that begin with +- have it. They are
        # below ','; the comparison spares the search in most cells.
        plain = f"NOT contains({cell}, '_') AND ({cell} >= ',' OR NOT contains({cell}, '+-'))"
        if self.decimal == ",":
            plain, cell = f"{plain} AND NOT contains({cell}, '.')", f"replace({cell}, ',', '.')"
        value = f"try_cast({cell} AS DOUBLE)"
        return f"CASE WHEN {plain} AND isfinite({value}) THEN {value} END"


TRUE, FALSE = (
    frozenset(("true", "yes", "t", "y", "on", "1", "1.0")),
    frozenset(("false", "no", "f", "n", "off", "0", "0.0")),
)
PAIRS = tuple(map(frozenset, (("true", "false"), ("yes", "no"), ("t", "f"), ("y", "n"), ("on", "off"))))


def truth(cell: str) -> bool | None:
    """Return what a boolean cell means, in upper or lower case; None if it is none."""
    text = cell.strip().lower()
    return True if text in TRUE else False if text in FALSE else None


def are_booleans(cells: Iterable[str]) -> bool:
    """Return whether texts are two opposite words, with or without 1 and 0 beside them."""
    texts = {cell.strip().lower() for cell in cells}
    words = texts - {"0", "1"}
    return bool(words) and any(words <= pair for pair in PAIRS) and len({*map(truth, texts)}) == 2


def number_with_signs(cell: str, decimal: str = ".") -> str:
    """Return the sign that keeps a number from being plain, such as "a percent sign"; "" without one."""
    found = SIGNS[decimal].fullmatch(cell.strip())
    if not found:
        return ""
    names = (
        ("currency", "a currency sign"),
        ("percent", "a percent sign"),
        ("groups", "a thousands separator"),
    )
    first = next(
        (name for group, name in names if found[group] or (group == "currency" and found["money"])), ""
    )
    return first or ("a decimal comma" if found["comma"] else "")


def _signs(decimal: str) -> re.Pattern[str]:
    other = "," if decimal == "." else "."
    groups = rf"(?P<groups>\d{{1,3}}(?:[{other}' \u00a0\u202f]\d{{3}})+)"
    rest = rf"(?:[{decimal}]\d*)?" if decimal == "," else r"(?:\.\d*)?"
    comma = r"(?P<comma>,\d+)?" if decimal == "." else "(?P<comma>(?!))?"
    money = "[$€£¥₹]|EUR|USD|GBP|CHF"
    return re.compile(
        rf"(?P<currency>{money})?\s*[+-]?\s*(?:{groups}|\d+){rest}{comma}\s*(?P<percent>%)?(?P<money>{money})?"
    )


SIGNS = {decimal: _signs(decimal) for decimal in ".,"}


def seconds(cell: str, written: str) -> str:
    """Return the SQL expression for a time in seconds since 1970, NULL if the text is none.

    written: the way in strptime's language; "" for every way of ISO 8601.
    """
    ways = f"[{', '.join(map(literal, ISO))}]" if not written else literal(written)
    time = f"try_strptime(trim({cell}), {ways})"
    return f"CASE WHEN year({time}) >= 1000 THEN epoch({time}) END"  # DuckDB reads 24 as the year %Y


def as_spelled(texts: Sequence[str], levels: Sequence[str]) -> list[str]:
    """Return texts of numbers or booleans as the levels spell the same values: true is True and 1, 1 is 1.0.

    For cells whose source has typed columns: pandas reads the `True` and `1.0` of a text file as values.
    """
    values, own = [*map(_value, levels)], {*levels}
    counts = Counter(values)
    known = {value: level for value, level in zip(values, levels, strict=True) if counts[value] == 1}
    return [text if text in own else known.get(_value(text), text) for text in texts]


def _value(text: str) -> float | str:
    """Return the number that a text spells, 1 for true, 0 for false; else the text."""
    if text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    try:
        number = float(text)
    except ValueError:
        return text
    return text if "_" in text or not math.isfinite(number) else number
