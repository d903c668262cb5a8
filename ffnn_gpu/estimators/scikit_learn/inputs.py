"""What callers pass as X and y → arrays of the host, and results → the caller's kind of array.

Arrays and frames of numbers pass scikit-learn's checks, with its errors. A frame that holds words, times or
missing cells is encoded by `ffnn_gpu.tables`, whose encoding is fitted on the rows of the first fit.
"""

import sys
from typing import Any

import numpy as np
from sklearn.base import is_regressor
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_y,
    check_consistent_length,
    validate_data,
)

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import host_array, kind_of
from ffnn_gpu.arrays.frames import Frame, frame_of, names_in, numbers_of
from ffnn_gpu.arrays.precision import floating, master
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators.scikit_learn.parameters import dtype_name
from ffnn_gpu.estimators.wording import errors_in, in_estimators
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.encoding import Encoding, most_codes
from ffnn_gpu.tables.frames import is_named, require_distinct, table_of
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.spelling import Spelling

SPARSE = ["csr", "csc"]
NO_FRAMES = (np.ndarray, list, tuple, dict)


class Inputs:
    """Reads X and y for one estimator, and keeps its encoding of a table as `_encoding`."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def training(self, X: Any, y: Any, first: bool) -> tuple[Any, Any]:
        """Return rows and raw targets. first: learn the columns, and the encoding if they need one."""
        X, y, estimator = with_distinct_names(host(X)), host(y), self.estimator
        encoding = self._fitted(X) if first else estimator._encoding
        if encoding is None:
            x, y = validate_data(
                estimator, X, y, accept_sparse=SPARSE, multi_output=True, y_numeric=is_regressor(estimator),
                dtype=(np.float64, np.float32), reset=first,
            )  # fmt: skip
        else:
            y = _check_y(y, multi_output=True, y_numeric=is_regressor(estimator), estimator=estimator)
            check_consistent_length(X, y)
            x = self._encoded(encoding, X, first)
        estimator._encoding = encoding
        return x, y

    def prediction(self, X: Any) -> Any:
        """Return rows of the columns of the last fit."""
        X = with_distinct_names(host(X))
        if self.estimator._encoding is not None:
            return self._encoded(self.estimator._encoding, X, False)
        dtype = (np.float64, np.float32)
        return validate_data(self.estimator, X, accept_sparse=SPARSE, dtype=dtype, reset=False)

    def _fitted(self, X: Any) -> Encoding | None:
        """Return the encoding of a frame that needs one."""
        asked = self.estimator.categorical_features
        frame = None if asked is None or isinstance(X, NO_FRAMES) else frame_of(X)
        named = not isinstance(asked, str) and asked is not None
        if frame is None and named:
            raise ConfigurationError(
                f"categorical_features names columns of a data frame, and X is a {type(X).__name__}; pass a "
                "data frame, or categorical_features=None"
            )
        if frame is None or not (named or not all(map(_is_complete, frame.names, frame.columns))):
            return None
        decisions = Decisions(categorical=_names(asked, frame)) if named else Decisions()
        table = table_of(X, "X")
        with errors_in(in_estimators):
            columns = columns_of(table, decisions, Spelling(table.decimal))
        return Encoding.fit(
            table, columns, np.arange(len(table)), (), most_codes(dtype_name(self.estimator, "float64"))
        )

    def _encoded(self, encoding: Encoding, X: Any, first: bool) -> HostArray:
        _check_feature_names(self.estimator, X, reset=first)
        _check_n_features(self.estimator, X, reset=first)
        stored = master(floating(dtype_name(self.estimator, "float64")))
        if is_named(X):
            return encoding.encode(table_of(X, "X"), stored)
        x = np.asarray(X)
        if x.dtype.kind in "biuf":
            return encoding.encode_numbers(x, stored)
        return encoding.encode(table_of(x, "X"), stored)


def host(array: Any) -> Any:
    """Return an array of another library (CuPy, PyTorch, JAX, DLPack) as NumPy's, anything else unchanged."""
    if isinstance(array, np.ndarray) or not hasattr(array, "__dlpack__"):
        return array
    if hasattr(array, "detach"):  # PyTorch: without its history, and from any device
        array = array.detach().cpu()
    return host_array(array)


def with_distinct_names(X: Any) -> Any:
    """Return X. Raises DataError if two columns of a data frame have one name."""
    require_distinct(names_in(X), "X")
    return X


def as_given(given: Any, found: Any) -> Any:
    """Return numbers `found` as the kind of array that `given` is; other results as they are."""
    foreign = not isinstance(given, np.ndarray) and hasattr(given, "__dlpack__")
    if not foreign or not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        return found
    library = type(given).__module__.partition(".")[0]
    if library == "torch":
        return sys.modules["torch"].from_numpy(np.ascontiguousarray(found)).to(given.device)
    if library != "cupy" and hasattr(given, "__array_namespace__"):
        return given.__array_namespace__().asarray(found)
    return kind_of(given, found)


def _is_complete(name: str, column: Any) -> bool:
    """Return whether a column of a frame holds a number in each row."""
    dtype, kind = column.dtype, str(column.dtype)
    if kind in ("Object", "Unknown"):  # Python's numbers, and pandas' sparse columns
        try:
            return not np.isnan(numbers_of(f"column {name!r}", column)).any()
        except DataError:
            return False
    if not (dtype.is_numeric() or kind == "Boolean") or column.is_null().any():
        return False
    return not (dtype.is_float() and np.isnan(column.to_numpy()).any())


def _names(asked: Any, frame: Frame) -> tuple[str, ...]:
    """Return the names of columns that are given as names, places or a mask. Raises ConfigurationError."""
    given, names = [*asked], frame.names
    if given and all(isinstance(entry, (bool, np.bool_)) for entry in given):
        if len(given) != len(names):
            raise ConfigurationError(
                f"categorical_features has {len(given)} truth values and X has {len(names)} columns"
            )
        given = [*np.flatnonzero(given)]
    for entry in given:
        is_place = isinstance(entry, (int, np.integer))
        if not (-len(names) <= entry < len(names) if is_place else str(entry) in names):
            raise ConfigurationError(
                f"categorical_features has {entry!r}, which is no column of X; its {len(names)} columns are "
                f"{', '.join(map(repr, names))}"
            )
    return tuple(names[entry] if isinstance(entry, (int, np.integer)) else str(entry) for entry in given)
