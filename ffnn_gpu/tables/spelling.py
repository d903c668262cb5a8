"""How cells spell numbers, times and missing values.

Only plain decimal numbers count: `1E2` and `007` are numbers, `1_5`, `0x1F`, `nan` and `inf` are not. A number is
rounded once, to float64. The database converts the cells that are numbers; the texts of the others are few, so
Python decides what they mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ffnn_gpu.tables.table import literal

# What data files write for a missing number or time, in lower case. In a column of categories they are levels.
MARKERS = frozenset(
    ("na", "n/a", "#n/a", "nan", "null", "none", "nil", "nat", "<na>", "?", "-", "--", ".", "missing")
)


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
        plain = f"NOT contains({cell}, '_') AND NOT contains({cell}, '+-')"
        if self.decimal == ",":
            plain, cell = f"{plain} AND NOT contains({cell}, '.')", f"replace({cell}, ',', '.')"
        value = f"try_cast({cell} AS DOUBLE)"
        return f"CASE WHEN {plain} AND isfinite({value}) THEN {value} END"


def seconds(cell: str, written: str) -> str:
    """Return the SQL expression for a time in seconds since 1970, NULL if the text is none."""
    return f"epoch(try_strptime(trim({cell}), {literal(written)}))"


def as_spelled(texts: Sequence[str], levels: Sequence[str]) -> list[str]:
    """Return texts of numbers or booleans as the levels spell the same values: true is True and 1, 1 is 1.0.

    For cells whose source has typed columns: pandas reads the `True` and `1.0` of a text file as values.
    """
    values = [*map(_value, levels)]
    known = {value: level for value, level in zip(values, levels, strict=True) if values.count(value) == 1}
    return [text if text in levels else known.get(_value(text), text) for text in texts]


def _value(text: str) -> float | str:
    """Return the number that a text spells, 1 for true, 0 for false; else the text."""
    if text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    try:
        number = float(text)
    except ValueError:
        return text
    return text if "_" in text or not math.isfinite(number) else number
