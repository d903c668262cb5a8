"""What ranks say to each other: eight calls on flat vectors, and the one process that has nobody to talk to.

A rank is one process of several that train one network together. Every rank makes the same calls in the same order, each
with a vector as long as the others'. Vectors are contiguous, of one dimension, and lie on the host or on the rank's own GPU;
every call works in place. Where a call needs pieces of a vector, piece r is `vector[bounds[r] : bounds[r + 1]]`: `cuts`
makes the bounds.
"""

from collections.abc import Sequence
from typing import Any, Protocol

OPERATIONS = ("sum", "min", "max")


class Communicator(Protocol):
    """One rank's end of the line.

    Attributes:
        rank, size: this rank, 0 ≤ rank < size.
        local_rank: the rank among those of the same machine.
        device: the backend of this rank, "numpy" or "cupy:N".
        reason: in one line, why ranks talk to each other this way.
    """

    rank: int
    size: int
    local_rank: int
    device: str
    reason: str

    def all_reduce(self, vector: Any, op: str = "sum") -> None:
        """vector ← Σ_r vector_r, or the smallest or largest of each element, the same bits on every rank."""

    def reduce_scatter(self, vector: Any, bounds: Sequence[int]) -> None:
        """This rank's piece of vector ← that piece of Σ_r vector_r; the other pieces stay as they are."""

    def all_gather(self, vector: Any, bounds: Sequence[int]) -> None:
        """Piece r of vector ← that of rank r, for every r."""

    def broadcast(self, vector: Any, root: int = 0) -> None:
        """vector ← vector_root"""

    def barrier(self) -> None:
        """Wait until every rank has come here."""

    def wait(self) -> None:
        """Wait until the device has done every call so far. A host has, when a call returns."""

    def abort(self, status: int = 1) -> None:
        """End every rank now, this one included."""

    def close(self) -> None:
        """After the last call of every rank; the process may then end with any status."""


class Single:
    """The communicator of one process: every sum has one term."""

    rank, size, local_rank = 0, 1, 0

    def __init__(self, device: str = "auto", reason: str = "one process") -> None:
        self.device, self.reason = device, reason

    def all_reduce(self, vector: Any, op: str = "sum") -> None: ...

    def reduce_scatter(self, vector: Any, bounds: Sequence[int]) -> None: ...

    def all_gather(self, vector: Any, bounds: Sequence[int]) -> None: ...

    def broadcast(self, vector: Any, root: int = 0) -> None: ...

    def barrier(self) -> None: ...

    def wait(self) -> None: ...

    def abort(self, status: int = 1) -> None:
        raise SystemExit(status)

    def close(self) -> None: ...


def cuts(length: int, size: int, unit: int = 1) -> list[int]:
    """size + 1 bounds that cut `length` things into pieces whose lengths differ by one unit at most; the last may lack more.

    Pieces begin at multiples of `unit`. Where there are fewer units than pieces, some are empty.
    """
    units = -(-length // unit)
    return [min(r * units // size * unit, length) for r in range(size + 1)]
