"""Map labels to class indices and back, and infer the task from a target column.

Why `LabelMap` has two paths: arrays of numbers or strings are sorted and searched without a Python loop over
the rows; other labels (tuples, mixed kinds) use a dictionary. Both follow Python's equality: 1, 1.0 and True
are one class.
"""

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ffnn_gpu.arrays.whole_numbers import are_codes
from ffnn_gpu.errors import DataError, ShapeError

SORTED_KINDS = "biufU"  # NumPy kinds that sort and compare without Python objects
JSON_KINDS = (bool, int, float, str)

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class LabelMap:
    """A map from labels of any hashable kind to class indices; classes[k] is the label of class k."""

    classes: tuple[Hashable, ...]

    @classmethod
    def fit(cls, y: Iterable[Hashable]) -> "LabelMap":
        """Collect the distinct labels of y (n,), sorted if possible, else in order of first appearance."""
        labels = _labels(y)
        if len(labels) == 0:
            raise DataError("there are no labels to map")
        _check_labels(labels)
        if isinstance(labels, np.ndarray):
            return cls(tuple(np.unique(labels).tolist()))
        distinct = list(dict.fromkeys(labels))
        try:
            return cls(tuple(sorted(distinct)))  # type: ignore[type-var]
        except TypeError:
            return cls(tuple(distinct))

    def encode(self, y: Iterable[Hashable]) -> Indices:
        """Return class indices (n,) of the labels y (n,). Raises DataError for an unknown label."""
        labels = _labels(y)
        table = self._table()
        if isinstance(labels, np.ndarray):
            # NumPy would turn mixed numbers and strings into strings
            if table is not None and (labels.dtype.kind == "U") == (table.dtype.kind == "U"):
                return self._searched(labels, table)
            labels = labels.tolist()
        _check_labels(labels)
        number = {label: k for k, label in enumerate(self.classes)}
        for i, label in enumerate(labels):
            if label not in number:
                raise self._unknown(label, i)
        return np.array([number[label] for label in labels], dtype=np.int64)

    def _searched(self, labels: NDArray[Any], table: NDArray[Any]) -> Indices:
        order = np.argsort(table)
        place = np.minimum(np.searchsorted(table, labels, sorter=order), len(table) - 1)
        indices = order[place].astype(np.int64)
        unknown = np.flatnonzero(table[indices] != labels)
        if unknown.size:
            raise self._unknown(labels[unknown[0]].item(), int(unknown[0]))
        return indices

    def decode(self, indices: ArrayLike) -> NDArray[Any] | list[Hashable]:
        """Return the labels of class indices (n,): an array if all are int, str, bool or float, or a list."""
        indices = np.asarray(indices)
        if indices.ndim != 1:
            raise ShapeError(f"indices have shape {indices.shape}; (n,) is needed")
        if indices.dtype.kind not in "iu" and indices.size:
            raise DataError(f"indices are {indices.dtype}, not integer")
        C = len(self.classes)
        outside = np.flatnonzero((indices < 0) | (indices >= C))
        if outside.size:
            found = f"indices[{outside[0]}] is {indices[outside[0]]}"
            raise DataError(f"{found}; the {C} classes are 0 … {C - 1}")
        table = self._table()
        if table is None:
            return [self.classes[k] for k in indices]
        return table[indices.astype(np.int64)]

    def to_json(self) -> dict[str, Any]:
        """Return an object for `json.dumps`; 1, 1.0, true and "1" differ in it, a tuple is {"tuple": […]}."""
        return {"classes": [_to_json(label) for label in self.classes]}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "LabelMap":
        """Restore the map that `to_json` wrote. Raises DataError if it is damaged."""
        classes = saved.get("classes") if isinstance(saved, Mapping) else None
        if not isinstance(classes, list):
            raise DataError(f"not a saved label map: {str(saved)[:80]}")
        labels = tuple(_from_json(item) for item in classes)
        distinct = len(set(labels))
        if distinct < len(labels):
            raise DataError(f"not a saved label map: {len(labels)} classes, {distinct} distinct")
        return cls(labels)

    def _table(self) -> NDArray[Any] | None:
        """Return the classes as one array if they have one type that NumPy represents exactly, else None."""
        if len({type(label) for label in self.classes}) != 1 or not isinstance(self.classes[0], JSON_KINDS):
            return None
        table = np.array(self.classes)
        exact = table.dtype.kind in SORTED_KINDS and tuple(table.tolist()) == self.classes
        return table if exact else None

    def _unknown(self, label: Hashable, row: int) -> DataError:
        known = ", ".join(repr(known) for known in self.classes[:10])
        more = f", … ({len(self.classes)} in all)" if len(self.classes) > 10 else ""
        return DataError(f"label {label!r} at row {row} is not a known class; the classes are {known}{more}")


