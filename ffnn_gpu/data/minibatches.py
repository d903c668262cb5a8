"""Gather shuffled minibatches on the device.

The data set is moved to the device once. A minibatch is gathered into buffers that stay at their addresses,
because a CUDA graph needs fixed addresses. The order of epoch e is drawn from (seed, e), so resuming needs
only integers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.arrays.precision import master
from ffnn_gpu.backends import Backend
from ffnn_gpu.checks import require_positive_int, seed_number
from ffnn_gpu.errors import ConfigurationError


@dataclass(frozen=True)
class Order:
    """The order of rows in minibatches.

    shuffle: if True, each epoch draws a new permutation; the seed determines it.
    drop_last: if True, a last minibatch with fewer than batch_size rows is skipped.
    """

    batch_size: int
    shuffle: bool = True
    drop_last: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive_int("batch_size", self.batch_size)
        seed_number(self.seed)

    def steps(self, rows: int) -> int:
        """Return the number of minibatches per epoch."""
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def permutation(self, rows: int, epoch: int) -> np.ndarray:
        """Draw the order of the rows in epoch `epoch`, on the host."""
        if not self.shuffle:
            return np.arange(rows)
        return np.random.default_rng([self.seed, epoch]).permutation(rows)


class Minibatches:
    """Rows of x, y and sample weights on the device, and buffers for one minibatch of them.

    Attributes:
        rows: the number of rows in the data set.
        steps: the number of minibatches per epoch.
        B: the number of rows of a full minibatch.
        given: x, y and weight as the caller passed them.
        x, y, weight: buffers of B rows; weight is None without sample weights.
    """

    def __init__(
        self, backend: Backend, x: Any, y: Any, weight: Any | None, dtype: Any, order: Order, ranks: int = 1
    ) -> None:
        """Move x (n, d) and y (n,) or (n, O), both validated, to the device.

        x is cast to `dtype` here, or when it is gathered if that saves memory; a Standardized x is always
        standardized when it is gathered. Weights are float32 if `dtype` has 16 bits.

        ranks: the buffers hold one rank's share of a minibatch.
        """
        self.backend, self.order, self.rows = backend, order, len(x)
        self.steps = order.steps(self.rows)
        if not self.steps:
            raise ConfigurationError(
                f"batch_size={order.batch_size} with drop_last=True drops all {self.rows} rows; "
                f"use batch_size of at most {self.rows}"
            )
        self.given = x, y, weight
        self._x = rows_of(x, backend.admit).on(backend, dtype)
        self._y = backend.asarray(y)
        self._weight = None if weight is None else backend.asarray(weight, master(dtype))
        self.B = B = min(order.batch_size, self.rows)
        held = -(-B // ranks)
        self.x = backend.empty((held, x.shape[1]), dtype)
        self.y = backend.empty((held, *y.shape[1:]), y.dtype)
        self.weight = None if weight is None else backend.empty((held,), master(dtype))
        self._epoch = -1
        self._permutation: Any = None
        self._index = backend.zeros((B * backend.steps_per_launch(B),), np.int64)

    @property
    def whole(self) -> tuple[Any, Any, Any | None]:
        """(x, y, weight) of all rows, in their original order."""
        return self._x, self._y, self._weight

    def choose(self, epoch: int, step: int, most: int = 1) -> tuple[int, int]:
        """Select minibatch `step` of `epoch` and up to `most` − 1 following minibatches of the same size.

        Returns (number of minibatches, rows in each).
        """
        if epoch != self._epoch:
            self._permutation = None  # freed first, so that two are never in memory
            self._permutation = self.backend.asarray(self.order.permutation(self.rows, epoch))
            self._epoch = epoch
        B = self.order.batch_size
        start = step * B
        n = min(B, self.rows - start)
        k = max(1, min(most, (self.rows - start) // B))
        self.backend.copy(self._permutation[start : start + k * n], out=self._index[: k * n])
        return k, n

    def gather(self, j: int, n: int, part: slice = slice(None)) -> None:
        """Copy the n rows of the j-th selected minibatch, or a slice of them, into the buffers."""
        take, index = self.backend.take, self._index[j * n : (j + 1) * n][part]
        n = len(index)
        self._x.take(self.backend, index, self.x[:n])
        take(self._y, index, out=self.y[:n])
        if self.weight is not None:
            take(self._weight, index, out=self.weight[:n])
