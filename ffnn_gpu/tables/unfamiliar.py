"""Count the cells of a table that are unlike all cells that a model was trained on.

The encoding gives each of them a value: a new level is one of the others, a missing number is the median, a
number far outside the range is near ±3. So the model answers, and only these counts show that it guesses.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from ffnn_gpu.checks import shortened
from ffnn_gpu.tables.encoders import BooleanEncoder, Encoder, LevelEncoder, NumberEncoder, TimeEncoder
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.table import MISSING, Codes, Floats, Table

MOST_EXAMPLES = 3
FARTHEST = 1e11  # seconds, about 3000 years, that are printed as a date
LACKING = "missing, in a column without missing cells in the training rows"


def unfamiliar(
    encoding: Encoding, table: Table, skip: Sequence[int] = (), rows: Codes | None = None
) -> Iterator[str]:
    """Yield a sentence for each column with cells such as no training row has.

    Args:
        skip: columns that are targets, as in `Encoding.encode`.
        rows: the rows that count; None for all.
    """
    count = len(table) if rows is None else len(rows)
    for encoder, cells in encoding.cells(table, skip):
        if isinstance(encoder, LevelEncoder):
            codes, texts = cells
            found = _levels(encoder, codes if rows is None else codes[rows], texts)
        else:
            found = _numbers(encoder, cells if rows is None else cells[rows])
        said = [f"{cells:,} of {count:,} cells {text}" for cells, text in found]
        if said:
            yield f"column {encoder.name!r}: {'; '.join(said)}"


def _levels(encoder: LevelEncoder, codes: Codes, texts: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield (number of cells, what they are)."""
    counts = np.bincount(codes[codes != MISSING], minlength=len(texts))
    if encoder.rare is not None:
        known = {*encoder.levels, *map(_plain, encoder.rare)}
        found = [k for k in np.flatnonzero(counts).tolist() if not {texts[k], _plain(texts[k])} & known]
        if found:
            listed = ", ".join(
                repr(shortened(texts[k])) for k in sorted(found, key=lambda k: -counts[k])[:MOST_EXAMPLES]
            )
            shown = (
                ""
                if isinstance(encoder, BooleanEncoder)
                else f": {listed}{', …' * (len(found) > MOST_EXAMPLES)}"
            )
            yield int(counts[found].sum()), f"with a level that no training row has{shown}"
    if not encoder.lacks and (lacking := int((codes == MISSING).sum())):
        yield lacking, LACKING


def _numbers(encoder: Encoder, x: Floats) -> Iterator[tuple[int, str]]:
    """Yield (number of cells, what they are)."""
    numbers = encoder.seconds if isinstance(encoder, TimeEncoder) else encoder
    assert isinstance(numbers, NumberEncoder)
    if numbers.seen is not None:
        low, high = numbers.seen
        with np.errstate(over="ignore", invalid="ignore"):
            outside = np.maximum(low - x, x - high)
            far = np.flatnonzero(outside > high - low)
        if len(far):
            most = x[far[outside[far].argmax()]]
            texts = [_said(value, isinstance(encoder, TimeEncoder)) for value in (low, high, most)]
            yield len(far), "far outside the training rows' {} … {}, up to {}".format(*texts)
    if not numbers.lacks and (lacking := int(np.isnan(x).sum())):
        yield lacking, LACKING


def _plain(text: str) -> str:
    """Return a level as typed columns may spell it otherwise: 1.0 as 1, True as true."""
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", text).lower()


def _said(value: float, is_time: bool) -> str:
    if is_time and abs(value) < FARTHEST:
        return str(np.datetime64(int(value), "s")).removesuffix("T00:00:00")
    return f"{value:.6g}"
