"""Ranks that are threads of this process: the mathematics of a training on n ranks, without MPI."""

import threading
from functools import reduce

import numpy as np

OPERATIONS = {"sum": np.add, "min": np.minimum, "max": np.maximum}


def numbers(vector):
    """Where a vector's numbers lie: a strict device keeps them on the host."""
    return getattr(vector, "host", vector)


class Exchange:
    """Where the vectors of all ranks meet."""

    def __init__(self, size, limit=60):
        self.size, self.vectors, self.barrier, self.calls = (
            size,
            [None] * size,
            threading.Barrier(size, timeout=limit),
            [],
        )


class ThreadRank:
    """A communicator between the threads of one Exchange. Every call is noted, so that ranks which differ fail here."""

    device, reason = "numpy", "threads"

    def __init__(self, exchange, rank):
        self.exchange, self.rank, self.size, self.local_rank = exchange, rank, exchange.size, rank

    def _all(self, vector, *call):
        """A copy of everybody's vector."""
        vector = numbers(vector)
        assert vector.ndim == 1 and vector.flags.c_contiguous
        self.exchange.vectors[self.rank] = (*call, len(vector), vector.dtype), vector.copy()
        self.exchange.barrier.wait()
        calls, vectors = zip(*self.exchange.vectors, strict=True)
        self.exchange.barrier.wait()
        assert len({*calls}) == 1, f"ranks made different calls: {calls}"
        if self.rank == 0:
            self.exchange.calls.append(calls[0])
        return vectors

    def all_reduce(self, vector, op="sum"):
        numbers(vector)[...] = reduce(OPERATIONS[op], self._all(vector, "all_reduce", op))

    def reduce_scatter(self, vector, bounds):
        whole = reduce(np.add, self._all(vector, "reduce_scatter", *bounds))
        mine = slice(bounds[self.rank], bounds[self.rank + 1])
        numbers(vector)[mine] = whole[mine]

    def all_gather(self, vector, bounds):
        pieces = self._all(vector, "all_gather", *bounds)
        for r, piece in enumerate(pieces):
            numbers(vector)[bounds[r] : bounds[r + 1]] = piece[bounds[r] : bounds[r + 1]]

    def broadcast(self, vector, root=0):
        numbers(vector)[...] = self._all(vector, "broadcast", root)[root]

    def barrier(self):
        self.exchange.barrier.wait()

    def wait(self): ...

    def close(self): ...

    def abort(self, status=1):
        self.exchange.barrier.abort()


def on_ranks(n, work, limit=60):
    """[work(communicator of rank r)] of n threads; the error of the lowest rank that raised one of its own."""
    exchange, results, errors = Exchange(n, limit), [None] * n, {}

    def run(rank):
        try:
            with np.errstate(all="warn", under="ignore"):
                results[rank] = work(ThreadRank(exchange, rank))
        except BaseException as error:
            errors[rank] = error
            exchange.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own = [
        error for _, error in sorted(errors.items()) if not isinstance(error, threading.BrokenBarrierError)
    ]
    if own:
        raise own[0]
    assert not errors
    return results, exchange.calls
