"""Some rows of a table, as x of a data set: encoded when a model asks for them.

Why they are encoded together: training, validation and test rows lie mixed in the table, and each column is
converted once.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.table import Codes, Table


@dataclass(frozen=True, eq=False)
class TableRows:
    """The rows `index` (n,) of a table; x[other] are the rows index[other].

    width: the number of columns that may be learnt from.
    skip: the columns that are targets.
    """

    table: Table
    index: Codes
    width: int
    skip: tuple[int, ...] = ()
    _encoded: dict[Any, HostArray] = field(default_factory=dict)  # of all rows of the table, by encoding

    ndim = 2

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.width

    def __getitem__(self, index: Any) -> "TableRows":
        return TableRows(self.table, self.index[index], self.width, self.skip, self._encoded)

    def encoded(self, encoding: Encoding, dtype: DTypeLike) -> HostArray:
        """Return the matrix (n, outputs) of these rows. Raises DataError for cells that cannot be read."""
        key = id(encoding), np.dtype(dtype).name
        if key not in self._encoded:
            self._encoded.clear()
            self._encoded[key] = encoding.encode(self.table, dtype, self.skip)
        whole = self._encoded[key]
        return whole if len(self) == len(whole) and (np.diff(self.index) == 1).all() else whole[self.index]
