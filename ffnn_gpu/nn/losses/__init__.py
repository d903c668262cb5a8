"""Losses with their gradients.

loss             the contract, and the cross-entropies over classes
standard         elementwise formulas, and every loss by its name
mean_over_rows   weights that are not normalized in each minibatch
members          losses of a pack of networks
"""

from ffnn_gpu.nn.losses.loss import Loss, SoftmaxCrossEntropy
from ffnn_gpu.nn.losses.mean_over_rows import MeanOverRows
from ffnn_gpu.nn.losses.standard import (
    PointwiseLoss,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    get_loss,
    hinge,
    huber,
    mean_absolute_error,
    mean_squared_error,
    poisson,
    softmax_cross_entropy,
)

__all__ = [
    "Loss", "MeanOverRows", "PointwiseLoss", "SoftmaxCrossEntropy",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "get_loss", "hinge", "huber",
    "mean_absolute_error", "mean_squared_error", "poisson", "softmax_cross_entropy",
]  # fmt: skip
