"""Ranks that talk through MPI: mpi4py's buffer calls, which move bytes as they lie in memory and nothing else.

A GPU's vectors go through pinned host memory, unless MPI itself says that it reads GPU memory
(`mpi_memory_alloc_kinds` of MPI-4.1, section 12.4.3).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from ffnn_gpu.backends.cuda.cupy_backend import load_cupy
from ffnn_gpu.distributed import faults
from ffnn_gpu.distributed.roll_call import RollCall
from ffnn_gpu.distributed.shared_cores import cores_of_rank
from ffnn_gpu.errors import ConfigurationError

TURN, LAST_TURN = (
    0.2,
    2.0,
)  # seconds that each rank waits longer than the one before it: one says what all see


def load_mpi() -> Any:
    """The module mpi4py.MPI, whose import starts MPI. Raises ConfigurationError where mpi4py or MPI is not installed."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # mpi4py without a library of MPI raises RuntimeError
        raise ConfigurationError(
            f'this process is one of several, but MPI cannot be used ({error}); pip install "ffnn_gpu[mpi]", and MPI '
            "itself, from the cluster's modules or by pip install mpich"
        ) from error
    return MPI


class MPI:
    """All processes that one mpiexec or srun started.

    Args:
        device: the backend of this rank.
        limit: seconds to wait for other ranks, as `faults.Patience` takes it.
    """

    def __init__(self, device: str = "numpy", limit: float | None = None) -> None:
        self.patience = faults.Patience(limit)
        with faults.ends_within(self.patience.limit()):  # none of these has a time limit of its own
            self._mpi = load_mpi()
            world = self._mpi.COMM_WORLD
            # Why two of our own: messages of the program around us cannot meet ours, nor can a call that was never finished
            # meet what is said about errors.
            self._comm, self._errors, waiting = world.Dup(), world.Dup(), world.Dup()
            local = world.Split_type(self._mpi.COMM_TYPE_SHARED)
            self.local_rank, self.cores = local.Get_rank(), cores_of_rank(local, self._mpi.IN_PLACE)
            local.Free()
        self.rank, self.size, self.device, self.calls = world.Get_rank(), world.Get_size(), device, 0
        self.patience.met()
        self._turn, self._roll_call = min(TURN * self.rank, LAST_TURN), RollCall(waiting)
        self._operations = {"sum": self._mpi.SUM, "min": self._mpi.MIN, "max": self._mpi.MAX}
        self._pinned: dict[str, np.ndarray] = {}
        self._latest: Any = None
        self.cuda_aware = "cuda" in ((self._comm.Get_info().get("mpi_memory_alloc_kinds")) or "")
        self.reason = f"MPI between {self.size} processes ({self._library()})"

    def all_reduce(self, vector: Any, op: str = "sum") -> None:
        with self._reachable(vector) as buffer:
            self._finish(
                self._comm.Iallreduce(self._mpi.IN_PLACE, buffer, op=self._operations[op]),
                "all_reduce",
                buffer,
            )

    def reduce_scatter(self, vector: Any, bounds: Sequence[int]) -> None:
        with self._reachable(vector) as buffer:
            mine = slice(bounds[self.rank], bounds[self.rank + 1])
            piece = buffer[mine].copy()
            self._finish(
                self._comm.Ireduce_scatter(buffer, piece, _lengths(bounds)), "reduce_scatter", buffer
            )
            buffer[mine] = piece

    def all_gather(self, vector: Any, bounds: Sequence[int]) -> None:
        with self._reachable(vector) as buffer:
            pieces = [buffer, _lengths(bounds), list(bounds[:-1]), self._type_of(buffer)]
            self._finish(self._comm.Iallgatherv(self._mpi.IN_PLACE, pieces), "all_gather", buffer)

    def broadcast(self, vector: Any, root: int = 0) -> None:
        with self._reachable(vector) as buffer:
            self._finish(self._comm.Ibcast(buffer, root), "broadcast", buffer)

    def barrier(self) -> None:
        self._finish(self._comm.Ibarrier(), "barrier")

    def wait(self) -> None: ...

    def abort(self, status: int = 1) -> None:
        self._comm.Abort(status)

    def close(self) -> None:
        """Why: `python -m mpi4py` aborts all ranks where one ends with another status than 0, unless it has left MPI."""
        self._roll_call.close()
        self._mpi.Finalize()

    def raised(self, error: int, limit: float) -> list[int] | None:
        """What each rank raised, as a checksum, if every rank calls this within `limit` seconds; else None."""
        everyone = np.zeros(self.size, np.int64)
        request = self._errors.Iallgather(np.array([error], np.int64), everyone)
        return everyone.tolist() if faults.completes(request.Test, limit) else None

    def _finish(self, request: Any, call: str, buffer: Any = None) -> None:
        """Wait for a call that was begun."""
        self._latest = request  # keeps its buffers, whatever is raised here
        self.until(request.Test, call, buffer)

    def until(self, done: Callable[[], Any], call: str, buffer: Any = None) -> None:
        """Wait until done(), which needs the other ranks; end every rank where it takes longer than it may."""
        self.calls += 1
        limit, early = self.patience.limit(), self.patience.seconds / 2
        if not faults.completes(done, early):
            self._roll_call.here(self.calls)
            if not faults.completes(done, limit - early + self._turn):
                return self._give_up(limit, call, buffer)
        return self.patience.met()

    def _give_up(self, limit: float, call: str, buffer: Any) -> None:
        what = call if buffer is None else f"{call} of {buffer.size} numbers ({buffer.dtype})"
        absent = self._roll_call.absent(self.calls)
        whom = faults.ranks_in_words(absent) if absent else "the others"
        faults.say(
            f"rank {self.rank} of {self.size} has waited {limit:.3g} s for {whom} in {what}, its call number {self.calls}; "
            f"{'it hangs or is' if len(absent) == 1 else 'they hang or are'} much slower. Every rank ends. "
            f"{faults.LIMIT}=seconds allows more"
        )
        self.abort(1)

    @contextmanager
    def _reachable(self, vector: Any) -> Iterator[Any]:
        """The vector where MPI can read and write it; what is written there comes back."""
        if isinstance(vector, np.ndarray):
            yield vector
            return
        cupy = load_cupy()
        with vector.device:
            if self.cuda_aware:
                cupy.cuda.get_current_stream().synchronize()  # MPI knows nothing of streams
                yield vector
                return
            host = self._staging(cupy, vector)
            vector.get(out=host)  # waits for the current stream
            yield host
            vector.set(host)

    def _staging(self, cupy: Any, vector: Any) -> np.ndarray:
        """Pinned memory as long as the vector, kept for the next one: pinning takes longer than copying."""
        kept = self._pinned.get(vector.dtype.str)
        if kept is None or kept.size < vector.size:
            memory = cupy.cuda.alloc_pinned_memory(vector.nbytes)
            kept = self._pinned[vector.dtype.str] = np.frombuffer(memory, vector.dtype, vector.size)
        return kept[: vector.size]

    def _type_of(self, buffer: Any) -> Any:
        return self._mpi.Datatype.fromcode(np.dtype(buffer.dtype).char)

    def _library(self) -> str:
        return " ".join(self._mpi.Get_library_version().replace("\x00", "").split()[:3]).rstrip(",:")


def _lengths(bounds: Sequence[int]) -> list[int]:
    return [stop - start for start, stop in pairwise(bounds)]
