"""Assign rows to folds, of which each member holds out one."""

from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.frames import objects
from ffnn_gpu.checks import counted
from ffnn_gpu.errors import DataError

LEAST = 2  # rows or groups: one to train on, one to hold out


def folds_of(
    n: int,
    most: int,
    seed: int,
    classes: HostArray | None = None,
    groups: Any = None,
    weight: HostArray | None = None,
) -> HostArray:
    """Return the fold of each row, (n,) in [0, number_of_folds), or −1 for rows of weight 0.

    Folds are drawn by the seed and differ by one row at most. With classes, each class is spread over all
    folds. With groups, whole groups are dealt, the largest first, to the fold with the fewest rows. Why rows
    of weight 0 have no fold: a fold of such rows could not be validated.

    Args:
        most: the number of folds, if there are so many rows or groups.
        classes: (n,) class indices. groups: (n,) equal values for rows of one group. weight: (n,).

    Raises:
        DataError: as `number_of_folds` does, or a group is missing.
    """
    rng, used = np.random.default_rng(seed), np.arange(n) if weight is None else np.flatnonzero(weight)
    group = None if groups is None else numbered(numbered(groups)[used])
    count, folds = number_of_folds(most, len(used), group), np.full(n, -1)
    if group is not None:
        folds[used] = _dealt(group, count, rng)
    else:
        folds[used] = _shuffled(len(used), None if classes is None else np.asarray(classes)[used], rng, count)
    return folds


def number_of_folds(most: int, n: int, groups: Any = None) -> int:
    """Return the number of folds of n rows: `most`, or one per row or group if there are fewer.

    Raises DataError if at most one row or one group is there to train on.
    """
    units, what = (n, "row") if groups is None else (int(numbered(groups).max(initial=-1)) + 1, "group")
    if units < LEAST:
        there = "is" if units == 1 else "are"
        raise DataError(
            f"there {there} {counted(units, what)} to train on; members need at least {LEAST}, of which one "
            "is held out"
        )
    return min(most, units)


def numbered(groups: Any) -> HostArray:
    """Return equal numbers (n,) for equal groups of any kind. Raises DataError if a row has no group."""
    given = np.asarray(groups)
    if given.ndim != 1:
        raise DataError(f"groups has shape {given.shape}; it must be (n,), one group for each row")
    cells = objects(given.tolist())
    if (missing := np.flatnonzero(np.ma.getmaskarray(cells))).size:
        row = int(missing[0])
        raise DataError(f"groups[{row}] is {given[row]}; give each row without a group a group of its own")
    places: dict[Any, int] = {}
    return np.array([places.setdefault(cell, len(places)) for cell in cells.data.tolist()], np.int64)


def _shuffled(n: int, classes: HostArray | None, rng: np.random.Generator, count: int) -> HostArray:
    order = rng.permutation(n)
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
    fold = np.empty(n, np.int64)
    fold[order] = np.arange(n) % count
    return fold


def _dealt(group: HostArray, count: int, rng: np.random.Generator) -> HostArray:
    sizes = np.bincount(group)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    held, fold = np.zeros(count, np.int64), np.empty(len(sizes), np.int64)
    for g in order:
        fold[g] = held.argmin()
        held[fold[g]] += sizes[g]
    dealt: HostArray = fold[group]
    return dealt
