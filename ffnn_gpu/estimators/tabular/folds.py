"""Assign rows to folds, of which each member holds out one."""

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
    groups: HostArray | None = None,
    weight: HostArray | None = None,
) -> HostArray:
    """Return the fold of each row, (n,) in [0, number_of_folds(most, n, groups)).

    Folds are drawn by the seed and differ by one row at most. With classes, each class is spread over all
    folds; with weights, the rows of weight 0 and the others. With groups, whole groups are dealt, the largest
    first, to the fold with the fewest rows.

    Args:
        classes: (n,) class indices. groups: (n,) equal values for rows of one group. weight: (n,).

    Raises:
        DataError: as `number_of_folds` does, or at most one row weighs more than 0.
    """
    count, rng = number_of_folds(most, n, groups), np.random.default_rng(seed)
    kind = np.zeros(n, np.int64) if classes is None else np.asarray(classes).astype(np.int64)
    if weight is not None:
        kind = 2 * kind + (weight > 0)
        if (heavy := np.count_nonzero(weight > 0)) < LEAST:
            raise DataError(
                f"{heavy} of {n} rows weighs more than 0; members need at least {LEAST} such rows"
            )
    if groups is not None:
        return _dealt(_numbered(groups), count, rng)
    order = rng.permutation(n)
    order = order[np.argsort(kind[order], kind="stable")]
    fold = np.empty(n, np.int64)
    fold[order] = np.arange(n) % count
    return fold


def number_of_folds(most: int, n: int, groups: HostArray | None = None) -> int:
    """Return the number of folds of n rows: `most`, or one per row or group if there are fewer.

    Raises DataError if one row or one group is all there is, or a group is missing.
    """
    units, what = (n, "row") if groups is None else (int(_numbered(groups).max(initial=-1)) + 1, "group")
    if units < LEAST:
        raise DataError(
            f"there is {counted(units, what)} to train on; members need at least {LEAST}, of which one is "
            "held out"
        )
    return min(most, units)


def _numbered(groups: HostArray) -> HostArray:
    """Return the number of the group of each row, in the order in which they appear."""
    values = objects([*groups])
    if (missing := np.flatnonzero(np.ma.getmaskarray(values))).size:
        raise DataError(f"the group of row {missing[0]} is missing; every row needs one")
    names = {value: k for k, value in enumerate(dict.fromkeys(values.data.tolist()))}
    return np.array([names[value] for value in values.data.tolist()], np.int64)


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
