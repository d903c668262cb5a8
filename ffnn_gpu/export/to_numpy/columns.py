"""Raw columns → the function `features` of the file, which returns the matrix that the network reads."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.export.lookup import table_of
from ffnn_gpu.tables.encoders import (
    LIMIT,
    PERIODS,
    BooleanEncoder,
    CodeEncoder,
    LevelEncoder,
    NumberEncoder,
    TimeEncoder,
)
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.spelling import FALSE, MARKERS, TRUE

LONGEST = 90  # letters of a line of texts
SELECTION = '''
def columns_of(rows):
    """Return name -> cells of a dict of columns, a data frame, a list of dicts, or a matrix."""
    if isinstance(rows, (list, tuple)) and rows and hasattr(rows[0], "keys"):
        rows = {name: [row.get(name) for row in rows] for name in {name: 0 for row in rows for name in row}}
    if hasattr(rows, "keys"):
        if lacking := [name for name in READ if name not in rows.keys()]:
            raise ValueError(f"rows lack the columns {', '.join(map(repr, lacking))}")
        return {name: cells_of(rows[name]) for name in READ}
    matrix = np.asarray(rows)
    if matrix.ndim != 2 or matrix.shape[1] not in (len(COLUMNS), len(READ)):
        raise ValueError(f"rows have shape {matrix.shape}; the model reads the columns {', '.join(READ)}")
    names = COLUMNS if matrix.shape[1] == len(COLUMNS) else READ
    return {name: cells_of(matrix[:, names.index(name)]) for name in READ}


def cells_of(column):
    """Return a column as an array of numbers or times, or as a list of Python values."""
    column = column if isinstance(column, (list, tuple)) else np.asarray(column)
    numeric = isinstance(column, np.ndarray) and column.dtype.kind in "iufM"
    return column if numeric else [None if is_absent(cell) else cell for cell in column]


def is_absent(cell):
    """Return whether a cell is None, NaN or NaT."""
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or bool(cell != cell)
'''
NUMBERS = '''
def numbers(name, cells):
    """Return cells as float64, NaN where they are missing."""
    if isinstance(cells, np.ndarray):
        found = cells.astype(np.float64)
    else:
        found = np.array([number(name, cell) for cell in cells], np.float64)
    if np.isinf(found).any():
        raise ValueError(f"column {name!r} holds {found[np.isinf(found)][0]}; the model reads finite numbers")
    return found


def number(name, cell):
    """Return the number that a cell spells, NaN if it is missing."""
    if is_missing_number(text_of(cell)):
        return np.nan
    try:
        if "_" not in str(cell):
            return float(cell)
    except ValueError:
        pass
    raise ValueError(f"column {name!r} holds {cell!r}; the model reads numbers here")
'''
SCALED = f'''
def scaled(x, center, factor):
    """u / sqrt(1 + (u / {LIMIT:g})^2) with u = (x - center) factor; 0 where x is missing."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        u = np.where(np.isnan(x), 0.0, (x - center) * factor)
        limited = u / np.hypot(1.0, u / {LIMIT})
    return np.where(np.isinf(u), np.copysign({LIMIT}, u), limited)
'''
TIMES = '''
def seconds(name, cells, written):
    """Return times as seconds since 1970 in UTC, NaN where they are missing.

    cells: datetime64, datetime or date objects, texts that are `written` in strptime's language, or seconds.
    """
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        unit = 1_000_000_000 if np.datetime_data(cells.dtype)[0] == "ns" else 1_000_000
        counts = cells.astype("M8[ns]" if unit > 1_000_000 else "M8[us]").astype(np.int64)
        return np.where(np.isnat(cells), np.nan, counts / unit)
    if isinstance(cells, np.ndarray):
        return numbers(name, cells)
    return np.array([second(name, cell, written) for cell in cells], np.float64)


def second(name, cell, written):
    """Return one time as seconds since 1970 in UTC, NaN if it is missing."""
    if is_missing_number(text_of(cell)):
        return np.nan
    time = cell
    try:
        if isinstance(cell, str):
            text = cell.strip()
            time = datetime.strptime(text, written) if written else datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"column {name!r} holds {cell!r}; the model reads times here") from None
    if not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day)
    if time.tzinfo is not None:
        time = time.astimezone(timezone.utc).replace(tzinfo=None)
    return (time - datetime(1970, 1, 1)) // timedelta(microseconds=1) / 1_000_000


def on_circle(part, x, period):
    """Return sin or cos of 2 pi x / period, 0 where x is missing."""
    return np.nan_to_num(part(2 * np.pi * (x % period) / period))
'''
LOOKED_UP = r'''
def looked_up(name, cells, table):
    """Return the row of the table for each cell: of its level, of another text, or of a missing cell."""
    levels = LEVELS[name]
    places = {level: place for place, level in enumerate(levels)}
    values = [value_of(level) for level in levels]
    by_value = {value: place for place, value in enumerate(values) if values.count(value) == 1}
    rows = []
    for cell in cells.tolist() if isinstance(cells, np.ndarray) else cells:
        text = text_of(cell)
        if text in MISSING:
            rows.append(len(levels) + 1)
        elif text in places:
            rows.append(places[text])
        elif isinstance(cell, str):  # 1 may be written as 1.0
            rows.append(places.get(re.sub(r"^([+-]?\d+)\.0+$", r"\1", text), len(levels)))
        else:
            rows.append(by_value.get(value_of(text), len(levels)))
    return table[rows]


