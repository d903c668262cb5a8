"""Processes that talk, over MPI on CPUs and over NCCL on GPUs, and what happens when one of them fails.

    from ffnn_gpu.distributed import communicator

    ranks = communicator()                               # under mpiexec or srun; else one process
    net = Network(64, layers, backend=ranks.device)
    fit(net, loss, Adam(1e-3), (X, y), batch_size=1024, communicator=ranks)

    communicator, mpi, nccl, choice    how ranks talk, and which way is chosen
    faults, roll_call, agreement       what happens when a rank fails, hangs or differs from the others
    rank_zero, shared_cores            what rank 0 does for all; how many cores each rank of a machine uses

What `fit` does with them is in `training/data_parallel/`.
"""

from ffnn_gpu.distributed.choice import communicator, communicator_for, launched
from ffnn_gpu.distributed.communicator import Communicator, Single
from ffnn_gpu.distributed.mpi import MPI
from ffnn_gpu.distributed.nccl import NCCL

__all__ = ["MPI", "NCCL", "Communicator", "Single", "communicator", "communicator_for", "launched"]
