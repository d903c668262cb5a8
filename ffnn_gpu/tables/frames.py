"""Data frames, rows as dicts and columns as arrays → Table, column by column, values unchanged.

A column keeps its type. Python objects become numbers, booleans, dates or times if all of them are; else each
becomes text, so that integers beyond 2⁶³ and decimals keep every digit. Times are in UTC, durations in
seconds. Times that are all at midnight are dates, so that as a class they are the text that files hold:
2024-03-01.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np

from ffnn_gpu.arrays.frames import Frame, cells_of, frame_of
from ffnn_gpu.errors import DataError, ShapeError
from ffnn_gpu.tables.embedded_database import connect
from ffnn_gpu.tables.table import CELLS, MAX_LISTED_NAMES, Table

EXACT = 2**53  # integers up to this size are exact as float64
INT64 = range(-(2**63), 2**63)

Cells = Any
"""(n,) a NumPy array, masked where cells are missing."""


def is_named(x: Any) -> bool:
    """Return whether x has named columns: a Table, or what `frame_of` takes."""
    return isinstance(x, Table) or frame_of(x) is not None


def require_distinct(names: Iterable[str], source: str) -> None:
    """Raise DataError if two columns have one name. source: what the message calls the table."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        listed = ", ".join(map(repr, twice[:MAX_LISTED_NAMES])) + ", …" * (len(twice) > MAX_LISTED_NAMES)
        raise DataError(f"{source}: several columns are called {listed}; each column needs a name of its own")


def table_of(x: Any, source: str = "the frame") -> Table:
    """Return a data frame, a dict of columns, dicts of rows, a record array or a matrix as a table.

    source: what messages call it.

    Raises:
        DataError: a text is no Unicode. ShapeError: columns differ in length, or there is no matrix.
    """
    if isinstance(x, Table):
        return x
    frame = frame_of(x)
    frame = _of_matrix(x) if frame is None else frame
    if not frame.columns:
        raise DataError(f"{source} has no columns")
    connection = connect()
    cells = [*map(cells_of, frame.columns)]
    load(connection, CELLS, cells, source)
    declared = {
        place: _categories(column)
        for place, column in enumerate(frame.columns)
        if str(getattr(column, "dtype", "")).startswith(("Categorical", "Enum"))
    }
    pairs = enumerate(zip(frame.columns, cells, strict=True))
    zoned = frozenset(place for place, (column, some) in pairs if _is_zoned(column, some))
    return Table(source, frame.names, connection, has_names=frame.has_names, declared=declared, zoned=zoned)


def _is_zoned(column: Any, cells: Cells) -> bool:
    """Return whether the times of a column have a time zone: by its type, or by its first Python object."""
    if cells.dtype != object:
        return getattr(getattr(column, "dtype", None), "time_zone", None) is not None
    mask = np.ma.getmaskarray(cells)
    return _has_zone(next((cell for cell, lacks in zip(cells.data, mask, strict=True) if not lacks), None))


def _categories(column: Any) -> tuple[str, ...]:
    """Return the categories of a series in their order; () if its library gives them none."""
    native = getattr(column.to_native(), "cat", None)
    ordered: Any = getattr(column.dtype, "categories", None)
    ordered = getattr(native, "categories", ()) if ordered is None else ordered
    return tuple(map(text_of, ordered))


def load(connection: Any, name: str, columns: Sequence[Cells], source: str) -> None:
    """Make a table of the database with the columns c0, c1, …; Python objects are stored as text."""
    import duckdb

    stored = {f"c{k}": _storable(cells) for k, cells in enumerate(columns)}
    dates = {column for column, cells in stored.items() if _are_dates(cells)}
    kinds = (
        f"CAST({column} AS DATE) AS {column}"
        if column in dates
        else f"CAST({column} AS VARCHAR) AS {column}"
        if cells.dtype == object
        else column
        for column, cells in stored.items()
    )
    connection.register("given", stored)
    try:
        connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT {', '.join(kinds)} FROM given")
    except duckdb.InvalidInputException as error:
        raise DataError(f"{source} holds a text that is no Unicode: {error}") from error
    finally:
        connection.unregister("given")


def text_of(value: Any) -> str:
    """Return a Python value as text, in the form in which the database writes it."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and abs(value) <= EXACT and value == round(value):
        return f"{value:.0f}"
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _of_matrix(x: Any) -> Frame:
    """Return the columns of a matrix. Why numbers are not made Python objects: 3,000 columns took 6 s."""
    x = x if isinstance(x, np.ndarray) and x.dtype.kind in "bif" else np.asarray(x, object)
    if x.ndim != 2:
        raise ShapeError(f"x has shape {x.shape}; it must be a matrix (rows, columns)")
    if x.dtype.kind != "O":  # the same texts of the same numbers in every type
        x = np.asarray(x, {"b": bool, "i": np.int64, "f": np.float64}[x.dtype.kind], order="F")
    return Frame(tuple(map(str, range(x.shape[1]))), tuple(x.T), has_names=False)


def _storable(cells: Cells) -> Cells:
    """Return cells in a type that the database takes, at full precision."""
    values, missing = np.ma.getdata(cells), np.ma.getmaskarray(cells)
    kind = values.dtype.kind
    if kind == "M" and np.datetime_data(values.dtype)[0] not in ("us", "ns"):
        values = values.astype("datetime64[us]")
    elif kind == "m":
        unit, _ = np.datetime_data(values.dtype)
        exact = values.astype("m8[s]") if unit in ("Y", "M") else values  # years of 365.2425 days
        values = exact / np.timedelta64(1, "s")
    elif kind == "f" and values.dtype.itemsize not in (4, 8):
        values = values.astype(np.float32 if values.dtype.itemsize == 2 else np.float64)
    elif kind == "O":
        values = _of_one_type(values, missing)
    elif kind not in "biufM":
        values = _texts(values.tolist(), missing)
    return np.ma.array(values.astype(values.dtype.newbyteorder("="), copy=False), mask=missing)


def _are_dates(cells: Cells) -> bool:
    """Return whether all cells that are there are times at midnight: days without a time of day."""
    if cells.dtype.kind != "M":
        return False
    present = np.ma.getdata(cells)[~np.ma.getmaskarray(cells)]
    return bool((present.astype("datetime64[D]") == present).all())


def _of_one_type(values: Any, missing: Any) -> Any:
    """Return Python objects as an array of one type if all have it, else as texts."""
    present = values[~missing].tolist()
    types = {*map(type, present)}
    if types and types <= {bool}:
        return _filled(present, missing, bool)
    if types and types <= {int} and min(present) in INT64 and max(present) in INT64:
        return _filled(present, missing, np.int64)
    if float in types and types <= {int, float} and all(abs(v) <= EXACT for v in present if type(v) is int):
        return _filled(present, missing, np.float64)
    if types and all(isinstance(v, date) for v in present) and len({*map(_has_zone, present)}) == 1:
        return _filled([*map(_in_utc, present)], missing, "datetime64[us]")
    return _texts(values, missing)


def _filled(present: list[Any], missing: Any, dtype: Any) -> Any:
    out = np.zeros(len(missing), dtype)
    out[~missing] = np.array(present, dtype)
    return out


def _texts(values: Any, missing: Any) -> Any:
    found = ("" if lacks else text_of(value) for value, lacks in zip(values, missing, strict=True))
    return np.fromiter(found, object, len(missing))


def _has_zone(value: Any) -> bool:
    return isinstance(value, datetime) and value.tzinfo is not None


def _in_utc(value: date) -> datetime:
    if not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value.astimezone(UTC).replace(tzinfo=None) if _has_zone(value) else value
