"""Who waits in a call, so that a rank that gives up can name those that do not.

A rank that has waited for half of its time says so to all others, in messages of one number that nobody waits for. Whoever
sent none when the time is over hangs, or is much slower.
"""

from typing import Any

import numpy as np

TAGS = 32768  # that every MPI has at least: MPI-4.1, section 9.1.2


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
        self._sent += [(number, self._comm.Isend(number, rank, call % TAGS)) for rank in self._others]

    def absent(self, call: int) -> list[int]:
        """The ranks that have not said so."""
        return [rank for rank in self._others if not self._comm.Iprobe(rank, call % TAGS)]

    def close(self) -> None:
        """Take the messages of calls that ended well after all: MPI wants none left."""
        number = np.zeros(1, np.int64)
        for rank in self._others:
            while self._comm.Iprobe(rank): self._comm.Recv(number, rank)
