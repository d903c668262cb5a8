"""How cells spell numbers, times, booleans and missing values.

Only decimal numbers count: `1E2`, `007` and, with a decimal point, `1,234.5` are numbers, `1_5`, `0x1F`,
`nan` and `inf` are not. A number is rounded once, to float64. The database converts the cells that are
numbers; the texts of the others are few, so Python decides what they mean.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from ffnn_gpu.tables.decimal_signs import GROUPED, OTHER, grouped
from ffnn_gpu.tables.embedded_database import literal
from ffnn_gpu.tables.iso_times import CLOCKS, MIXED, ZONED, seconds_of_iso

# What pandas reads as missing in a text file, in every column. Why in categories too: a model trained on the
# file must answer the same for a frame that was read from it.
MISSING_LEVELS = (
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
# What data files write for a missing number or time, in lower case.
MARKERS = frozenset((*map(str.lower, MISSING_LEVELS), "none", "nil", "nat", "?", "-", "--", ".", "missing"))
ISO = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%f",
    "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%H:%M",
)  # fmt: skip


OF_NUMBERS = {decimal: frozenset(f"0123456789+-eE{decimal}") for decimal in OTHER}
BLANKS = " \t\n\v\f\r"  # that the database ignores around a number


@dataclass(frozen=True)
class Spelling:
    """How the cells of a table are written.

    Args:
        decimal: the decimal sign, "." or ",".
        missing: further texts that mean a missing cell, in every column.
        markers: texts that mean a missing cell in a column of categories.
        day_first: whether the day comes first in 03/04/2024; None if the cells decide.
    """

    decimal: str = "."
    missing: tuple[str, ...] = ()
    markers: tuple[str, ...] = MISSING_LEVELS
    day_first: bool | None = None

    def is_missing(self, cell: str) -> bool:
        """Return whether a cell is missing in every kind of column, targets too."""
        text = cell.strip()
        return not text or text in self.missing

    def is_missing_level(self, cell: str) -> bool:
        """Return whether a cell is missing in a column of categories."""
        return self.is_missing(cell) or cell.strip() in self.markers

    def is_missing_number(self, cell: str) -> bool:
        """Return whether a cell is missing in a column of numbers or times."""
        if self.is_missing(cell) or cell.strip().lower() in MARKERS:
            return True
        if self.missing_numbers and self.value(cell) in self.missing_numbers:
            return True
        return bool(self.missing_times) and _iso_time(cell) in self.missing_times

    @cached_property
    def missing_numbers(self) -> tuple[float, ...]:
        """The numbers that mean a missing cell in a column of numbers, however a cell spells them."""
        values = map(self.value, self.missing)
        return tuple(dict.fromkeys(value for value in values if value is not None))

    def number(self, cell: str) -> str:
        """Return the SQL expression for the number that a text spells, NULL if it spells none."""
        # Of the texts that the database takes for numbers, only those that begin with +- have it. They are
        # below ','; the comparison spares the search in most cells.
        plain = f"NOT contains({cell}, '_') AND ({cell} >= ',' OR NOT contains({cell}, '+-'))"
        group, text, joined = OTHER[self.decimal], cell, f"replace({cell}, ',', '')"
        if self.decimal == ",":
            plain, text = f"{plain} AND NOT contains({cell}, '.')", f"replace({cell}, ',', '.')"
            joined = f"replace(replace({cell}, '.', ''), ',', '.')"
        value, whole = f"try_cast({text} AS DOUBLE)", f"try_cast({joined} AS DOUBLE)"
        bare = f"trim({cell}, {literal(BLANKS)})"
        has_groups = f"contains({cell}, '{group}') AND regexp_full_match({bare}, '{grouped(self.decimal)}')"
        return self.present(
            f"CASE WHEN {plain} AND isfinite({value}) THEN {value} "
            f"WHEN {has_groups} AND isfinite({whole}) THEN {whole} END"
        )

    @cached_property
    def missing_times(self) -> tuple[float, ...]:
        """The times of ISO 8601 that mean a missing cell, in seconds since 1970; UTC without a zone."""
        times = map(_iso_time, self.missing)
        return tuple(dict.fromkeys(time for time in times if time is not None))

    def present(self, number: str) -> str:
        """Return the SQL expression for a number, NULL for one that means a missing cell."""
        for value in self.missing_numbers:
            number = f"nullif({number}, CAST('{value!r}' AS DOUBLE))"
        return number

    def filled(self, cell: str) -> str:
        """Return the SQL expression for a text, NULL for one with digits that means a missing cell."""
        lost = ", ".join(literal(text) for text in self.missing if any(map(str.isdigit, text)))
        return f"CASE WHEN trim({cell}) NOT IN ({lost}) THEN {cell} END" if lost else cell

    def value(self, cell: str) -> float | None:
        """Return the number that a text spells, None if it spells none; as `number`, but for missing ones."""
        text = cell.strip(BLANKS)
        if GROUPED[self.decimal].fullmatch(text):
            text = text.replace(OTHER[self.decimal], "")
        elif not set(text) <= OF_NUMBERS[self.decimal]:
            return None
        try:
            number = float(text.replace(self.decimal, "."))
        except ValueError:
            return None
        return number if math.isfinite(number) else None

    def is_grouped(self, cell: str) -> bool:
        """Return whether a text is a number whose thousands are grouped."""
        return bool(GROUPED[self.decimal].fullmatch(cell.strip()))


def _iso_time(cell: str) -> float | None:
    """Return a time of ISO 8601 in seconds since 1970, None if a text is none."""
    try:
        time = datetime.fromisoformat(cell.strip())
    except ValueError:
        return None
    return time.replace(tzinfo=time.tzinfo or UTC).timestamp()


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

    written: the way in strptime's language, or a name of `iso_times`; "" for every way of ISO 8601.
    """
    if written in (MIXED, ZONED):
        return seconds_of_iso(cell, written)
    if not written:
        return f"coalesce({seconds_of_iso(cell, written)}, {_parsed(cell, CLOCKS)})"
    return _parsed(cell, (written,))


def _parsed(cell: str, ways: Sequence[str]) -> str:
    time = f"try_strptime(trim({cell}), [{', '.join(map(literal, ways))}])"
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
