"""The rows of a SciPy sparse matrix, made dense when they are asked for.

So that a matrix whose zeros do not fit in memory is trained on and predicted: one minibatch, or one block of
`arrays.rows.blocks`, is dense at a time. A GPU gets all rows dense.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.rows import Rows


def is_sparse(x: Any) -> bool:
    """Return whether x is a sparse matrix or array of SciPy."""
    return type(x).__module__.startswith("scipy.sparse") and hasattr(x, "tocsr")


@dataclass(frozen=True, eq=False)
class SparseRows(Rows):
    """The rows of a matrix in compressed sparse rows (CSR)."""

    csr: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.csr.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = np.dtype(self.csr.dtype)
        return found

    def __getitem__(self, index: Any) -> HostArray:
        return np.asarray(self.csr[index].toarray())
