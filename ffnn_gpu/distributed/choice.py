"""Choose the communicator and the device of this process from how it was started and what is installed.

Why the environment is read before MPI is imported: importing mpi4py starts MPI. On some clusters this ends a
process that mpiexec did not start, and it costs any other process 0.1 s.
"""

import logging
import os
import platform
import zlib

import numpy as np

from ffnn_gpu.backends import SYNONYMS, from_environment, load_cupy, probe
from ffnn_gpu.distributed import faults
from ffnn_gpu.distributed.communicator import Communicator, Single, gather
from ffnn_gpu.distributed.mpi import MPI
from ffnn_gpu.distributed.nccl import NCCL, load_nccl
from ffnn_gpu.distributed.shared_cores import limit_threads, share_machine
from ffnn_gpu.errors import BackendUnavailableError, ConfigurationError

log = logging.getLogger("ffnn_gpu")
DEVICES = ("auto", "numpy", "cupy")

# Set by the mpiexec of MPICH and Intel MPI and by srun --mpi=pmi2; by Open MPI; by MVAPICH; by srun for a
# step's tasks. SLURM_NTASKS is not used: a batch script, which is one process, has it too.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def launched() -> tuple[int, str]:
    """Return the number of processes started together, this one included, and the variable that has it."""
    for name in SIZES:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name]), name
    return 1, ""


def communicator(device: str = "auto", limit: float | None = None) -> Communicator:
    """Return the communicator of this process; its `device` is the backend for the network of this rank.

    - One process: Single.
    - Under mpiexec or srun: MPI.
    - Under mpiexec or srun, if every rank has a GPU of its own and NCCL is installed: NCCL.

    With several processes, an uncaught exception in one rank ends every rank from now on.

    Args:
        device: "numpy", "cupy", or "auto", which uses FFNN_GPU_DEVICE if set. Ranks of one machine get its
            GPUs in turn.
        limit: seconds to wait for other ranks in a call, in addition to the time this rank spent since its
            last call; None for FFNN_GPU_PARALLEL_LIMIT, or 20 if that is not set.

    Raises:
        ConfigurationError: several processes were started, and MPI cannot be used or sees only one.
        BackendUnavailableError: device is "cupy" and a rank has no usable GPU.
    """
    if device not in DEVICES:
        raise ConfigurationError(f"device must be 'auto', 'numpy' or 'cupy', not {device!r}")
    size, variable = launched()
    if size == 1:
        return Single(device, "one process")
    found: Communicator = _connect(_requested(device), MPI("numpy", limit), size, variable)
    if found.rank == 0:
        log.info("%s", found.reason)
    return found


def communicator_for(device: str) -> Communicator:
    """Return `communicator` for a device name as in `get_backend`; several ranks ignore a GPU number."""
    return Single(device, "one process") if launched()[0] == 1 else communicator(_family(device))


def _requested(device: str) -> str:
    """Replace "auto" by FFNN_GPU_DEVICE if set, without a GPU number, because ranks use several GPUs."""
    requested = _family(from_environment(os.environ)[0])
    return requested if device == "auto" and requested in DEVICES else device


def _family(device: str) -> str:
    family = device.strip().lower().partition(":")[0]
    return SYNONYMS.get(family, family)


def _connect(device: str, mpi: MPI, size: int, variable: str) -> Communicator:
    """Return MPI, or NCCL over it if every rank has its own GPU and NCCL is installed."""
    if mpi.size == 1:
        raise ConfigurationError(
            f"{variable} is {size}, but MPI sees one process: mpi4py uses another MPI than the launcher, or "
            "srun lacks --mpi=pmix"
        )
    faults.end_all_ranks_on_uncaught(mpi)
    share_machine(mpi.local_ranks)
    message = limit_threads(mpi.cores)
    if message and mpi.rank == 0:
        log.info("%s", message)
    index = None if device == "numpy" else _gpu(mpi.local_rank)
    without = gather(mpi, [index is None])[:, 0]
    if without.any():
        if device == "cupy":
            raise BackendUnavailableError(_missing_gpu(np.flatnonzero(without).tolist(), index is None))
        return mpi
    assert index is not None
    mpi.device = f"cupy:{index}"
    if not _all_different(mpi, _gpu_identity(index)) or not _nccl_works(mpi):
        return mpi
    return NCCL(mpi, index)


def _missing_gpu(ranks: list[int], here: bool) -> str:
    """Return the error message: the ranks without a GPU and, on these ranks, the reason.

    Ranks without a GPU raise equal messages, so these are printed once.
    """
    have = "has" if len(ranks) == 1 else "have"
    message = f"not every rank has a GPU: {faults.ranks_in_words(ranks)} {have} none"
    return f"{message}; {probe(0).reason}. Hint: {probe(0).hint}" if here else message


def _gpu(local_rank: int) -> int | None:
    """Return the number of this rank's GPU, or None if there is no usable one."""
    if not probe(0).usable:
        return None
    index = local_rank % int(load_cupy().cuda.runtime.getDeviceCount())
    return index if probe(index).usable else None


def _gpu_identity(index: int) -> int:
    """Return a checksum that distinguishes this GPU from all others, on this machine and on others."""
    return zlib.crc32(f"{platform.node()} {load_cupy().cuda.Device(index).pci_bus_id}".encode())


def _all_different(mpi: MPI, identity: int) -> bool:
    return len(np.unique(gather(mpi, [identity]))) == int(mpi.size)


def _nccl_works(mpi: MPI) -> bool:
    """Return whether every rank can import NCCL; if one cannot, log what to install."""
    works = np.array([load_nccl().available], np.int64)
    mpi.all_reduce(works, "min")
    if not works[0]:
        log.warning(
            "NCCL is not installed on every rank, so gradients are copied through the host: "
            'pip install "ffnn_gpu[nccl-cuda12x]" or [nccl-cuda13x]'
        )
    return bool(works[0])
