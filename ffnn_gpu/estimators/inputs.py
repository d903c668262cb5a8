"""Raw rows → the matrix that a network reads: columns found by name, then encoded or standardized."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, cast

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import host_array, require_finite, rows_of
from ffnn_gpu.arrays.frames import Frame, frame_of
from ffnn_gpu.arrays.rows import blocks
from ffnn_gpu.arrays.standardized import Standardized
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.errors import DataError
from ffnn_gpu.nn.network import Network
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.frames import is_named, table_of
from ffnn_gpu.tables.numbers import numbers_of
from ffnn_gpu.tables.rows import TableRows
from ffnn_gpu.tables.table import Table
from ffnn_gpu.tables.unfamiliar import unfamiliar

MAX_LISTED_NAMES = 10


@dataclass(frozen=True, eq=False)
class Inputs:
    """What was fitted to the columns of the training rows; the fields are those of a Model."""

    network: Network
    standardizer: Standardizer | None
    feature_names: tuple[str, ...] | None
    target_name: str | None
    limit: float | None
    encoding: Encoding | None

    def features(self, x: Any, names: Sequence[str] | None = None) -> HostArray:
        """Return the matrix (n, inputs) of raw rows, as `Model.features` says."""
        if isinstance(x, (str, PathLike)):
            raise DataError(f"x is the path {str(x)!r}; pass rows, or use `ffnn-gpu predict`")
        if x is None or np.isscalar(x) or (isinstance(x, np.ndarray) and not x.ndim):
            raise DataError(f"x is {x!r}; pass a matrix (rows, columns), a data frame or a list of dicts")
        names = _as_tuple(names)
        if self.encoding is not None:
            return self._encoded(self.encoding, x, names)
        if isinstance(x, TableRows) or is_named(x):
            x, names = self._columns(x), None
        rows = rows_of(x)
        if names is None and rows.stays_in_files and not isinstance(rows, Standardized):
            return cast(HostArray, self._in_files(x))
        scaled = self._standardized(x, names)
        if self.standardizer is None:
            return scaled
        if self.limit is not None:
            scaled = np.asarray(np.clip(scaled, -self.limit, self.limit))
        require_finite(np, scaled, "x, standardized,", self.network.compute_dtype)
        return scaled

    def count_cut(self, x: Any, names: Sequence[str] | None = None) -> int:
        """Count the standardized values outside [-limit, limit]."""
        if self.limit is None:
            return 0
        names = _as_tuple(names)
        if isinstance(x, TableRows) or is_named(x):
            x, names = self._columns(x), None
        found = (self._standardized(x[part], names) for part in blocks(x))
        return sum(int((np.abs(block) > self.limit).sum()) for block in found)

    def unfamiliar(self, x: Any) -> list[str]:
        """Return a sentence for each column of a table with cells such as no training row has."""
        if self.encoding is None:
            return []
        if isinstance(x, TableRows):
            return [*unfamiliar(self.encoding, x.table, x.skip, x.index)]
        return [*unfamiliar(self.encoding, table_of(x))] if is_named(x) else []

    def matches(self, names: Sequence[str] | None) -> bool:
        """Return whether each feature name is among these exactly once."""
        return (
            self.feature_names is not None and names is not None and has_each_once(names, self.feature_names)
        )

    def _encoded(self, encoding: Encoding, x: Any, names: Sequence[str] | None) -> HostArray:
        dtype = self.network.dtype
        if isinstance(x, TableRows):
            return x.encoded(encoding, dtype)
        if is_named(x):
            return encoding.encode(table_of(x), dtype)
        rows = rows_of(_array(x)) if isinstance(x, (list, tuple, np.ndarray)) else rows_of(x, host_array)
        if self.matches(names):
            place = {name: k for k, name in enumerate(names or ())}
            order = [place[name] for name in encoding.read]
        else:
            require_none_or_all(names or (), encoding.names)
            order = None
        if rows.dtype.kind not in "biuf":
            return encoding.encode(table_of(_named(rows[:], encoding.read, order), "x"), dtype)
        out = np.empty((len(rows), len(encoding.outputs)), dtype)
        for part in blocks(rows):
            block = np.asarray(rows[part])
            out[part] = encoding.encode_numbers(block if order is None else block[:, order], dtype)
        return out

    def _columns(self, x: Any) -> HostArray:
        """Return the numbers of the columns that the network reads, found by name if there are names."""
        if isinstance(x, (Table, TableRows)):
            rows = x if isinstance(x, TableRows) else TableRows(x, np.arange(len(x)), len(x.names))
            table, skip = rows.table, {*rows.skip}
            inputs = [k for k, name in enumerate(table.names) if k not in skip]
            if table.has_names:
                inputs = [k for k in inputs if table.names[k] != self.target_name]
            if table.has_names and self.feature_names is not None:
                require_each_once(table.names, self.feature_names, table.source)
                inputs = [table.names.index(name) for name in self.feature_names]
            return numbers_of(table, inputs)[rows.index]
        frame = cast(Frame, frame_of(x))
        if frame.has_names and self.feature_names is not None:
            require_each_once(frame.names, self.feature_names, "the frame")
            frame = frame.select(self.feature_names)
        return frame.numbers()

    def _in_files(self, x: Any) -> Any:
        """Wrap rows in files without reading them: they are standardized when the network reads them."""
        if self.standardizer is None:
            return x
        scale = self.standardizer.scale.copy()
        scale[[*self.standardizer.constant]] = np.finfo(scale.dtype).max  # zeros, as in `_standardized`
        return replace(self.standardizer, scale=scale).rows(x, self.limit)

    def _standardized(self, x: HostArray, names: Sequence[str] | None) -> HostArray:
        if self.matches(names):
            place = {name: k for k, name in enumerate(names or ())}
            order = [place[name] for name in self.feature_names or ()]
            x = np.asarray(x)
            x = x if order == [*range(x.shape[1])] else x[:, order]
        else:
            require_none_or_all(names or (), self.feature_names or ())
        rows = self.network.rows(x)
        scaled_later = self.standardizer is not None
        rows.require_finite(self.network.backend, "x", None if scaled_later else self.network.compute_dtype)
        admitted: Any = rows if isinstance(rows, Standardized) else rows.stored
        if self.standardizer is None:
            return cast(HostArray, admitted)
        with np.errstate(over="ignore"):  # what is still too large after the limit is refused in `features`
            scaled = self.standardizer.transform(admitted, self.network.dtype)
        scaled[:, [*self.standardizer.constant]] = 0  # the network learnt nothing from a constant column
        return scaled


def _as_tuple(names: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return names as a tuple; an array or a pandas Index of them has no truth value."""
    return None if names is None else tuple(names)


