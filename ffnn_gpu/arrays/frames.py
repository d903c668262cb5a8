"""Data frames and series (pandas, Polars, PyArrow, …) → columns, and columns of numbers → one array.

Narwhals reads them; it is imported when the first one is given. Why column by column: `np.asarray` gives all
columns of a frame one type, so that a bool beside a float, or a nullable integer, becomes a Python object.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.errors import DataError, ShapeError

NEVER_FRAMES = frozenset(
    ("builtins", "numpy", "cupy", "cupyx", "torch", "jax", "jaxlib", "scipy", "ffnn_gpu")
)
MISSING_TYPES = frozenset(("NoneType", "NAType", "NaTType"))
MAX_SHOWN = 40  # characters of a cell in a message


@dataclass(frozen=True, eq=False)
class Frame:
    """Named columns: each is a series of Narwhals, a NumPy array or a list.

    has_names: False if pandas numbered the columns, as it does for a frame made of a matrix.
    """

    names: tuple[str, ...]
    columns: tuple[Any, ...]
    has_names: bool = True

    def __post_init__(self) -> None:
        lengths = [*map(len, self.columns)]
        if len({*lengths}) > 1:
            listed = ", ".join(f"{name!r} {n:,}" for name, n in [*zip(self.names, lengths, strict=True)][:5])
            raise ShapeError(f"the columns have different numbers of rows: {listed}")

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def select(self, names: Iterable[str]) -> "Frame":
        """Return the columns with these names, in this order; each name is there once."""
        names, columns = tuple(names), dict(zip(self.names, self.columns, strict=True))
        return Frame(names, tuple(columns[name] for name in names))

    def numbers(self) -> HostArray:
        """Return the numbers (n, columns) in the type that they have in common. Raises DataError."""
        arrays = [
            numbers_of(f"column {name!r}", column)
            for name, column in zip(self.names, self.columns, strict=True)
        ]
        x = np.empty((len(self), len(arrays)), np.result_type(*arrays) if arrays else float)
        for k, array in enumerate(arrays):
            x[:, k] = array
        return x


def frame_of(x: Any) -> Frame | None:
    """Return named columns as a Frame: a data frame, a dict of columns, dicts of rows, a record array.

    A key that some of the dicts lack is a missing cell there. None for anything else. Raises ShapeError.
    """
    if isinstance(x, np.ndarray):
        return (
            None if x.dtype.names is None else Frame(x.dtype.names, tuple(x[name] for name in x.dtype.names))
        )
    if isinstance(x, Mapping):
        return Frame(tuple(map(str, x)), tuple(_column(str(name), values) for name, values in x.items()))
    if isinstance(x, (list, tuple)):
        return _of_rows(x) if len(x) and all(isinstance(row, Mapping) for row in x) else None
    found = _by_narwhals(x)
    if not hasattr(found, "columns"):
        return None
    given = _names_of(x)
    has_names = not (hasattr(x, "iloc") and _are_row_numbers(given or []))
    return Frame(tuple(map(str, given or found.columns)), tuple(found.iter_columns()), has_names)


def names_in(x: Any) -> tuple[str, ...]:
    """Return the names of the columns of a data frame that may have two of one name; () for anything else."""
    return tuple(map(str, _names_of(x) or ()))


def series_of(y: Any) -> Any:
    """Return one column as Narwhals' series; None for anything else."""
    found = _by_narwhals(y)
    return found if found is not None and not hasattr(found, "columns") else None


def cells_of(column: Any) -> Any:
    """Return the cells (n,) as a masked array, unchanged: numbers, bools, times in UTC, else Python objects.

    column: a series of Narwhals, a NumPy array or a list.
    """
    if isinstance(column, list) or (isinstance(column, np.ndarray) and column.dtype.kind in "OSUV"):
        return objects([*column])
    if isinstance(column, np.ndarray):
        return np.ma.array(column, mask=column != column)
    dtype, kind = column.dtype, str(column.dtype)
    missing = column.is_null().to_numpy().astype(bool)
    if dtype.is_float() or (dtype.is_temporal() and kind != "Time"):
        values = column.to_numpy()
        return np.ma.array(values, mask=missing | np.isnan(values))
    if kind == "Boolean" or (dtype.is_integer() and "128" not in kind):
        filled = column.fill_null(False if kind == "Boolean" else 0) if missing.any() else column
        values = filled.to_numpy()
        return np.ma.array(values.astype(bool) if kind == "Boolean" else values, mask=missing)
    if kind == "Unknown" and (values := column.to_numpy()).dtype.kind in "biuf":  # pandas' sparse columns
        return np.ma.array(values, mask=np.isnan(values))
    return objects(column.to_list(), missing)


def objects(values: Sequence[Any], missing: Any = False) -> Any:
    """Return Python values (n,) as a masked array of objects; None, NaN, NA and NaT are masked."""
    plain = (v.item() if isinstance(v, (np.number, np.bool_, np.str_)) else v for v in values)
    array = np.fromiter(plain, object, len(values))
    return np.ma.array(array, mask=missing | np.fromiter(map(is_missing, array), bool, len(array)))


def is_missing(value: Any) -> bool:
    """Return whether a Python value stands for a missing cell."""
    if type(value).__name__ in MISSING_TYPES:
        return True
    return isinstance(value, (float, Decimal, np.datetime64, np.timedelta64)) and bool(value != value)


