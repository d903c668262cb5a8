"""A table that another process has read: its names and its matrix, without its cells."""

import numpy as np
from numpy.typing import DTypeLike

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.table import Table


def distant_table(source: str, names: tuple[str, ...], has_names: bool, rows: int) -> Table:
    """Return a table that answers what its columns are called and how many rows it has, and nothing else."""
    return Table(source, names, None, has_names=has_names, rows=range(rows))


class BorrowedTable:
    """What the process that read a table made of it.

    shared: the encoding, fitted to the training rows; None before `take`.
    """

    def __init__(self) -> None:
        self.shared: Encoding | None = None
        self._matrix: HostArray = np.empty((0, 0))

    def take(self, encoding: Encoding, matrix: HostArray) -> None:
        """Store the encoding, and the matrix of the whole table under it."""
        self.shared, self._matrix = encoding, matrix

    def matrix(self, encoding: Encoding, dtype: DTypeLike) -> HostArray:
        """Return the matrix (n, outputs)."""
        assert encoding == self.shared and self._matrix.dtype == dtype
        return self._matrix
