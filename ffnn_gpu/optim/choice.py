"""The optimizers by name."""

from dataclasses import fields, replace
from typing import Any

from ffnn_gpu.checks import look_up
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.optim.muon import Muon
from ffnn_gpu.optim.optimizers import SGD, Adagrad, Adam, AdamW, Lion, Nadam, Optimizer, RMSprop

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD, "rmsprop": RMSprop, "adagrad": Adagrad, "adam": Adam, "adamw": AdamW, "nadam": Nadam,
    "lion": Lion, "muon": Muon,
}  # fmt: skip


def get_optimizer(name: str | Optimizer, **settings: Any) -> Optimizer:
    """Return the optimizer of this name with these settings, or an Optimizer with them replaced."""
    if isinstance(name, Optimizer):
        return replace(name, **settings) if settings else name
    kind = look_up("optimizer", name, OPTIMIZERS, "Adam(lr=1e-3)")
    known = [entry.name for entry in fields(kind)]
    unknown = next((key for key in settings if key not in known), None)
    if unknown is not None:
        raise ConfigurationError(f"{kind.__name__} has no setting {unknown!r}; it has {', '.join(known)}")
    return kind(**settings)
