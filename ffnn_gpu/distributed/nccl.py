"""Ranks with one GPU each: vectors on the device are sent by NCCL, vectors on the host by MPI.

NCCL's calls are kernels on the current stream, so a CUDA graph can contain them and the host does not wait.
If another rank is gone, a call never ends; `wait` detects this.
"""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ffnn_gpu.backends import load_cupy
from ffnn_gpu.distributed import faults
from ffnn_gpu.distributed.communicator import Vector
from ffnn_gpu.distributed.mpi import MPI

UNIQUE_ID_BYTES = 128


def load_nccl() -> Any:
    """Return the module cupy.cuda.nccl, which `import cupy` omits; `available` is False without libnccl."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy warns if libnccl is missing; the caller logs what to install
        from cupy.cuda import nccl
    return nccl


class NCCL:
    """The communicator of ranks with one GPU each.

    Args:
        host: communicator of the same ranks for host vectors.
        index: number of this rank's GPU; no other rank uses this GPU.

    Reference: NVIDIA, NCCL User Guide, "Creating a communicator"; cupy.cuda.nccl.
    """

    def __init__(self, host: MPI, index: int) -> None:
        self.host, self.rank, self.size, self.local_rank = host, host.rank, host.size, host.local_rank
        self.device, self._cupy = f"cupy:{index}", load_cupy()
        self._nccl = load_nccl()
        identity = np.zeros(UNIQUE_ID_BYTES, np.uint8)
        if self.rank == 0:
            identity[:] = np.frombuffer(self._nccl.get_unique_id(), np.uint8)
        host.broadcast(identity)
        self._gpu = self._cupy.cuda.Device(index)
        with self._gpu, faults.ends_within(host.call_limit.now()):
            self._comm = self._nccl.NcclCommunicator(self.size, identity.tobytes(), self.rank)
        self.reason = f"NCCL {self._nccl.get_version()} between {self.size} GPUs, {host.reason} for the host"

    def all_reduce(self, vector: Vector, op: str = "sum") -> None:
        if isinstance(vector, np.ndarray):
            return self.host.all_reduce(vector, op)
        here = vector.data.ptr
        with vector.device:
            kind = self._constant(vector.dtype.name)
            self._comm.allReduce(here, here, vector.size, kind, self._constant(op), self._stream())
        return None

    def reduce_scatter(self, vector: Vector, bounds: Sequence[int]) -> None:
        if isinstance(vector, np.ndarray):
            return self.host.reduce_scatter(vector, bounds)
        kind, add = self._constant(vector.dtype.name), self._constant("sum")
        with vector.device:
            stream, pieces = self._stream(), _pieces(vector, bounds)
            if _even(pieces):
                self._comm.reduceScatter(vector.data.ptr, *pieces[self.rank], kind, add, stream)
                return None
            self._nccl.groupStart()  # one launch for all pieces
            for owner, (place, length) in enumerate(pieces):
                self._comm.reduce(place, place, length, kind, add, owner, stream)
            self._nccl.groupEnd()
        return None

    def all_gather(self, vector: Vector, bounds: Sequence[int]) -> None:
        if isinstance(vector, np.ndarray):
            return self.host.all_gather(vector, bounds)
        kind = self._constant(vector.dtype.name)
        with vector.device:
            stream, pieces = self._stream(), _pieces(vector, bounds)
            if _even(pieces):
                place, length = pieces[self.rank]
                self._comm.allGather(place, vector.data.ptr, length, kind, stream)
                return None
            self._nccl.groupStart()
            for owner, (place, length) in enumerate(pieces):
                self._comm.broadcast(place, place, length, kind, owner, stream)
            self._nccl.groupEnd()
        return None

    def broadcast(self, vector: Vector, root: int = 0) -> None:
        if isinstance(vector, np.ndarray):
            return self.host.broadcast(vector, root)
        here = vector.data.ptr
        with vector.device:
            kind = self._constant(vector.dtype.name)
            self._comm.broadcast(here, here, vector.size, kind, root, self._stream())
        return None

    def barrier(self) -> None:
        self.wait()
        self.host.barrier()

    def wait(self) -> None:
        """Wait for this rank's GPU, at most for the time limit of a call."""
        with self._gpu:
            event = self._cupy.cuda.Event(disable_timing=True)
            event.record()
            work = f"the work of {self.device}, probably an NCCL call that not every rank made"
            self.host.wait_until(lambda: event.done, work)

    def abort(self, status: int = 1) -> None:
        self.host.abort(status)

    def close(self) -> None:
        self.host.close()

    def gather_errors(self, error: int, limit: float) -> list[int] | None:
        return self.host.gather_errors(error, limit)

    def _stream(self) -> int:
        return int(self._cupy.cuda.get_current_stream().ptr)

    def _constant(self, name: str) -> int:
        """Return NCCL's number of a type or an operation, such as NCCL_FLOAT32 or NCCL_SUM."""
        return int(getattr(self._nccl, f"NCCL_{name.upper()}"))


def _pieces(vector: Vector, bounds: Sequence[int]) -> list[tuple[int, int]]:
    """Return (address, length) of each rank's piece."""
    start, step = vector.data.ptr, vector.dtype.itemsize
    return [(start + step * first, last - first) for first, last in pairwise(bounds)]


def _even(pieces: list[tuple[int, int]]) -> bool:
    """Return whether all pieces have the same length, as reduceScatter and allGather require."""
    return len({length for _, length in pieces}) == 1
