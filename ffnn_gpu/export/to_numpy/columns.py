"""Raw columns → the function `features` of the file, which returns the matrix that the network reads."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.export.lookup import table_of
from ffnn_gpu.export.to_numpy import cells
from ffnn_gpu.tables.encoders import (
    PERIODS,
    BooleanEncoder,
    CodeEncoder,
    LevelEncoder,
    NumberEncoder,
    TimeEncoder,
)
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.spelling import FALSE, MARKERS, TRUE, Spelling

LONGEST = 90  # letters of a line of texts
FEATURES = '''
def features(rows):
    """Return the matrix (n, {width}) that the network reads.

    rows: a dict of columns, a data frame, a list of dicts, or a matrix whose columns are in the order of
        COLUMNS or READ.
    """
    rows, x = columns_of(rows), []
{lines}
    return np.column_stack(x).astype(np.{dtype})
'''


def source(encoding: Encoding, dtype: np.dtype[Any]) -> tuple[list[str], dict[str, HostArray]]:
    """Return the blocks of code that encode raw columns, and the tables that they read."""
    lines: list[str] = []
    tables: dict[str, HostArray] = {}
    levels: dict[str, tuple[str, ...]] = {}
    for encoder in encoding.encoders:
        if isinstance(encoder, LevelEncoder):
            table, levels[encoder.name] = f"rows of {encoder.name}", encoder.levels
            tables[table] = table_of(encoder)
            call = "truths" if isinstance(encoder, BooleanEncoder) else "looked_up"
            column = f"rows[{encoder.name!r}]"
            lines.append(f"x += [{call}({encoder.name!r}, {column}, WEIGHTS[{table!r}])]")
        elif isinstance(encoder, NumberEncoder | TimeEncoder):
            lines += _scaled(encoder)
    constants = [
        "# The columns of the training table, and those of them that the network reads.",
        f"COLUMNS = {_packed(encoding.columns)}",
        f"READ = {_packed(encoding.read)}",
        "# Texts that mean a missing cell: in every column, in those of numbers, times and booleans, in "
        "# categories.",
        f"MISSING = {('', *encoding.missing)!r}",
        f"MARKERS = {_packed(sorted(MARKERS))}",
        "# Numbers, and seconds since 1970, that mean a missing cell.",
        f"MISSING_NUMBERS = {Spelling(missing=encoding.missing).missing_numbers!r}",
        f"MISSING_TIMES = {Spelling(missing=encoding.missing).missing_times!r}",
    ]
    if levels:
        constants.append(f"MISSING_LEVELS = {_packed(('', *encoding.missing, *encoding.markers))}")
        items = "\n".join(f"    {name!r}: {_packed(each, 8)}," for name, each in levels.items())
        constants.append(f"LEVELS = {{\n{items}\n}}")
    written = "\n".join(f"    {line}" for line in lines)
    width, kinds = len(encoding.outputs), {type(encoder) for encoder in encoding.encoders}
    blocks = ["\n".join(constants), FEATURES.format(width=width, lines=written, dtype=dtype.name), cells.ROWS]
    if kinds & {NumberEncoder, TimeEncoder}:
        blocks += [cells.NUMBERS, cells.SCALED]
    if TimeEncoder in kinds:
        blocks.append(cells.TIMES)
    if kinds & {LevelEncoder, CodeEncoder}:
        blocks.append(cells.LEVELS)
    if BooleanEncoder in kinds:
        blocks.append(cells.TRUTHS.format(false=sorted(FALSE), true=sorted(TRUE)))
    return [*blocks, cells.TEXTS], tables


def _scaled(encoder: NumberEncoder | TimeEncoder) -> list[str]:
    scale = encoder.seconds if isinstance(encoder, TimeEncoder) else encoder
    column = f"{encoder.name!r}, rows[{encoder.name!r}]"
    if isinstance(encoder, TimeEncoder):
        lines = [f"column = seconds({column}, {encoder.written!r})"]
        lines.append("column = np.where(np.isin(column, MISSING_TIMES), np.nan, column)")
    else:
        lines = [f"column = numbers({column})"]
    lines.append(f"u = centered(column, {scale.center!r}, {scale.factor!r})")
    lines.append("x += [limited(u)]")
    if scale.lacks:
        lines.append("x += [np.isnan(column)]")
    if scale.tail:
        lines.append(f"x += [{scale.tail!r} * cut(u)]")
    for period in encoder.periods if isinstance(encoder, TimeEncoder) else ():
        parts = ", ".join(f"on_circle(np.{part}, column, {PERIODS[period]!r})" for part in ("sin", "cos"))
        lines.append(f"x += [{parts}]  # the {period}")
    return lines


def _packed(texts: Sequence[str], indent: int = 4) -> str:
    """Return a tuple of texts as code, on several lines if it is long."""
    text = repr(tuple(texts))
    if len(text) <= LONGEST:
        return text
    lines = [""]
    for each in texts:
        item = f"{each!r}, "
        if len(lines[-1]) + len(item) > LONGEST:
            lines.append("")
        lines[-1] += item
    space = " " * indent
    return "(\n" + "\n".join(f"{space}{line.rstrip()}" for line in lines) + f"\n{space[4:]})"
