"""θ ← rule(θ, ∇θ).

optimizers   settings of each optimizer, penalties, clipping, moving average; the rules are in the backends

The schedules of the learning rate are in nn/schedules.py.
"""

from ffnn_gpu.nn import schedules
from ffnn_gpu.nn.rates import Rate
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
