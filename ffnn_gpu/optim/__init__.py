"""θ ← rule(θ, ∇θ): optimizers, and schedules of the learning rate."""

from ffnn_gpu.optim import schedules
from ffnn_gpu.optim.optimizers import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Lion,
    Nadam,
    Optimizer,
    RMSprop,
    get_optimizer,
)

__all__ = [
    "SGD", "Adagrad", "Adam", "AdamW", "Lion", "Nadam", "Optimizer", "RMSprop", "get_optimizer", "schedules",
]  # fmt: skip
