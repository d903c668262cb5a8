"""Communication between processes, over MPI on CPUs and over NCCL on GPUs, and handling of failed ranks.

    from ffnn_gpu.distributed import communicator

    ranks = communicator()                               # under mpiexec or srun; else one process
    net = Network(64, layers, device=ranks.device)
    fit(net, loss, Adam(1e-3), (X, y), batch_size=1024, communicator=ranks)

    communicator, mpi, nccl, choice    the calls, their two implementations, and which one is chosen
    faults, roll_call, agreement       what happens when a rank fails, hangs or differs from the others
    rank_zero, sharing, shared_cores   work that rank 0 does for all; its texts and arrays; cores of ranks

`training/data_parallel/` contains what `fit` does with several ranks.
"""

from ffnn_gpu.distributed.choice import communicator, communicator_for, launched
from ffnn_gpu.distributed.communicator import Communicator, Single
from ffnn_gpu.distributed.mpi import MPI
from ffnn_gpu.distributed.nccl import NCCL

__all__ = ["MPI", "NCCL", "Communicator", "Single", "communicator", "communicator_for", "launched"]
