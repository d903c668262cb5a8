"""A loss divided by the rows of a minibatch instead of the sum of their weights.

Why: a mean over weights is normalized anew in each minibatch. There, a row counts by its weight relative to
the other rows of its minibatch; in minibatches of one row, weights change nothing. Divided by the rows, a row
of weight 2 adds twice its gradient in a minibatch of any size, so over an epoch it counts as two rows.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.losses.standard import get_loss


@dataclass(frozen=True)
class MeanOverRows(Loss):
    """L = (1/B) Σ_b w_b ℓ_b, where `loss` alone is Σ_b w_b ℓ_b / Σ_b w_b        as Keras

    With class weights, w_b includes the weight of the row's class. Weights of mean 1 over the training set
    leave the size of the gradient as it is: "balanced" class weights have it, others need division by their
    mean.

    Args:
        loss: a loss, or its name.
    """

    counts_rows: ClassVar[bool] = True
    reads_values: ClassVar[bool] = True
    loss: Loss | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", get_loss(self.loss))

    @property
    def of_weights(self) -> Loss:
        """The loss that is a mean over weights."""
        return get_loss(self.loss)

    def value_and_gradient(
        self, backend: Backend, z: Array, y: Array, dz: Array | None, sample_weight: Array | None
    ) -> Array:
        value = self.of_weights.value_and_gradient(backend, z, y, dz, sample_weight)
        N, B = self.of_weights.total_weight(backend, y, sample_weight), len(z)
        if B == 0 or (isinstance(N, int) and N == B):
            return value  # no rows, as on a rank beyond the rows of a minibatch, or no weights
        factor = backend.constant((N / B,), np.float64) if isinstance(N, int) else (N / B).reshape(1)
        if dz is not None:
            backend.scaled(dz, factor, out=dz)  # ∂L/∂z = (Σ w / B) ∂(Σ w ℓ / Σ w)/∂z
        return (value * factor[0]).astype(value.dtype)

    def total_weight(self, backend: Backend, y: Array, sample_weight: Array | None) -> Any:
        return len(y)

    def targets(self, y: Any, O: int, dtype: Any) -> HostArray:
        return self.of_weights.targets(y, O, dtype)

    def device_targets(self, backend: Backend, y: Array, O: int, dtype: Any) -> Array:
        return self.of_weights.device_targets(backend, y, O, dtype)

    def decide(self, z: HostArray) -> HostArray:
        return self.of_weights.decide(z)

    def probabilities(self, z: HostArray) -> HostArray:
        return self.of_weights.probabilities(z)