def has_each_once(names: Iterable[str], wanted: Iterable[str]) -> bool:
    """Return whether `names` contains each wanted name exactly once."""
    counts = Counter(names)
    return all(counts[name] == 1 for name in wanted)


def require_none_or_all(names: Iterable[str], wanted: Sequence[str]) -> None:
    """Raise DataError if `names` contains some wanted names but not each of them exactly once."""
    names = [*names]
    if {*names} & {*wanted}:
        require_each_once(names, wanted, "the header")


def require_each_once(names: Iterable[str], wanted: Sequence[str], source: str) -> None:
    """Raise DataError unless `names` contains each wanted name exactly once."""
    counts = Counter(names)
    missing = [name for name in wanted if not counts[name]]
    if wrong := missing or [name for name in wanted if counts[name] > 1]:
        listed = ", ".join(map(repr, wrong[:MAX_LISTED_NAMES])) + ", …" * (len(wrong) > MAX_LISTED_NAMES)
        problem = "lacks these columns" if missing else "contains these columns more than once"
        raise DataError(f"{source} {problem}, which the model was trained on: {listed}")


def _array(x: Any) -> HostArray:
    """Return a list of rows as an array: numbers, or Python objects if there are texts."""
    array = np.asarray(x)
    return np.asarray(x, object) if array.dtype.kind in "US" else array


def _named(x: HostArray, names: Sequence[str], order: Sequence[int] | None) -> Any:
    """Return the columns of a matrix of objects by name, or the matrix if they are taken in order."""
    return x if order is None else {name: x[:, k] for name, k in zip(names, order, strict=True)}
