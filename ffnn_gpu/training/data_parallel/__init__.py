"""A training run shared by ranks: each rank computes its rows of every batch, and the gradients are summed.

team              the ranks that train together, and what they agree on
batch_norm        statistics over the rows of all ranks
optimizer_shard   1/n of θ and of the optimizer's vectors on each of n ranks
"""

from ffnn_gpu.training.data_parallel.team import DataParallel

__all__ = ["DataParallel"]
