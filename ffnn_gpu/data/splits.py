"""Split rows into a training part and a test part: by a seed, stratified by class; by groups; by an order."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.data.labels import Indices, LabelMap
from ffnn_gpu.errors import ConfigurationError, DataError

ORDERS = 10  # random orders of groups that are tried


def train_test_split(
    y_or_n: Sequence[Hashable] | HostArray | int, fraction: float, seed: int, stratify: bool = False
) -> tuple[Indices, Indices]:
    """Shuffle row indices by the seed and split them into (train, test); test has round(fraction · n) rows.

    Stratified, each class contributes its share of the test rows, rounded by largest remainder. A class of
    two rows or more keeps at least one row in train.

    y_or_n: labels (n,), or n alone where `stratify` is False.

    Raises DataError if a part would be empty, or a class would have no row in train.
    """
    if not 0 < fraction < 1:
        raise ConfigurationError(f"fraction is {fraction}; it must be between 0 and 1")
    y = None if isinstance(y_or_n, (int, np.integer)) else y_or_n
    if stratify and y is None:
        raise ConfigurationError(f"stratify needs the labels, not only their number {y_or_n}")
    n = int(y_or_n) if y is None else len(y)  # type: ignore[arg-type]
    total = round(fraction * n)
    if not 0 < total < n:
        raise DataError(
            f"fraction {fraction} of {n} rows leaves {n - total} in train, {total} in test; both need rows"
        )
    shuffled = np.random.default_rng(seed).permutation(n)
    if y is None or not stratify:
        return shuffled[total:], shuffled[:total]
    k = LabelMap.fit(y).encode(y)[shuffled]
    counts = np.bincount(k)
    by_class = np.argsort(k, kind="stable")  # positions in `shuffled`, class by class
    rank = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    is_test = np.empty(n, dtype=bool)
    is_test[by_class] = rank < np.repeat(_test_counts(counts, total), counts)
    return shuffled[~is_test], shuffled[is_test]


def _test_counts(counts: Indices, total: int) -> Indices:
    """Return the test rows of each class, which sum to total: total · counts / n by largest remainder."""
    n = counts.sum()
    room = np.where(counts > 1, counts - 1, 1)
    given: Indices = np.minimum(total * counts // n, room)
    while missing := int(total - given.sum()):
        open_classes = np.flatnonzero(given < room)
        if open_classes.size == 0:
            raise DataError(
                f"with {total} of {n} rows in test, some of the {len(counts)} classes have no row in train"
            )
        remainder = (total * counts - given * n)[open_classes]
        given[open_classes[np.argsort(-remainder, kind="stable")[:missing]]] += 1
    return given


def group_split(
    groups: Indices, fraction: float, seed: int, y: Sequence[Hashable] | HostArray | None = None
) -> tuple[Indices, Indices]:
    """Split row indices into (train, test) so that no group has rows in both.

    Groups are taken in random order, each if it brings the rows of test closer to the fraction of each class:

        Σ_c (t_c − fraction · n_c)² / n_c        t_c: rows of class c in test        n_c: rows of class c

    The best of ORDERS orders is used. A group is never taken if a class would have no row left in train.

    Args:
        groups: (n,) equal numbers for rows of one group.
        y: (n,) labels, to keep the shares of classes alike; None for the number of rows alone.

    Raises DataError if a part would be empty.
    """
    n = len(groups)
    classes = np.zeros(n, np.int64) if y is None else LabelMap.fit(y).encode(y)
    _, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((group.max(initial=0) + 1, classes.max(initial=0) + 1))
    np.add.at(counts, (group, classes), 1)
    rng = np.random.default_rng(seed)
    tries = [_taken(counts, fraction, rng.permutation(len(counts))) for _ in range(ORDERS)]
    _, taken = min(tries, key=lambda item: item[0])
    if not taken.any() or taken.all():
        raise DataError(
            f"{len(counts)} groups of {n} rows cannot be split into train and test; more groups are needed"
        )
    in_test = taken[group]
    return np.flatnonzero(~in_test), np.flatnonzero(in_test)


def _taken(counts: NDArray[np.float64], fraction: float, order: Indices) -> tuple[float, NDArray[np.bool_]]:
    """Return the distance from the wanted shares, and which groups are taken in this order."""
    whole = counts.sum(axis=0)
    wanted, held = fraction * whole, np.zeros_like(whole)
    taken = np.zeros(len(counts), bool)
    distance = float((wanted**2 / whole).sum())
    for k in order.tolist():
        more = held + counts[k]
        new = float(((more - wanted) ** 2 / whole).sum())
        if new < distance and (more < whole).all():
            held, distance, taken[k] = more, new, True
    return (distance if taken.any() else np.inf), taken


def order_split(order: NDArray[np.float64], fraction: float) -> tuple[Indices, Indices]:
    """Split row indices into (earlier, later); later has about round(fraction · n) rows.

    Rows of the same order stay together: the cut moves to the nearer end of equal ones.

    Raises DataError if a part would be empty.
    """
    n = len(order)
    by_order = np.argsort(order, kind="stable")
    ranked = order[by_order]
    cut = n - round(fraction * n)
    ends = {cut}
    if 0 < cut < n and ranked[cut - 1] == ranked[cut]:
        ends = {int(np.searchsorted(ranked, ranked[cut], side)) for side in ("left", "right")}
    possible = [end for end in ends if 0 < end < n]
    if not possible:
        raise DataError(
            f"fraction {fraction} of {n} rows in order cannot be cut off: one part would be empty"
        )
    cut = min(possible, key=lambda end: abs(end - cut))
    return np.sort(by_order[:cut]), np.sort(by_order[cut:])
