"""The functions of the file that read rows and cells of every kind, as text.

They decide as `tables` does what a cell means: which texts are missing, how a level or a time is spelled.
"""

from ffnn_gpu.tables.decimal_signs import grouped
from ffnn_gpu.tables.encoders import END, FAR, LIMIT
from ffnn_gpu.tables.iso_times import MIXED, ZONED

ROWS = '''
def columns_of(rows):
    """Return name -> cells of a dict of columns, a data frame, a list of dicts, or a matrix."""
    if isinstance(rows, (list, tuple)) and rows and hasattr(rows[0], "keys"):
        rows = {name: [row.get(name) for row in rows] for name in {name: 0 for row in rows for name in row}}
    given = rows.keys() if hasattr(rows, "keys") else None
    given = getattr(rows, "column_names", getattr(rows, "columns", given))
    if given is not None:
        if lacking := [name for name in READ if name not in given]:
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
NUMBERS = rf'''
GROUPED = r"{grouped(".")}"  # such as 1,234.5


def numbers(name, cells):
    """Return cells as float64, NaN where they are missing."""
    if isinstance(cells, np.ndarray):
        found = cells.astype(np.float64)
    else:
        found = np.array([number(name, cell) for cell in cells], np.float64)
    return np.where(np.isin(finite(name, found), MISSING_NUMBERS), np.nan, found)


def finite(name, x):
    """Return numbers of which none is infinite."""
    if np.isinf(x).any():
        raise ValueError(f"column {{name!r}} holds {{x[np.isinf(x)][0]}}; the model reads finite numbers")
    return x


def number(name, cell):
    """Return the number that a cell spells, NaN if it is missing."""
    if is_missing_number(text_of(cell)):
        return np.nan
    if isinstance(cell, str) and re.fullmatch(GROUPED, cell.strip()):
        cell = cell.replace(",", "")
    try:
        if "_" not in str(cell):
            return float(cell)
    except ValueError:
        pass
    raise ValueError(f"column {{name!r}} holds {{cell!r}}; the model reads numbers here")
'''
SCALED = f'''
def centered(x, center, factor):
    """(x - center) factor; 0 where x is missing."""
    with np.errstate(over="ignore", under="ignore"):
        return np.where(np.isnan(x), 0.0, (x - center) * factor)


def limited(u):
    """u / sqrt(1 + (u / {LIMIT:g})^2)"""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        softly = u / np.sqrt(1.0 + np.square(u / {LIMIT}))
    return np.where(np.abs(u) > {FAR}, np.copysign({LIMIT}, u), softly)


def cut(u):
    """Return u between -{END:g} and {END:g}."""
    return np.clip(u, -{END}, {END})
'''
TIMES = f'''
ZONES = {{{MIXED!r}: False, {ZONED!r}: True}}  # whether times have a zone


def seconds(name, cells, written):
    """Return times as seconds since 1970 in UTC, NaN where they are missing.

    cells: datetime64, datetime or date objects, texts that are `written` in strptime's language, or seconds.
    """
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        unit = 1_000_000_000 if np.datetime_data(cells.dtype)[0] == "ns" else 1_000_000
        counts = cells.astype("M8[ns]" if unit > 1_000_000 else "M8[us]").astype(np.int64)
        return np.where(np.isnat(cells), np.nan, counts / unit)
    if isinstance(cells, np.ndarray):
        return finite(name, cells.astype(np.float64))
    return np.array([second(name, cell, written) for cell in cells], np.float64)


def second(name, cell, written):
    """Return one time as seconds since 1970 in UTC, NaN if it is missing."""
    if is_missing_number(text_of(cell)):
        return np.nan
    time = cell
    try:
        if isinstance(cell, str):
            text = cell.strip()
            iso = not written or written.startswith("ISO")
            time = datetime.fromisoformat(text) if iso else datetime.strptime(text, written)
            if written in ZONES and ZONES[written] != (time.tzinfo is not None):
                raise ValueError
    except ValueError:
        raise ValueError(f"column {{name!r}} holds {{cell!r}}; the model reads times here") from None
    if not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day)
    if time.tzinfo is not None:
        time = time.astimezone(timezone.utc).replace(tzinfo=None)
    return (time - datetime(1970, 1, 1)) // timedelta(microseconds=1) / 1_000_000


def on_circle(part, x, period):
    """Return sin or cos of 2 pi x / period, 0 where x is missing."""
    return np.nan_to_num(part(2 * np.pi * (x % period) / period))
'''
LEVELS = r'''
def looked_up(name, cells, table):
    """Return the row of the table for each cell: of its level, of another text, or of a missing cell."""
    levels = LEVELS[name]
    places = {level: place for place, level in enumerate(levels)}
    values = [value_of(level) for level in levels]
    by_value = {value: place for place, value in enumerate(values) if values.count(value) == 1}
    rows = []
    for cell in cells.tolist() if isinstance(cells, np.ndarray) else cells:
        text = text_of(cell)
        if text in MISSING_LEVELS:
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
