"""Scratch memory of kernels, for each thread, stream and member of a pack.

Why: the last block of a sum over the grid finishes it, so two threads that share a backend, two branches of
a graph, or two members in one launch must not share the blocks' sums. Why it is never freed: a captured CUDA
graph holds its address.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ffnn_gpu.backends.cuda.launches import Collected

FINISHED = "finished"  # the purpose of the memory that counts blocks


class Scratch:
    """Scratch memory of the array module `xp`."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self._own = threading.local()
        self._stream = threading.local()

    def scratch(self, purpose: str, n: int) -> Any:
        """Return n float64 of this thread's stream, allocated once per purpose and size."""
        return self._memory(purpose, n)

    def scratches(self) -> list[Any]:
        """Return all scratch of this thread."""
        return list(self._own.__dict__.values())

    def use(self, stream: int) -> None:
        """Use the scratch of this thread's stream of this number. Number 0 is used outside of branches."""
        self._stream.number = stream

    def reserve(self, streams: int) -> None:
        """Allocate for each of several streams what the first one has."""
        keys: list[Any] = list(self._own.__dict__)
        first = [(purpose, n) for purpose, n, number in keys if number == 0]
        for number in range(1, streams):
            for purpose, n in first:
                self._whole(purpose, n, number)

    @contextmanager
    def collecting(self, members: int) -> Iterator[Collected]:
        """Collect this thread's launches for the members of a pack; at the end, launch nothing."""
        self._stream.collected = collected = Collected(members)
        try:
            yield collected
        finally:
            self._stream.collected = None

    @property
    def _collected(self) -> Collected | None:
        collected: Collected | None = getattr(self._stream, "collected", None)
        return collected

    def _memory(self, purpose: str, n: int) -> Any:
        """Return n elements of this stream's scratch, while collecting those of the current member."""
        collected, number = self._collected, getattr(self._stream, "number", 0)
        if collected is None:
            return self._whole(purpose, n, number)
        whole, r = self._whole(purpose, n * len(collected.launches), number), collected.member
        return whole[r * n : (r + 1) * n]

    def _whole(self, purpose: str, n: int, number: int) -> Any:
        arrays: dict[Any, Any] = self._own.__dict__
        key = purpose, n, number
        if key not in arrays:
            arrays[key] = self.xp.empty(n, np.uint32 if purpose == FINISHED else np.float64)
            if purpose == FINISHED:
                arrays[key][...] = 0
        return arrays[key]

    def _finished(self) -> Any:
        """Return the counter of finished blocks of the current sum. Every kernel leaves it at 0."""
        return self._memory(FINISHED, 1)
