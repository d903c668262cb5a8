"""The texts that mean each level of a category or boolean. ONNX compares whole texts, so all are listed."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from ffnn_gpu.tables.encoders import BooleanEncoder, LevelEncoder
from ffnn_gpu.tables.spelling import FALSE, MARKERS, TRUE

NEITHER = "neither"  # what tables call a cell that is no boolean
WHOLE = re.compile(r"[+-]?\d+")


class Spellings(NamedTuple):
    """text → row of `lookup.table_of`, and the row of every other text."""

    rows: dict[str, int]
    unknown: int


def spellings(encoder: LevelEncoder, missing: Iterable[str]) -> Spellings:
    """Return the texts that an encoder knows.

    missing: further texts that mean a missing cell. A boolean also has the markers of `tables.spelling`.
    """
    row = {level: k for k, level in enumerate(encoder.levels)}
    lacks = len(row) + 1
    rows = dict.fromkeys(("", *missing), lacks)
    if not isinstance(encoder, BooleanEncoder):
        # pandas writes 1 as 1.0 once a column lacks a cell
        rows |= {f"{level}.0": k for level, k in row.items() if WHOLE.fullmatch(level)}
        return Spellings(rows | row, len(row))
    rows |= dict.fromkeys(_in_all_cases(MARKERS), lacks)
    unknown = row.get(NEITHER, len(row))
    for level, words in (("false", FALSE), ("true", TRUE)):
        rows |= dict.fromkeys(_in_all_cases(words), row.get(level, len(row)))
    return Spellings(rows, unknown)


def _in_all_cases(words: Iterable[str]) -> list[str]:
    return [each for word in sorted(words) for each in (word, word.upper(), word.capitalize())]
