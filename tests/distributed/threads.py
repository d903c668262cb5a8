"""Ranks that are threads of this process: test training on n ranks without MPI."""

import threading
from functools import reduce

import numpy as np

OPERATIONS = {"sum": np.add, "min": np.minimum, "max": np.maximum}


def numbers(vector):
    """Return the host array of a vector, also of a strict device's."""
    return getattr(vector, "host", vector)


class Exchange:
    """The vectors of all ranks, and the barrier between them."""

    def __init__(self, size, limit=60):
        self.size, self.vectors, self.calls = size, [None] * size, []
        self.barrier = threading.Barrier(size, timeout=limit)


class ThreadRank:
    """A communicator between the threads of one Exchange. It fails if the ranks make different calls."""

    device, reason = "numpy", "threads"

    def __init__(self, exchange, rank):
        self.exchange, self.rank, self.size, self.local_rank = exchange, rank, exchange.size, rank

    def _all(self, vector, *call):
        """Return copies of the vectors of all ranks."""
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

    def gather_errors(self, error, limit):
        return [int(errors[0]) for errors in self._all(np.array([error], np.int64), "gather_errors")]

    def close(self): ...

    def abort(self, status=1):
        self.exchange.barrier.abort()


def on_ranks(n, work, limit=60):
    """Return ([work(communicator of rank r) for every r], calls), or raise the lowest rank's own error."""
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
    broken = threading.BrokenBarrierError  # raised in a rank because another one failed
    own = [error for _, error in sorted(errors.items()) if not isinstance(error, broken)]
    if own:
        raise own[0]
    assert not errors
    return results, exchange.calls
