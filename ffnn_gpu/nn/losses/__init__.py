"""Losses with their gradients: the contract and the cross-entropies (`loss`), elementwise formulas (`standard`)."""

from ffnn_gpu.nn.losses.loss import Loss, SoftmaxCrossEntropy
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
    "Loss", "PointwiseLoss", "SoftmaxCrossEntropy", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "cross_entropy", "get_loss", "hinge", "huber", "mean_absolute_error", "mean_squared_error", "poisson", "softmax_cross_entropy",
]  # fmt: skip