def value_of(text):
    """Return the number that a text spells, 1 for true, 0 for false; else the text."""
    if text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    try:
        value = float(text)
    except ValueError:
        return text
    return text if "_" in text or not np.isfinite(value) else value
'''
TRUTHS = '''
def truths(name, cells, table):
    """Return the row of the table for each cell: of false, true or neither, or of a missing cell."""
    levels = LEVELS[name]
    places = {{level: place for place, level in enumerate(levels)}}
    words = dict.fromkeys({false}, "false")
    words |= dict.fromkeys({true}, "true")
    rows = []
    for cell in cells.tolist() if isinstance(cells, np.ndarray) else cells:
        level = words.get(text_of(cell).lower(), "neither")
        missing = is_missing_number(text_of(cell))
        rows.append(len(levels) + 1 if missing else places.get(level, len(levels)))
    return table[rows]
'''
TEXTS = '''
def text_of(cell):
    """Return a cell as the text that a table holds for it."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, (bool, np.bool_)):
        return "true" if cell else "false"
    if isinstance(cell, float) and abs(cell) <= 2**53 and cell == round(cell):
        return f"{cell:.0f}"
    return str(cell).strip()


def is_missing_number(text):
    """Return whether a cell of a column of numbers, times or booleans is missing."""
    return text in MISSING or text.lower() in MARKERS
'''
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
MATRIX = '''
def features(rows):
    """Return the matrix (n, {width}) that the network reads: the numbers of rows{scaling}."""
    x = np.asarray(rows, np.{given})
    if x.ndim != 2 or x.shape[1] != {width}:
        raise ValueError(f"rows have shape {{x.shape}}; the model reads {width} columns")
    if not np.isfinite(x).all():
        raise ValueError("rows hold a number that is not finite")
{lines}    return x
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
            cells = f"rows[{encoder.name!r}]"
            lines.append(f"x += [{call}({encoder.name!r}, {cells}, WEIGHTS[{table!r}])]")
        elif isinstance(encoder, NumberEncoder | TimeEncoder):
            lines += _scaled(encoder)
    constants = [
        "# The columns of the training table, and those of them that the network reads.",
        f"COLUMNS = {_packed(encoding.columns)}",
        f"READ = {_packed(encoding.read)}",
        "# Texts that mean a missing cell: in every column, and in those of numbers, times and booleans.",
        f"MISSING = {('', *encoding.missing)!r}",
        f"MARKERS = {_packed(sorted(MARKERS))}",
    ]
    if levels:
        items = "\n".join(f"    {name!r}: {_packed(each, 8)}," for name, each in levels.items())
        constants.append(f"LEVELS = {{\n{items}\n}}")
    written = "\n".join(f"    {line}" for line in lines)
    width, kinds = len(encoding.outputs), {type(encoder) for encoder in encoding.encoders}
    blocks = ["\n".join(constants), FEATURES.format(width=width, lines=written, dtype=dtype.name), SELECTION]
    if kinds & {NumberEncoder, TimeEncoder}:
        blocks += [NUMBERS, SCALED]
    if TimeEncoder in kinds:
        blocks.append(TIMES)
    if kinds & {LevelEncoder, CodeEncoder}:
        blocks.append(LOOKED_UP)
    if BooleanEncoder in kinds:
        blocks.append(TRUTHS.format(false=sorted(FALSE), true=sorted(TRUE)))
    return [*blocks, TEXTS], tables


def matrix_source(
    width: int, dtype: np.dtype[Any], constant: tuple[int, ...] | None, limit: float | None
) -> str:
    """Return the function `features` for a matrix.

    constant: the constant columns of the standardizer; None if there is no standardizer.
    """
    if constant is None:
        return MATRIX.format(width=width, scaling="", given=dtype.name, lines="")
    lines = f'    x = ((x - WEIGHTS["mean"]) / WEIGHTS["scale"]).astype(np.{dtype.name})\n'
    if constant:
        lines += f"    x[:, {[*constant]}] = 0  # columns that were constant in the training\n"
    if limit is not None:
        lines += f"    x = np.clip(x, {-limit!r}, {limit!r})\n"
    return MATRIX.format(width=width, scaling=", standardized", given="float64", lines=lines)


def _scaled(encoder: NumberEncoder | TimeEncoder) -> list[str]:
    scale = encoder.seconds if isinstance(encoder, TimeEncoder) else encoder
    cells = f"{encoder.name!r}, rows[{encoder.name!r}]"
    if isinstance(encoder, TimeEncoder):
        lines = [f"column = seconds({cells}, {encoder.written!r})"]
    else:
        lines = [f"column = numbers({cells})"]
    lines.append(f"x += [scaled(column, {scale.center!r}, {scale.factor!r})]")
    if scale.lacks:
        lines.append("x += [np.isnan(column)]")
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
