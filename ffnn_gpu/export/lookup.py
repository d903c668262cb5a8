"""A category or boolean as a table: text → row, row → columns of the matrix.

The encoder itself is run once on each level, on an unknown text and on a missing cell. So its rules are not
written a second time, and a program without this package only looks texts up.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.tables.encoders import BooleanEncoder, LevelEncoder
from ffnn_gpu.tables.spelling import FALSE, MARKERS, TRUE
from ffnn_gpu.tables.table import MISSING

UNKNOWN = "\0"  # a text that is no level
NEITHER = "neither"  # what tables call a cell that is no boolean
WHOLE = re.compile(r"[+-]?\d+")


@dataclass(frozen=True, eq=False)
class Lookup:
    """How the texts of one column become numbers.

    Attributes:
        table: (levels + 2, outputs) float64: the levels, an unknown text, a missing cell.
        rows: text → row of the table.
        unknown: the row of every other text.
    """

    table: HostArray
    rows: dict[str, int]
    unknown: int


def lookup(encoder: LevelEncoder, missing: Iterable[str]) -> Lookup:
    """Return what an encoder does, as a table.

    missing: further texts that mean a missing cell. A boolean also has the markers of `tables.spelling`.
    """
    row = {level: k for k, level in enumerate(encoder.levels)}
    unknown = row.get(NEITHER, len(row)) if isinstance(encoder, BooleanEncoder) else len(row)
    lacks = len(row) + 1
    codes = np.array([*range(len(row) + 1), MISSING])
    table = encoder.encode((codes, [*encoder.levels, UNKNOWN]))
    rows = dict.fromkeys(("", *missing), lacks)
    if isinstance(encoder, BooleanEncoder):
        rows |= {word: lacks for marker in sorted(MARKERS) for word in _in_all_cases(marker)}
        for level, spellings in (("false", FALSE), ("true", TRUE)):
            found = row.get(level, len(row))
            rows |= {word: found for spelling in sorted(spellings) for word in _in_all_cases(spelling)}
        return Lookup(table, rows, unknown)
    # pandas writes 1 as 1.0 once a column lacks a cell
    rows |= {f"{level}.0": k for level, k in row.items() if WHOLE.fullmatch(level)}
    return Lookup(table, rows | row, unknown)


def _in_all_cases(word: str) -> tuple[str, ...]:
    return word, word.upper(), word.capitalize()
