"""Find the ranks that do not wait in a call, so that a rank that gives up can name them.

A rank that has waited for half of its time limit sends the number of its call to all others, without
blocking. A rank that has sent no number when the limit is over hangs, or is much slower. Ranks that wait for
the same rank may wait in slightly different calls: a broadcast, for example, lets the ranks it serves first
go on to the next call.
"""

import math
from typing import Any

import numpy as np

MAX_DISTANCE = 64  # calls; an older message belongs to an earlier wait


class RollCall:
    """This rank's messages to and from the others.

    Args:
        comm: an MPI communicator without other messages.
    """

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self._others = [rank for rank in range(comm.Get_size()) if rank != comm.Get_rank()]
        self._sent: list[Any] = []  # messages that MPI may not have read yet
        self._latest = dict.fromkeys(self._others, -math.inf)  # rank → the last call it reported

    def report(self, call: int) -> None:
        """Tell all other ranks that this rank waits in its call of this number."""
        self._receive()  # a long training run may have many late calls
        self._sent = [message for message in self._sent if not message[1].Test()]
        number = np.array([call], np.int64)
        self._sent += [(number, self._comm.Isend(number, rank)) for rank in self._others]

    def absent(self, call: int) -> list[int]:
        """Return the ranks that have not reported this call or one near it."""
        self._receive()
        return [rank for rank, latest in self._latest.items() if latest < call - MAX_DISTANCE]

    def close(self) -> None:
        """Receive the messages of calls that ended late but well; MPI requires that none is left."""
        self._receive()

    def _receive(self) -> None:
        """Receive all messages that have arrived."""
        number = np.zeros(1, np.int64)
        for rank in self._others:
            while self._comm.Iprobe(rank):
                self._comm.Recv(number, rank)
                self._latest[rank] = float(number[0])
