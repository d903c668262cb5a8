"""Ranks that communicate through MPI: mpi4py's buffer calls send the bytes of an array without conversion.

A GPU's vectors are copied through pinned host memory, unless MPI reports that it reads GPU memory
(`mpi_memory_alloc_kinds` of MPI-4.1, section 12.4.3).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from ffnn_gpu.backends import load_cupy
from ffnn_gpu.distributed import faults
from ffnn_gpu.distributed.communicator import Vector
from ffnn_gpu.distributed.roll_call import RollCall
from ffnn_gpu.distributed.shared_cores import cores_of_rank
from ffnn_gpu.errors import ConfigurationError

# Seconds: each rank waits TURN longer than the rank before it, at most LAST_TURN, so that one rank prints the
# error that all find.
TURN, LAST_TURN = 0.2, 2.0


def load_mpi() -> Any:
    """Import mpi4py.MPI, which starts MPI. Raises ConfigurationError if mpi4py or MPI is missing."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # mpi4py without an MPI library raises RuntimeError
        raise ConfigurationError(
            f"this process is one of several, but MPI cannot be used ({error}): "
            'pip install "ffnn_gpu[mpi]", and MPI itself, from the cluster\'s modules or by pip install mpich'
        ) from error
    return MPI


class MPI:
    """The communicator of all processes that one mpiexec or srun started.

    Args:
        device: the backend of this rank.
        limit: seconds to wait for other ranks, see `faults.CallLimit`.
    """

    def __init__(self, device: str = "numpy", limit: float | None = None) -> None:
        self.call_limit = faults.CallLimit(limit)
        with faults.ends_within(self.call_limit.now()):  # none of these calls has a time limit
            self._mpi = load_mpi()
            world = self._mpi.COMM_WORLD
            # Why communicators of our own: messages of the surrounding program cannot be mixed with ours, and
            # an unfinished call cannot be mixed with messages about errors.
            self._comm, self._errors, waiting = world.Dup(), world.Dup(), world.Dup()
            local = world.Split_type(self._mpi.COMM_TYPE_SHARED)
            self.local_rank, self.cores = local.Get_rank(), cores_of_rank(local, self._mpi.IN_PLACE)
            self.local_ranks = local.Get_size()
            local.Free()
        self.rank, self.size, self.device, self.calls = world.Get_rank(), world.Get_size(), device, 0
        self.call_limit.call_ended()
        self._turn, self._roll_call = min(TURN * self.rank, LAST_TURN), RollCall(waiting)
        self._operations = {"sum": self._mpi.SUM, "min": self._mpi.MIN, "max": self._mpi.MAX}
        self._pinned: dict[str, np.ndarray] = {}
        self._request: Any = None
        self.cuda_aware = "cuda" in ((self._comm.Get_info().get("mpi_memory_alloc_kinds")) or "")
        version = " ".join(self._mpi.Get_library_version().replace("\x00", "").split()[:3]).rstrip(",:")
        self.reason = f"MPI between {self.size} processes ({version})"

    def all_reduce(self, vector: Vector, op: str = "sum") -> None:
        with self._readable(vector) as buffer:
            request = self._comm.Iallreduce(self._mpi.IN_PLACE, buffer, op=self._operations[op])
            self._finish(request, "all_reduce", buffer)

    def reduce_scatter(self, vector: Vector, bounds: Sequence[int]) -> None:
        with self._readable(vector) as buffer:
            mine = slice(bounds[self.rank], bounds[self.rank + 1])
            piece = buffer[mine].copy()
            request = self._comm.Ireduce_scatter(buffer, piece, _lengths(bounds))
            self._finish(request, "reduce_scatter", buffer)
            buffer[mine] = piece

    def all_gather(self, vector: Vector, bounds: Sequence[int]) -> None:
        with self._readable(vector) as buffer:
            kind = self._mpi.Datatype.fromcode(np.dtype(buffer.dtype).char)
            pieces = [buffer, _lengths(bounds), list(bounds[:-1]), kind]
            self._finish(self._comm.Iallgatherv(self._mpi.IN_PLACE, pieces), "all_gather", buffer)

    def broadcast(self, vector: Vector, root: int = 0) -> None:
        with self._readable(vector) as buffer:
            self._finish(self._comm.Ibcast(buffer, root), "broadcast", buffer)

    def barrier(self) -> None:
        self._finish(self._comm.Ibarrier(), "barrier")

    def wait(self) -> None: ...

    def abort(self, status: int = 1) -> None:
        self._comm.Abort(status)

    def close(self) -> None:
        """End MPI in this process.

        Why: otherwise `python -m mpi4py` aborts all ranks when one ends with a non-zero status.
        """
        self._roll_call.close()
        self._mpi.Finalize()

    def gather_errors(self, error: int, limit: float) -> list[int] | None:
        everyone = np.zeros(self.size, np.int64)
        request = self._errors.Iallgather(np.array([error], np.int64), everyone)
        return everyone.tolist() if faults.completes(request.Test, limit) else None

    def _finish(self, request: Any, call: str, buffer: Vector = None) -> None:
        """Wait for a call that was started."""
        self._request = request  # keeps its buffers alive even if an exception is raised here
        self.wait_until(request.Test, call, buffer)

    def wait_until(self, done: Callable[[], object], call: str, buffer: Vector = None) -> None:
        """Wait until done(), which depends on the other ranks; after the time limit end every rank."""
        self.calls += 1
        limit, early = self.call_limit.now(), self.call_limit.seconds / 2
        if not faults.completes(done, early):
            self._roll_call.report(self.calls)
            if not faults.completes(done, limit - early + self._turn):
                return self._give_up(limit, call, buffer)
        return self.call_limit.call_ended()

    def _give_up(self, limit: float, call: str, buffer: Vector) -> None:
        """Print which ranks are absent, and abort every rank."""
        what = call if buffer is None else f"{call} of {buffer.size} numbers ({buffer.dtype})"
        absent = self._roll_call.absent(self.calls)
        names = faults.ranks_in_words(absent) if absent else "the others"
        hang = "it hangs or is" if len(absent) == 1 else "they hang or are"
        faults.print_line(
            f"rank {self.rank} of {self.size} has waited {limit:.3g} s for {names} in {what}, its call "
            f"number {self.calls}; {hang} much slower. Every rank ends. Set {faults.LIMIT} to wait longer"
        )
        self.abort(1)

    @contextmanager
    def _readable(self, vector: Vector) -> Iterator[Vector]:
        """Yield a buffer that MPI can read and write; for a GPU's vector, copy it to the host and back."""
        if isinstance(vector, np.ndarray):
            yield vector
            return
        cupy = load_cupy()
        with vector.device:
            if self.cuda_aware:
                cupy.cuda.get_current_stream().synchronize()  # MPI does not wait for streams
                yield vector
                return
            host = self._staging(cupy, vector)
            vector.get(out=host)  # waits for the current stream
            yield host
            vector.set(host)

    def _staging(self, cupy: Any, vector: Vector) -> np.ndarray:
        """Return pinned memory of the vector's length, cached because pinning takes longer than copying."""
        pinned = self._pinned.get(vector.dtype.str)
        if pinned is None or pinned.size < vector.size:
            memory = cupy.cuda.alloc_pinned_memory(vector.nbytes)
            pinned = self._pinned[vector.dtype.str] = np.frombuffer(memory, vector.dtype, vector.size)
        return pinned[: vector.size]


def _lengths(bounds: Sequence[int]) -> list[int]:
    return [stop - start for start, stop in pairwise(bounds)]
