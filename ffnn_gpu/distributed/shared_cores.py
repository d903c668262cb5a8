"""Share the cores of a machine among its ranks, unless the number of threads is set.

Why: otherwise every rank starts a thread on every core, in its BLAS and in this package, and they wait for
each other. Measured: `train digits` with 4 ranks on 2 cores, without llvmlite: 59 s before, 9 s with one
share of the cores per rank.
"""

import os
from typing import Any

import numpy as np

from ffnn_gpu.backends import cores

MAX_CORES = 8192  # the most that Linux supports


def cores_of_rank(local: Any, in_place: Any) -> int:
    """Return the number of cores for this rank, at least 1.

        min(Σ 1/ranks over the cores it may run on, CPU quota of the machine / ranks)

    Args:
        local: MPI's communicator of the ranks of this machine.
        in_place: MPI.IN_PLACE.
    """
    mine, ranks = sorted(cores.allowed()), np.zeros(MAX_CORES, np.int64)
    ranks[mine] = 1
    local.Allreduce(in_place, ranks)
    granted = cores.cpu_quota(cores.CONTROL_GROUPS, cores.OWN) / local.Get_size()
    return max(1, int(min((1 / ranks[mine]).sum(), granted) + 1e-6))


def share_machine(ranks: int) -> None:
    """Record the number of ranks on this machine; the database of a table takes 1/ranks of its memory."""
    os.environ[cores.LOCAL_RANKS] = str(ranks)


def limit_threads(threads: int) -> str:
    """Limit this process to `threads` threads, unless the environment sets a number.

    Returns:
        A one-line message about the change, "" without one.
    """
    if threads >= cores.cores() or os.environ.get(cores.THREADS, "").strip() or cores.environment_threads():
        return ""
    os.environ[cores.THREADS] = str(threads)
    message = f"each rank computes with {threads} of {cores.cores()} cores, because ranks share them"
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        remedy = f"pip install threadpoolctl, or set OPENBLAS_NUM_THREADS={threads}"
        return f"{message}; NumPy's products still use all cores: {remedy}"
    threadpool_limits(threads, user_api="blas")
    return f"{message}; set FFNN_GPU_THREADS and OPENBLAS_NUM_THREADS to change this"
