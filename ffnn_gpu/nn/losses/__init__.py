"""Losses with their gradients: the contract (`loss`), pointwise losses (`standard`), `cross_entropy`, and `targets`."""

from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.losses.standard import (
    PointwiseLoss,
    SoftmaxCrossEntropy,
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
