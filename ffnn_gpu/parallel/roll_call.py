"""Who waits in a call, so that a rank that gives up can name those that do not.

A rank that has waited for half of its time says so to all others, in messages of one number that nobody waits for. Whoever
sent none when the time is over hangs, or is much slower. Those that wait for the same rank need not wait in the same call:
whom a broadcast serves first, say, goes on to the next.
"""

import math
from typing import Any

import numpy as np

APART = 64  # calls; what a rank said longer ago was of another wait


class RollCall:
    """This rank's part.

    Args:
        comm: a communicator of MPI on which no other messages are sent.
    """

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self._others = [rank for rank in range(comm.Get_size()) if rank != comm.Get_rank()]
        self._sent: list[Any] = []                                               # keeps what MPI may not have read yet

    def here(self, call: int) -> None:
        """Say that this rank waits in its call of this number."""
        number = np.array([call], np.int64)
        self._sent += [(number, self._comm.Isend(number, rank)) for rank in self._others]

    def absent(self, call: int) -> list[int]:
        """The ranks that have not said so, of this call or one near it."""
        return [rank for rank in self._others if self._heard(rank) < call - APART]

    def close(self) -> None:
        """Take the messages of calls that ended well after all: MPI wants none left."""
        for rank in self._others: self._heard(rank)

    def _heard(self, rank: int) -> float:
        """The number of the latest call in which that rank said it waits; −∞ if it has said nothing since asked last."""
        number, latest = np.zeros(1, np.int64), -math.inf
        while self._comm.Iprobe(rank):
            self._comm.Recv(number, rank)
            latest = float(number[0])
        return latest
