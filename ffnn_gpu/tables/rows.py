"""Some rows of a table, as x of a data set: encoded when a model asks for them.

Why they are encoded together: training, validation and test rows lie mixed in the table, and each column is
converted once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.tables.borrowed import BorrowedTable
from ffnn_gpu.tables.columns import Column
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
        whole: EncodedTable | BorrowedTable | None = None,
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
        assert isinstance(self._whole, EncodedTable)
        self._whole.keep_in(folder)

    def fit(self, columns: Sequence[Column], missing: tuple[str, ...], most_codes: int) -> Encoding:
        """Return the encoding fitted to these rows, or the one that is shared with other processes.

        The arguments are those of `Encoding.fit`.
        """
        if self._whole.shared is not None:
            return self._whole.shared
        return Encoding.fit(self.table, columns, self.index, missing, most_codes)

    def lend(self, encoding: Encoding, dtype: DTypeLike) -> tuple[HostArray, Path | None]:
        """Return the matrix of the whole table, and the folder in which other processes find a large one."""
        assert isinstance(self._whole, EncodedTable)
        return self._whole.lend(encoding, dtype)

    def borrow(self, encoding: Encoding, matrix: HostArray) -> None:
        """Use what the process that read the table made of it."""
        assert isinstance(self._whole, BorrowedTable)
        self._whole.take(encoding, matrix)

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
