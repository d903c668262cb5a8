"""Some rows of a table, as x of a data set: encoded when a model asks for them.

Why they are encoded together: training, validation and test rows lie mixed in the table, and each column is
converted once.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.tables.encoded import EncodedTable
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.table import Codes, Table


class TableRows:
    """The rows `index` (n,) of a table; x[other] are the rows index[other].

    width: the number of columns that may be learnt from.
    skip: the columns that are targets.
    """

    ndim = 2

    def __init__(
        self,
        table: Table,
        index: Codes,
        width: int,
        skip: tuple[int, ...] = (),
        whole: EncodedTable | None = None,
    ) -> None:
        self.table, self.index, self.width, self.skip = table, index, width, skip
        self._whole = whole or EncodedTable(table, skip)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.width

    def __getitem__(self, index: Any) -> "TableRows":
        return TableRows(self.table, self.index[index], self.width, self.skip, self._whole)

    def keep_in(self, folder: Path) -> None:
        """Keep the matrix in this folder if it is large, unless the same matrix lies there."""
        self._whole.keep_in(folder)

    def lend(self, encoding: Encoding, dtype: DTypeLike) -> str | None:
        """Encode; return the folder from which other processes may borrow a large matrix, else None."""
        return self._whole.lend(encoding, dtype)

    def borrow(self, folder: Path, encoding: Encoding, dtype: DTypeLike) -> None:
        """Map the matrix that another process keeps in this folder, if it is the same; else encode.

        The other process may move or remove its files afterwards.
        """
        self._whole.lent = folder
        self._whole.matrix(encoding, dtype)

    def encoded(self, encoding: Encoding, dtype: DTypeLike) -> HostArray:
        """Return the matrix (n, outputs) of these rows: an array, or Rows in a file if the table's is large.

        Raises DataError for cells that cannot be read.
        """
        whole = self._whole.matrix(encoding, dtype)
        if len(self) == len(whole) and (np.diff(self.index) == 1).all():
            return whole
        if isinstance(whole, np.memmap):
            return cast(HostArray, rows_of(whole).select(self.index))
        return whole[self.index]
