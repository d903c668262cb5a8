"""The communicator: calls on vectors and errors, and its implementation for a single process.

A rank is one of several processes that train one network together. Every rank makes the same calls in the
same order, each with a vector of the same length. A vector is contiguous and one-dimensional; it lies on the
host or on the rank's own GPU. Every call works in place. Where a call needs the pieces of a vector, piece r
is `vector[bounds[r] : bounds[r + 1]]`, with bounds from `piece_bounds`.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray

Vector: TypeAlias = Any
"""A contiguous array of one dimension: numpy.ndarray or cupy.ndarray."""


class Communicator(Protocol):
    """One rank's connection to all ranks.

    Attributes:
        rank, size: this rank, 0 ≤ rank < size.
        local_rank: the rank among the ranks of the same machine.
        device: the backend of this rank, "numpy" or "cupy:N".
        reason: one line that explains the choice of this communicator.
    """

    rank: int
    size: int
    local_rank: int
    device: str
    reason: str

    def all_reduce(self, vector: Vector, op: str = "sum") -> None:
        """vector ← Σ_r vector_r, or the elementwise "min" or "max"; the same bits on every rank."""

    def reduce_scatter(self, vector: Vector, bounds: Sequence[int]) -> None:
        """This rank's piece of vector ← the same piece of Σ_r vector_r; the other pieces do not change."""

    def all_gather(self, vector: Vector, bounds: Sequence[int]) -> None:
        """Piece r of vector ← piece r of rank r's vector, for every r."""

    def broadcast(self, vector: Vector, root: int = 0) -> None:
        """vector ← vector_root"""

    def barrier(self) -> None:
        """Wait until every rank has made this call."""

    def wait(self) -> None:
        """Wait until the device has finished all earlier calls; on a host each has when it returns."""

    def gather_errors(self, error: int, limit: float) -> list[int] | None:
        """Return every rank's `error`, a checksum, or None if not all call this within `limit` seconds."""

    def abort(self, status: int = 1) -> None:
        """End every rank immediately, including this one."""

    def close(self) -> None:
        """End communication after the last call of every rank; then any exit status is allowed."""


class Single:
    """The communicator of one process: every sum has one term."""

    rank, size, local_rank = 0, 1, 0

    def __init__(self, device: str = "auto", reason: str = "one process") -> None:
        self.device, self.reason = device, reason

    def all_reduce(self, vector: Vector, op: str = "sum") -> None: ...

    def reduce_scatter(self, vector: Vector, bounds: Sequence[int]) -> None: ...

    def all_gather(self, vector: Vector, bounds: Sequence[int]) -> None: ...

    def broadcast(self, vector: Vector, root: int = 0) -> None: ...

    def barrier(self) -> None: ...

    def wait(self) -> None: ...

    def gather_errors(self, error: int, limit: float) -> list[int] | None:
        return [error]

    def abort(self, status: int = 1) -> None:
        raise SystemExit(status)

    def close(self) -> None: ...


def gather(communicator: Communicator, numbers: Sequence[int]) -> HostArray:
    """Return the integers of every rank, (size, len(numbers)), on every rank."""
    everyone = np.zeros((communicator.size, len(numbers)), np.int64)
    everyone[communicator.rank] = numbers
    communicator.all_reduce(everyone.reshape(-1))
    return everyone


def piece_bounds(length: int, size: int, unit: int = 1) -> list[int]:
    """Return size + 1 bounds that split `length` items into `size` pieces of nearly equal length.

    Pieces begin at multiples of `unit`. The last piece may be shorter. With fewer units than pieces, some are
    empty.
    """
    units = -(-length // unit)
    return [min(r * units // size * unit, length) for r in range(size + 1)]
