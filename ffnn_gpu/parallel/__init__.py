"""Data-parallel training: ranks that train one network together, over MPI on CPUs and over NCCL on GPUs.

    from ffnn_gpu.parallel import communicator

    ranks = communicator()                               # under mpiexec or srun; else one process
    net = Network(64, layers, backend=ranks.device)
    fit(net, loss, Adam(1e-3), (X, y), batch_size=1024, communicator=ranks)

    communicator, mpi, nccl, choice    how ranks talk, and which way is chosen
    faults, roll_call, agreement       what happens when a rank fails, hangs or differs from the others
    first, log_file                    what rank 0 does for all; what every rank can write down for itself
    team, step, global_batch, shard    what `fit` does with them: parts of batches, BatchNorm, 1/n of the optimizer
"""

from ffnn_gpu.parallel.choice import communicator, communicator_for, launched
from ffnn_gpu.parallel.communicator import Communicator, Single
from ffnn_gpu.parallel.mpi import MPI
from ffnn_gpu.parallel.nccl import NCCL
from ffnn_gpu.parallel.team import DataParallel

__all__ = [
    "MPI", "NCCL", "Communicator", "DataParallel", "Single", "communicator", "communicator_for", "launched",
]  # fmt: skip
