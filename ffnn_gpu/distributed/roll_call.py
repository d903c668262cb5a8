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
        self._sent: list[Any] = []  # keeps what MPI may not have read yet
        self._latest = dict.fromkeys(self._others, -math.inf)  # the call in which each said last it waits

    def here(self, call: int) -> None:
        """Say that this rank waits in its call of this number."""
        self._hear()  # a long training has many late calls
        self._sent = [message for message in self._sent if not message[1].Test()]
        number = np.array([call], np.int64)
        self._sent += [(number, self._comm.Isend(number, rank)) for rank in self._others]

    def absent(self, call: int) -> list[int]:
        """The ranks that have not said so, of this call or one near it."""
        self._hear()
        return [rank for rank, latest in self._latest.items() if latest < call - APART]

    def close(self) -> None:
        """Take the messages of calls that ended well after all: MPI wants none left."""
        self._hear()

    def _hear(self) -> None:
        """Take what the others have said by now."""
        number = np.zeros(1, np.int64)
        for rank in self._others:
            while self._comm.Iprobe(rank):
                self._comm.Recv(number, rank)
                self._latest[rank] = float(number[0])
