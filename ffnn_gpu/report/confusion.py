"""Which classes are taken for which."""

from collections.abc import Sequence

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.report.findings import Confusion, LabelCounts

MOST_CLASSES = 12  # rows of the matrix; of more classes, the last row sums up those with the fewest errors
MOST_PAIRS = 10


def confusion_of(y: HostArray, decided: HostArray, names: Sequence[str]) -> Confusion:
    """Return the counts of true and predicted classes (n,), given as indices of names."""
    C = len(names)
    counts = np.bincount(y * C + decided, minlength=C * C).reshape(C, C)
    pairs, right = _pairs(counts, names), int(np.trace(counts))
    if C <= MOST_CLASSES:
        return Confusion(tuple(names), _rows(counts), 0, right, pairs)
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    kept = np.sort(np.argsort(-errors, kind="stable")[: MOST_CLASSES - 1])
    place = np.full(C, len(kept))
    place[kept] = np.arange(len(kept))
    merged = np.zeros((MOST_CLASSES, MOST_CLASSES), np.int64)
    np.add.at(merged, (place[:, None], place[None, :]), counts)
    shown = [*(names[k] for k in kept), f"{C - len(kept)} others"]
    return Confusion(tuple(shown), _rows(merged), C - len(kept), right, pairs)


def label_counts_of(y: HostArray, decided: HostArray, names: Sequence[str]) -> tuple[LabelCounts, ...]:
    """Return the counts of each label of a multilabel task; y and decided are 0/1 (n, K)."""
    actual, found = y == 1, decided == 1
    rows = (actual.sum(axis=0), found.sum(axis=0), (actual & found).sum(axis=0))
    counts = zip(names, *(row.tolist() for row in rows), strict=True)
    return tuple(LabelCounts(*each) for each in counts)


def _pairs(counts: HostArray, names: Sequence[str]) -> tuple[tuple[str, str, int], ...]:
    errors = counts - np.diag(counts.diagonal())
    order = np.argsort(-errors, axis=None, kind="stable")[:MOST_PAIRS]
    cells = (divmod(int(k), len(names)) for k in order)
    return tuple((names[a], names[b], int(errors[a, b])) for a, b in cells if errors[a, b])


def _rows(counts: HostArray) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, counts.tolist()))