def infer_task(y: ArrayLike) -> str:
    """Return "binary", "multiclass", "multilabel" or "regression". The first rule that applies decides:

        (n, k > 1): multilabel if every value is 0 or 1, else regression     (n, 1): as its column
        strings, bools, objects: classes
        a number that is not whole: regression
        whole numbers: classes if they are codes of some, see `arrays.whole_numbers`, else regression
        classes: binary if there are two, else multiclass

    Raises:
        DataError: y is empty, has fewer than two distinct values, or holds NaN, infinity or complex numbers.
    """
    y = np.asarray(y)
    if y.ndim not in (1, 2) or y.size == 0:
        raise DataError(f"y has shape {y.shape}; it must be (n,) or (n, outputs)")
    if y.dtype.kind not in "biufUOST":
        raise DataError(f"y is {y.dtype}; it must hold numbers, bools or strings")
    bad = np.argwhere(~np.isfinite(y)) if y.dtype.kind == "f" else np.empty((0, 1))
    if len(bad):
        raise DataError(f"{len(bad)} values of y are not finite, the first in row {bad[0][0]}")
    if y.ndim == 2 and y.shape[1] > 1:
        return "multilabel" if ((y == 0) | (y == 1)).all() else "regression"
    if y.dtype.kind == "f" and (y != np.floor(y)).any():
        return "regression"
    distinct = len(set(y.ravel().tolist())) if y.dtype.kind == "O" else len(np.unique(y))
    if distinct < 2:
        raise DataError(
            f"all {len(y)} values of y are {y.flat[0]}, so the task cannot be inferred; name the task"
        )
    if y.dtype.kind in "iuf" and not are_codes(y)[0]:
        return "regression"
    return "binary" if distinct == 2 else "multiclass"


def _labels(y: Iterable[Hashable]) -> NDArray[Any] | list[Hashable]:
    """Return y as an array if its type can be sorted, else as a list of Python objects."""
    if not hasattr(y, "__array__"):
        y = [label.item() if isinstance(label, np.generic) else label for label in y]
        if len({type(label) for label in y}) > 1 or not (y and isinstance(y[0], JSON_KINDS)):
            return y
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise ShapeError(f"labels have shape {labels.shape}; (n,) is needed")
    if isinstance(y, list) and labels.tolist() != y:
        return y  # 2**63 and −1 as floats; "a\0" as "a"
    return labels if labels.dtype.kind in SORTED_KINDS else labels.tolist()


def _check_labels(labels: NDArray[Any] | list[Hashable]) -> None:
    """Raise DataError unless every label is hashable and finite."""
    if isinstance(labels, np.ndarray):
        bad = np.flatnonzero(~np.isfinite(labels) if labels.dtype.kind == "f" else False)
        if len(bad):
            raise DataError(f"label {labels[bad[0]]} at row {bad[0]} is not finite")
        return
    for i, label in enumerate(labels):
        try:
            hash(label)
        except TypeError as error:
            raise DataError(f"label {label!r} at row {i} is not hashable") from error
        if isinstance(label, float) and not math.isfinite(label):
            raise DataError(f"label {label} at row {i} is not finite")


def _to_json(label: Hashable) -> Any:
    if isinstance(label, JSON_KINDS):
        return label
    if isinstance(label, tuple):
        return {"tuple": [_to_json(item) for item in label]}
    kind = type(label).__name__
    raise DataError(f"label {label!r} is a {kind}; only int, str, bool, float and tuples of them are saved")


def _from_json(item: Any) -> Hashable:
    if isinstance(item, JSON_KINDS):
        return item
    if isinstance(item, dict) and item.keys() == {"tuple"} and isinstance(item["tuple"], list):
        return tuple(_from_json(part) for part in item["tuple"])
    raise DataError(f"not a saved label: {str(item)[:80]}")
