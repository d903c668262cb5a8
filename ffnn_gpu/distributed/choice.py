"""Which communicator this process gets, and which device: by what started it and what is there.

Why the environment is asked before MPI: importing mpi4py starts MPI, which on some clusters ends a process that no mpiexec
started, and costs every other process a tenth of a second.
"""

import logging
import os
import socket
import zlib

import numpy as np

from ffnn_gpu.backends.choice import ENVIRONMENT, SYNONYMS, probe
from ffnn_gpu.backends.cuda.cupy_backend import load_cupy
from ffnn_gpu.distributed import faults
from ffnn_gpu.distributed.communicator import Communicator, Single
from ffnn_gpu.distributed.mpi import MPI
from ffnn_gpu.distributed.nccl import NCCL, load_nccl
from ffnn_gpu.distributed.shared_cores import compute_with
from ffnn_gpu.errors import BackendUnavailableError, ConfigurationError

log = logging.getLogger("ffnn_gpu")
DEVICES = ("auto", "numpy", "cupy")

# Set by MPICH's and Intel's mpiexec and by srun --mpi=pmi2; by Open MPI's; by MVAPICH's; by srun for the tasks of a step.
# SLURM_NTASKS is no sign: a batch script, which is one process, has it too.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def launched() -> tuple[int, str]:
    """How many processes were started together with this one, and which variable of the environment says so."""
    for name in SIZES:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name]), name
    return 1, ""


def communicator(device: str = "auto", limit: float | None = None) -> Communicator:
    """The communicator of this process, chosen by what is there, with the `device` its network should compute on.

    One process: Single. Under mpiexec or srun: MPI; and NCCL where every rank has a GPU of its own. From then on an
    exception that nobody catches ends every rank.

    Args:
        device: "auto", which FFNN_GPU_BACKEND may say more of, "numpy" or "cupy". Ranks of one machine get its GPUs in turn.
        limit: seconds to wait for other ranks in a call, besides what this rank took itself since its last; None for what
            FFNN_GPU_PARALLEL_LIMIT says, else 20.

    Raises:
        ConfigurationError: several processes were started and MPI cannot be used, or sees one process.
        BackendUnavailableError: "cupy" was asked for and a rank has no usable GPU.
    """
    if device not in DEVICES:
        raise ConfigurationError(f"device of a communicator is 'auto', 'numpy' or 'cupy', not {device!r}")
    size, variable = launched()
    if size == 1:
        return Single(device, "one process")
    found: Communicator = _of_several(_meant(device), MPI("numpy", limit), size, variable)
    if found.rank == 0:
        log.info("%s", found.reason)
    return found


def communicator_for(backend: str) -> Communicator:
    """`communicator` for a backend by any name that `get_backend` takes; the number of a GPU counts in one process only."""
    return Single(backend, "one process") if launched()[0] == 1 else communicator(_family(backend))


def _meant(device: str) -> str:
    """What "auto" means where FFNN_GPU_BACKEND says it, without the number of a GPU, because ranks have several."""
    asked = _family(os.environ.get(ENVIRONMENT, ""))
    return asked if device == "auto" and asked in DEVICES else device


def _family(backend: str) -> str:
    family = backend.strip().lower().partition(":")[0]
    return SYNONYMS.get(family, family)


def _of_several(device: str, mpi: MPI, size: int, variable: str) -> Communicator:
    if mpi.size == 1:
        raise ConfigurationError(
            f"{variable} says that {size} processes were started, but MPI sees one: mpi4py uses "
            "another MPI than the one that started it, or srun lacks --mpi=pmix"
        )
    faults.watch(mpi)
    said = compute_with(mpi.cores)
    if said and mpi.rank == 0:
        log.info("%s", said)
    index = None if device == "numpy" else _gpu(mpi.local_rank)
    without = np.zeros(mpi.size, np.int64)
    without[mpi.rank] = index is None
    mpi.all_reduce(without)
    if without.any():
        if device == "cupy":
            raise BackendUnavailableError(_lacking(np.flatnonzero(without).tolist(), index is None))
        return mpi
    assert index is not None
    mpi.device = f"cupy:{index}"
    if not _all_different(mpi, _identity(index)) or not _nccl_works(mpi):
        return mpi
    return NCCL(mpi, index)


def _lacking(ranks: list[int], here: bool) -> str:
    """Which ranks have no GPU, and on those of them why; the same on all of these, which then say it once."""
    found = f"not every rank has a GPU: {faults.ranks_in_words(ranks)} {'has' if len(ranks) == 1 else 'have'} none"
    return f"{found}; {probe(0).reason}. Hint: {probe(0).hint}" if here else found


def _gpu(local_rank: int) -> int | None:
    """The GPU that this rank computes on, None where there is none to use."""
    if not probe(0).usable:
        return None
    index = local_rank % int(load_cupy().cuda.runtime.getDeviceCount())
    return index if probe(index).usable else None


def _identity(index: int) -> int:
    """A number that no other GPU has, on this machine or another."""
    return zlib.crc32(f"{socket.gethostname()} {load_cupy().cuda.Device(index).pci_bus_id}".encode())


def _all_different(mpi: MPI, identity: int) -> bool:
    everyone = np.zeros(mpi.size, np.int64)
    everyone[mpi.rank] = identity
    mpi.all_reduce(everyone)
    return len({*everyone.tolist()}) == mpi.size


def _nccl_works(mpi: MPI) -> bool:
    """Whether every rank can import NCCL; says on the log what to install where one cannot."""
    works = np.array([load_nccl().available], np.int64)
    mpi.all_reduce(works, "min")
    if not works[0]:
        log.warning(
            "NCCL is not installed on every rank, so gradients go through the host: "
            'pip install "ffnn_gpu[nccl-cuda12x]" or [nccl-cuda13x]'
        )
    return bool(works[0])
