"""Assign rows to folds, of which each member holds out one."""

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.frames import objects
from ffnn_gpu.errors import DataError


def folds_of(
    n: int,
    count: int,
    seed: int,
    classes: HostArray | None = None,
    groups: HostArray | None = None,
    weight: HostArray | None = None,
) -> HostArray:
    """Return the fold of each row, (n,) in [0, count).

    Folds are drawn by the seed and differ by one row at most. With classes, each class is spread over all
    folds; with weights, the rows of weight 0 and the others. With groups, whole groups are dealt, the largest
    first, to the fold with the fewest rows.

    Args:
        count: the number of folds; with fewer rows, or fewer groups, as many folds as those.
        classes: (n,) class indices. groups: (n,) equal values for rows of one group. weight: (n,).

    Raises:
        DataError: there is one row, one group or one row that weighs more than 0; or a group is missing.
    """
    rng = np.random.default_rng(seed)
    kind = np.zeros(n, np.int64) if classes is None else np.asarray(classes).astype(np.int64)
    if weight is not None:
        kind = 2 * kind + (weight > 0)
        if np.count_nonzero(weight > 0) < 2:
            raise DataError(
                "at most one row weighs more than 0; one to train on and one to hold out are needed"
            )
    if groups is not None:
        return _dealt(groups, count, rng)
    if n < 2:
        raise DataError("there is one row; one to train on and one to hold out are needed")
    order = rng.permutation(n)
    order = order[np.argsort(kind[order], kind="stable")]
    fold = np.empty(n, np.int64)
    fold[order] = np.arange(n) % min(count, n)
    return fold


def _dealt(groups: HostArray, count: int, rng: np.random.Generator) -> HostArray:
    values = objects([*groups])
    if (missing := np.flatnonzero(np.ma.getmaskarray(values))).size:
        raise DataError(f"groups[{missing[0]}] is missing; every row needs a group")
    names = {value: k for k, value in enumerate(dict.fromkeys(values.data.tolist()))}
    group = np.array([names[value] for value in values.data.tolist()])
    sizes = np.bincount(group)
    if len(sizes) < 2:
        raise DataError("groups holds one group; at least 2 are needed, because whole groups are held out")
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    held, fold = np.zeros(min(count, len(sizes)), np.int64), np.empty(len(sizes), np.int64)
    for g in order:
        fold[g] = held.argmin()
        held[fold[g]] += sizes[g]
    dealt: HostArray = fold[group]
    return dealt
