"""θ ← rule(θ, ∇θ).

optimizers   settings of each optimizer, penalties, clipping, moving average; the rules are in the backends
muon         the optimizer that updates whole matrices
choice       optimizers by name

The schedules of the learning rate are in nn/schedules.py.
"""

from ffnn_gpu.nn import schedules
from ffnn_gpu.nn.rates import Rate
from ffnn_gpu.optim.choice import get_optimizer
from ffnn_gpu.optim.muon import Muon
from ffnn_gpu.optim.optimizers import SGD, Adagrad, Adam, AdamW, Lion, Nadam, Optimizer, RMSprop

__all__ = [
    "SGD", "Adagrad", "Adam", "AdamW", "Lion", "Muon", "Nadam", "Optimizer", "RMSprop", "Rate",
    "get_optimizer", "schedules",
]  # fmt: skip
