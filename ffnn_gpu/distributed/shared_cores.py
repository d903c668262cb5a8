"""Ranks of one machine share its cores: where nobody says with how many threads a rank computes, it gets its part of them.

Why: every rank would start a thread on every core, in its BLAS and here, and they would wait for each other. `train
digits` on four ranks without Numba and two cores: 59 s, with its part for each 9 (by hand).
"""

import os
from typing import Any

import numpy as np

from ffnn_gpu.backends.cpu.recording import cores

MOST = 8192  # numbers of cores, as many as Linux can be built for


def cores_of_rank(local: Any, in_place: Any) -> int:
    """How many cores this rank has for itself: Σ 1/ranks over those it may run on, and its part of the machine's time.

    local: MPI's communicator of the ranks of this machine.
    """
    mine, ranks = sorted(cores.allowed()), np.zeros(MOST, np.int64)
    ranks[mine] = 1
    local.Allreduce(in_place, ranks)
    granted = cores.granted(cores.CONTROL_GROUPS, cores.OWN) / local.Get_size()
    return max(1, int(min((1 / ranks[mine]).sum(), granted) + 1e-6))


def compute_with(threads: int) -> str:
    """Make this process compute with so many threads, unless the environment says how many; in one line what was done."""
    if threads >= cores.cores() or os.environ.get(cores.OURS, "").strip() or cores.told():
        return ""
    os.environ[cores.OURS] = str(threads)
    said = f"each rank computes with {threads} of {cores.cores()} cores, because others share them"
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return f"{said}; NumPy's products do not: pip install threadpoolctl, or set OPENBLAS_NUM_THREADS={threads}"
    threadpool_limits(threads, user_api="blas")
    return f"{said}; FFNN_GPU_THREADS and OPENBLAS_NUM_THREADS say otherwise"
