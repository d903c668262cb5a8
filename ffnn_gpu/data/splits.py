"""Split rows into a training part and a test part, by a seed, stratified by class on request."""

from collections.abc import Hashable, Sequence

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.data.labels import Indices, LabelMap
from ffnn_gpu.errors import ConfigurationError, DataError


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
