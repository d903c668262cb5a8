"""Assign rows to folds, of which each member holds out one."""

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.errors import DataError

LEAST = 2  # rows or groups: one to train on, one to hold out


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


def number_of_folds(most: int, n: int, groups: HostArray | None = None) -> int:
    """Return the number of folds of n rows: `most`, or one per row or group if there are fewer.

    Raises DataError if one row or one group is all there is.
    """
    units, what = (n, "row") if groups is None else (len(np.unique(groups)), "group")
    if units < LEAST:
        raise DataError(
            f"there is {units} {what} to train on; members need at least {LEAST}, of which one is held out"
        )
    return min(most, units)


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
