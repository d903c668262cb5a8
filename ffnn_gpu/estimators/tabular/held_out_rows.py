"""Rows that members were not trained on, kept to permute their columns afterwards."""

from dataclasses import dataclass

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.estimators.tabular.members import Rows

MOST_ROWS, LEAST_ROWS = 10_000, 200
MOST_NUMBERS = 1 << 24  # 64 MiB of float32
OF_A_CLASS = 5  # the first rows are of each class, where there are so many


@dataclass(frozen=True, eq=False)
class HeldOutRows:
    """Rows in random order, rare classes first, and the fold of each."""

    rows: Rows
    fold: HostArray

    @classmethod
    def of(cls, rows: Rows, folds: HostArray, index: HostArray, seed: int) -> "HeldOutRows":
        """Return the rows `index`, or a random part of them if they are many."""
        order = np.random.default_rng(seed).permutation(index)
        y = np.asarray(rows.y)[order]
        if y.ndim == 1:  # class indices
            first = np.flatnonzero(_places_in_class(y) < OF_A_CLASS)
            order = np.concatenate([order[first], np.delete(order, first)])
        kept = order[: min(MOST_ROWS, max(LEAST_ROWS, MOST_NUMBERS // rows.x.shape[1]))]
        return cls(Rows(rows.x[kept], rows.y[kept], rows.weight_at(kept)), folds[kept])

    def __len__(self) -> int:
        return len(self.fold)

    @property
    def least(self) -> int:
        """The number of rows that a measure needs at least: LEAST_ROWS, and OF_A_CLASS of each class."""
        y = np.asarray(self.rows.y)
        return max(LEAST_ROWS, OF_A_CLASS * len(np.unique(y)) if y.ndim == 1 else 0)

    def first(self, n: int) -> "HeldOutRows":
        """Return the first n rows."""
        x, y, weight = self.rows
        return HeldOutRows(Rows(x[:n], y[:n], None if weight is None else weight[:n]), self.fold[:n])


def _places_in_class(y: HostArray) -> HostArray:
    """Return for each row how many rows before it have its class."""
    order = np.argsort(y, kind="stable")
    _, starts, counts = np.unique(y[order], return_index=True, return_counts=True)
    places = np.empty(len(y), np.int64)
    places[order] = np.arange(len(y)) - np.repeat(starts, counts)
    return places
