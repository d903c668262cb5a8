"""θ ← rule(θ, ∇θ), and its learning rate.

optimizers   settings of each optimizer, penalties, clipping, moving average; the rules are in the backends
schedules    the learning rate as a function of the step
"""

from ffnn_gpu.nn.rates import Rate
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
    "SGD", "Adagrad", "Adam", "AdamW", "Lion", "Nadam", "Optimizer", "RMSprop", "Rate", "get_optimizer",
    "schedules",
]  # fmt: skip
