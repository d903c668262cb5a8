"""Fakes of CuPy, NCCL and mpi4py that log their calls, without a GPU and without MPI."""

# ruff: noqa: N802 -- the names are those of mpi4py

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np


class Vector:
    """A device vector with its numbers in `host` and an invented address."""

    def __init__(self, cupy, values, dtype="float32", address=4096):
        self.host = np.array(values, dtype)
        self.cupy, self.dtype = cupy, self.host.dtype
        self.size, self.nbytes = self.host.size, self.host.nbytes
        self.data, self.device = SimpleNamespace(ptr=address), cupy.cuda.Device(0)

    def get(self, out):
        self.cupy.log.append(("get", len(out)))
        out[...] = self.host

    def set(self, host):
        self.cupy.log.append(("set", len(host)))
        self.host[...] = host


class FakeCupy:
    """The module cupy; every call is appended to `log`."""

    def __init__(self, finished=True):
        self.log = log = []

        class Device:
            def __init__(self, index):
                self.id, self.pci_bus_id = index, f"0000:0{index}:00.0"

            def __enter__(self):
                log.append(("device", self.id))

            def __exit__(self, *error): ...

        class Event:
            done = finished

            def __init__(self, disable_timing): ...
            def record(self):
                log.append(("record",))

        class NcclCommunicator:
            def __init__(self, size, identity, rank):
                log.append(("NcclCommunicator", size, len(identity), identity[:3], rank))

            def __getattr__(self, name):
                return lambda *args: log.append((name, *args))

        self.nccl = SimpleNamespace(
            available=True,
            NcclCommunicator=NcclCommunicator,
            get_version=lambda: 22707,
            get_unique_id=lambda: bytes(range(128)),
            groupStart=lambda: log.append(("groupStart",)),
            groupEnd=lambda: log.append(("groupEnd",)),
            NCCL_FLOAT16=6,
            NCCL_FLOAT32=7,
            NCCL_FLOAT64=8,
            NCCL_INT32=2,
            NCCL_INT64=4,
            NCCL_UINT64=5,
            NCCL_UINT8=1,
            NCCL_SUM=0,
            NCCL_MAX=2,
            NCCL_MIN=3,
        )
        stream = SimpleNamespace(ptr=77, synchronize=lambda: log.append(("synchronize",)))
        self.cuda = SimpleNamespace(
            Device=Device,
            Event=Event,
            get_current_stream=lambda: stream,
            alloc_pinned_memory=self._pinned,
            runtime=SimpleNamespace(getDeviceCount=lambda: 2),
        )

    def _pinned(self, size):
        self.log.append(("pinned", size))
        return bytearray(size)


class Done:
    """A request that is finished after `polls` tests."""

    def __init__(self, polls=2):
        self.polls = polls

    def Test(self):
        self.polls -= 1
        return self.polls <= 0


class FakeComm:
    """An MPI communicator of `size` ranks with equal data."""

    def __init__(self, rank=0, size=2, kinds=None, polls=2, waiting=()):
        self.waiting, self.sent = dict(waiting), []  # rank → its call; (to, call)
        self.rank, self.size, self.kinds, self.polls, self.aborted = rank, size, kinds, polls, []

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.size

    def Dup(self):
        return self

    def Split_type(self, kind):
        return self

    def Free(self): ...
    def Allreduce(self, place, ranks):
        ranks *= self.size

    def Get_info(self):
        return {"mpi_memory_alloc_kinds": self.kinds}

    def Abort(self, status):
        self.aborted.append(status)

    def Isend(self, number, rank):
        self.sent.append((rank, int(number[0])))
        return Done(polls=1)

    def Iprobe(self, rank):
        return rank in self.waiting

    def Recv(self, number, rank):
        number[0] = self.waiting.pop(rank)

    def Ibarrier(self):
        return Done(self.polls)

    def Ibcast(self, buffer, root):
        return Done(self.polls)

    def Iallreduce(self, place, buffer, op):
        if op == "SUM":
            (buffer.host if isinstance(buffer, Vector) else buffer)[...] *= self.size
        return Done(self.polls)

    def Iallgather(self, mine, everyone):
        everyone[...] = mine
        return Done(self.polls)

    def Ireduce_scatter(self, buffer, piece, counts):
        assert len(piece) == counts[self.rank]
        piece *= self.size
        return Done(self.polls)

    def Iallgatherv(self, place, pieces):
        buffer, counts, starts, kind = pieces
        assert sum(counts) == len(buffer) and starts[0] == 0 and kind == buffer.dtype.char
        return Done(self.polls)


def fake_mpi(comm):
    """Return a fake of the module mpi4py.MPI."""
    return SimpleNamespace(
        COMM_WORLD=comm,
        Finalize=lambda: None,
        SUM="SUM",
        MIN="MIN",
        MAX="MAX",
        IN_PLACE=None,
        COMM_TYPE_SHARED=1,
        Get_library_version=lambda: "MPICH Version:  5.0.2\n",
        Datatype=SimpleNamespace(fromcode=lambda code: code),
    )


@contextmanager
def installed(monkeypatch, comm=None, cupy=None):
    """Replace MPI and CuPy in ffnn_gpu.distributed by these fakes."""
    from ffnn_gpu.distributed import choice, mpi, nccl

    with monkeypatch.context() as patch:
        if comm is not None:
            patch.setattr(mpi, "load_mpi", lambda: fake_mpi(comm))
        for module in (mpi, nccl, choice) if cupy is not None else ():
            patch.setattr(module, "load_cupy", lambda: cupy)
        for module in (nccl, choice) if cupy is not None else ():
            patch.setattr(module, "load_nccl", lambda: cupy.nccl)
        yield patch
