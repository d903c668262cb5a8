"""Assign rows to folds, of which each member holds out one."""

from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.frames import objects
from ffnn_gpu.errors import DataError


def folds_of(
    n: int, count: int, seed: int, classes: HostArray | None = None, groups: HostArray | None = None
) -> HostArray:
    """Return the fold of each row, (n,) in [0, count).

    Folds are drawn by the seed and differ by one row at most. With classes, each class is spread over all
    folds. With groups, whole groups are dealt, the largest first, to the fold with the fewest rows.

    Args:
        classes: (n,) class indices, or None. groups: (n,) equal numbers for rows of one group, or None.

    Raises:
        DataError: there are fewer rows or groups than folds.
    """
    rng = np.random.default_rng(seed)
    if groups is not None:
        return _dealt(groups, count, rng)
    if n < count:
        raise DataError(f"{n} rows cannot be dealt to {count} folds; use more rows or fewer folds")
    order = rng.permutation(n)
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
    fold = np.empty(n, np.int64)
    fold[order] = np.arange(n) % count
    return fold


def numbered(groups: Any) -> HostArray:
    """Return equal numbers (n,) for equal groups of any kind. Raises DataError if a row has no group."""
    given = np.asarray(groups)
    if given.ndim != 1:
        raise DataError(f"groups has shape {given.shape}; it must be (n,), one group for each row")
    cells = objects(given.tolist())
    if cells.mask.any():
        row = int(cells.mask.argmax())
        raise DataError(f"groups[{row}] is {given[row]}; give each row without a group a group of its own")
    places: dict[Any, int] = {}
    return np.array([places.setdefault(cell, len(places)) for cell in cells.data], np.int64)


def _dealt(groups: HostArray, count: int, rng: np.random.Generator) -> HostArray:
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < count:
        raise DataError(f"{len(sizes)} groups cannot be dealt to {count} folds; use fewer folds")
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    held, fold = np.zeros(count, np.int64), np.empty(len(sizes), np.int64)
    for g in order:
        fold[g] = held.argmin()
        held[fold[g]] += sizes[g]
    dealt: HostArray = fold[group]
    return dealt
