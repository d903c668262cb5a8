"""Split rows into a training part and a test part, by a seed, stratified by class if asked."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.data.labels import LabelMap
from ffnn_gpu.errors import ConfigurationError, DataError

Indices = NDArray[np.int64]


def train_test_split(
    y_or_n: Sequence[Hashable] | HostArray | int, fraction: float, seed: int, stratify: bool = False
) -> tuple[Indices, Indices]:
    """Shuffled row indices (train, test), the same for the same seed; test has exactly round(fraction · n) of them.

    Stratified, each class gives its share of the test rows, rounded by largest remainder; a class of two rows or more
    keeps at least one of them in train.

    Args:
        y_or_n: labels (n,), or n alone where `stratify` is False.

    Raises:
        ConfigurationError: fraction outside (0, 1), or stratify without labels.
        DataError: a part would be empty, or every class cannot keep a row in train.
    """
    if not 0 < fraction < 1:
        raise ConfigurationError(f"fraction is {fraction}; it must lie between 0 and 1")
    y = None if isinstance(y_or_n, (int, np.integer)) else y_or_n
    if stratify and y is None:
        raise ConfigurationError(f"stratify needs the labels, not their number {y_or_n}")
    n = int(y_or_n) if y is None else len(y)  # type: ignore[arg-type]
    total = round(fraction * n)
    if not 0 < total < n:
        raise DataError(f"fraction {fraction} of {n} rows puts {n - total} in train, {total} in test")
    shuffled = np.random.default_rng(seed).permutation(n)
    if y is None or not stratify:
        return shuffled[total:], shuffled[:total]
    k = LabelMap.fit(y).encode(y)[shuffled]
    counts = np.bincount(k)
    by_class = np.argsort(k, kind="stable")  # places in `shuffled`, class after class
    rank = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    is_test = np.empty(n, dtype=bool)
    is_test[by_class] = rank < np.repeat(_test_counts(counts, total), counts)
    return shuffled[~is_test], shuffled[is_test]


def _test_counts(counts: Indices, total: int) -> Indices:
    """Rows each class gives to the test part: total · counts / n by largest remainder, in integers; sums to total."""
    n = counts.sum()
    room = np.where(counts > 1, counts - 1, 1)
    given = np.minimum(total * counts // n, room)
    while missing := int(total - given.sum()):
        open_classes = np.flatnonzero(given < room)
        if open_classes.size == 0:
            raise DataError(
                f"{total} of {n} rows in test leave some of the {len(counts)} classes no row in train"
            )
        remainder = (total * counts - given * n)[open_classes]
        given[open_classes[np.argsort(-remainder, kind="stable")[:missing]]] += 1
    return given