def numbers_of(what: str, column: Any) -> HostArray:
    """Return the numbers (n,) of a column without missing cells. Raises DataError with the row.

    what: what the message calls the column.
    """
    cells = cells_of(column)
    values, missing = cells.data, np.ma.getmaskarray(cells)
    if values.dtype == object:
        values = _unpacked(what, values, missing)
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"{what} holds {values.dtype}; a network reads numbers: leave the column out or convert it"
        )
    _require_present(what, missing)
    return np.asarray(values)


def labels_of(y: Any) -> Any:
    """Return a series, a frame or a list as the labels or numbers it holds; an array unchanged.

    A column of categories becomes their labels. Raises DataError with the row of a missing cell.
    """
    if (series := series_of(y)) is not None:
        return _labels("y" if series.name in (None, "") else f"column {str(series.name)!r}", series)
    if isinstance(y, (list, tuple)) and len(y) and (isinstance(y[0], str) or not hasattr(y[0], "__len__")):
        return _labels("y", [*y])
    if (frame := frame_of(y)) is None:
        return np.asarray(y) if isinstance(y, (list, tuple)) else y
    if len(frame.columns) == 1:
        return _labels(f"column {frame.names[0]!r}", frame.columns[0])[:, None]
    return frame.numbers()


def as_numbers(x: Any) -> HostArray | None:
    """Return a frame as numbers (n, columns), a series as numbers or texts (n,); None for anything else."""
    if (frame := frame_of(x)) is not None:
        return frame.numbers()
    return None if series_of(x) is None else np.asarray(labels_of(x))


def _labels(what: str, column: Any) -> HostArray:
    cells = cells_of(column)
    _require_present(what, np.ma.getmaskarray(cells))
    values = cells.data
    if values.dtype != object:
        return np.asarray(values)
    plain = np.asarray(values.tolist()) if {*map(type, values)} in ({str}, {int}, {float}, {bool}) else values
    return plain if plain.tolist() == values.tolist() else values  # "a\0" would be "a"


def _require_present(what: str, missing: HostArray) -> None:
    if missing.any():
        rows = np.flatnonzero(missing)
        raise DataError(
            f"{what}, row {rows[0]} is missing ({len(rows):,} of {len(missing):,} cells are); "
            "fill or remove missing cells"
        )


def _unpacked(what: str, values: HostArray, missing: HostArray) -> HostArray:
    """Return Python numbers and bools as an array of a number type."""
    for row in np.flatnonzero(~missing).tolist():
        if not isinstance(values[row], (Real, Decimal)):
            shown = repr(values[row])[:MAX_SHOWN]
            raise DataError(
                f"{what}, row {row} holds {shown}, a {type(values[row]).__name__}; a network reads numbers: "
                "leave the column out, encode it as numbers, or use `ffnn-gpu train`, which encodes words"
            )
    present = values[~missing].tolist()
    plain = np.array([float(v) if isinstance(v, Decimal) else v for v in present])
    plain = plain if plain.dtype.kind in "biuf" else np.array([*map(float, present)])
    whole = np.zeros(len(values), plain.dtype)
    whole[~missing] = plain
    return whole


def _names_of(x: Any) -> list[Any] | None:
    """Return the names of the columns of pandas or PyArrow; None for anything else."""
    if hasattr(x, "iloc"):
        return [*getattr(x, "columns", ())]
    return [*x.column_names] if hasattr(x, "column_names") else None


def _column(name: str, values: Any) -> Any:
    """Return the column of a dict as a series, an array (n,) or a list. Raises DataError."""
    if (series := series_of(values)) is not None:
        return series
    shape = getattr(values, "shape", None)
    if len(shape) == 1 if shape is not None else _is_list(values):
        return values if isinstance(values, np.ndarray) else [*values]
    found = f"has shape {shape}" if shape else f"is {repr(values)[:MAX_SHOWN]}"
    raise DataError(
        f"column {name!r} {found}; pass a list of values, one for each row. "
        f"One row is a dict of single values in a list: [{{{name!r}: …}}]"
    )


def _is_list(values: Any) -> bool:
    """Return whether values have an order and a length; a generator has none."""
    unfit = isinstance(values, (str, bytes, bytearray, Mapping, Set))
    return not unfit and hasattr(values, "__len__") and hasattr(values, "__iter__")


def _of_rows(rows: Sequence[Mapping[Any, Any]]) -> Frame:
    names = [*dict.fromkeys(name for row in rows for name in row)]
    return Frame(tuple(map(str, names)), tuple([row.get(name) for row in rows] for name in names))


def _by_narwhals(x: Any) -> Any:
    """Return Narwhals' frame or series of x; None if it takes no such objects."""
    if isinstance(x, np.ndarray) or type(x).__module__.split(".")[0] in NEVER_FRAMES:
        return None
    import narwhals as nw

    try:
        found = nw.from_native(x, pass_through=True, allow_series=True)
    except nw.exceptions.DuplicateError:  # of column names, which pandas and PyArrow allow
        numbered = [str(k) for k in range(x.shape[1])]
        x = x.set_axis(numbered, axis=1) if hasattr(x, "set_axis") else x.rename_columns(numbered)
        found = nw.from_native(x)
    if isinstance(found, nw.LazyFrame):
        found = found.collect()
    return found if isinstance(found, (nw.DataFrame, nw.Series)) else None


def _are_row_numbers(names: Sequence[Any]) -> bool:
    return all(isinstance(name, int) and name == k for k, name in enumerate(names))
