"""Validate training data: rows, targets and weights; hold out validation rows, and weight classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.arrays.precision import underflow_is_zero
from ffnn_gpu.arrays.rows import Rows
from ffnn_gpu.backends import Backend
from ffnn_gpu.data.splits import train_test_split
from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError
from ffnn_gpu.nn.losses.loss import Loss, weights
from ffnn_gpu.nn.network import Network

Admit = Callable[[Any], Rows] | None
"""Validates x; None for `network.admit`."""


@dataclass(frozen=True)
class Samples:
    """Rows x (n, d), targets y and weights, validated for one network and loss; on host or device."""

    x: Rows
    y: Array
    weight: Array | None

    def __len__(self) -> int:
        return len(self.x)

    def select(self, backend: Backend, index: HostArray) -> "Samples":
        weight = None if self.weight is None else self.weight[index]
        return Samples(self.x.select(index, backend), self.y[index], weight)

    def on(self, backend: Backend, dtype: Any) -> "Samples":
        """The same rows on the device, for a set that is evaluated repeatedly."""
        weight = None if self.weight is None else backend.asarray(self.weight)
        return Samples(self.x.on(backend, dtype), backend.asarray(self.y), weight)


@underflow_is_zero
def samples(
    network: Network,
    loss: Loss,
    data: Any,
    sample_weight: Any = None,
    what: str = "data",
    admit: Admit = None,
) -> Samples:
    """Validate (x, y) or (x, y, weight): shapes, finite values, labels. Raises ShapeError or DataError."""
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise DataError(f"{what} must be (x, y) or (x, y, sample_weight), not {type(data).__name__}")
    backend = network.backend
    x = (admit or network.admit)(data[0])
    y = loss.targets(backend.to_host(backend.admit(data[1])), network.widths[-1], network.dtype)
    if not len(x):
        raise DataError(f"{what} is empty: x has shape {x.shape}")
    if len(y) != len(x):
        raise ShapeError(f"x has {len(x)} rows and y has {len(y)}")
    if sample_weight is not None and len(data) == 3:
        raise ConfigurationError(f"sample_weight is given twice: as an argument and in {what}")
    weight = sample_weight if len(data) == 2 else data[2]
    if weight is not None:
        checked = weights(backend.to_host(backend.admit(weight)), len(x), network.dtype)
        weight = np.asarray(checked).astype(network.dtype)
        if not weight.any():
            raise DataError(f"all {len(x)} sample weights of {what} are 0")
    return Samples(x, y, weight)


def split(
    network: Network, loss: Loss, whole: Samples, validation: Any, seed: int, admit: Admit = None
) -> tuple[Samples, Samples | None]:
    """(training rows, validation rows). validation: (Xv, yv), the fraction of `whole` to hold out, or None.

    The held-out rows are drawn from the seed, stratified if each row of y is one class for this loss.
    Raises DataError if all weights of a part are 0.
    """
    if validation is None:
        return whole, None
    if not isinstance(validation, Real):
        return whole, samples(network, loss, validation, None, "validation", admit)
    if not 0 < float(validation) < 1:
        raise ConfigurationError(f"validation is {validation}; use (Xv, yv) or a fraction between 0 and 1")
    classes = _strata(loss, whole.y)
    of = len(whole) if classes is None else classes
    parts = train_test_split(of, float(validation), seed, stratify=classes is not None)
    train, held_out = (whole.select(network.backend, np.sort(index)) for index in parts)
    for part, what in ((train, "training"), (held_out, "held-out")):
        if part.weight is not None and not part.weight.any():
            raise DataError(
                f"validation={validation}, seed={seed}: the sample weights of all {len(part)} {what} rows "
                "are 0; use another seed or fraction, or validation=(Xv, yv)"
            )
    return train, held_out


@underflow_is_zero
def balanced(data: Samples, class_weight: Mapping[Any, float] | str, n_out: int, dtype: Any) -> Samples:
    """Multiply the weight of each row by the weight of its class, 1 for a class that the mapping lacks.

    "balanced" weights a class with n_c of n rows by n / (C n_c), as scikit-learn does.
    """
    y = class_per_row(data.y).reshape(len(data), -1)
    if y.shape[1] != 1 or (y != np.floor(y)).any():
        raise ConfigurationError(
            f"class_weight needs one class per row; these targets have shape {data.y.shape}"
        )
    classes, place, counts = np.unique(y.ravel(), return_inverse=True, return_counts=True)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ConfigurationError(f"class_weight must be 'balanced' or a mapping, not {class_weight!r}")
        factors = len(data) / (len(classes) * counts)
    else:
        factors = _factors(class_weight, classes.tolist(), n_out)
    if not (np.isfinite(factors).all() and (factors >= 0).all() and factors.any()):
        raise ConfigurationError(
            f"class weights must be finite, at least 0 and not all 0, not {class_weight!r}"
        )
    weight = factors[place].astype(dtype)
    weight = weight if data.weight is None else weight * data.weight
    if not weight.any():
        raise ConfigurationError(
            f"with class_weight={class_weight!r} all {len(data)} training rows have weight 0; "
            "give a class of rows with a sample weight above 0 a weight above 0"
        )
    return replace(data, weight=weight)


def class_per_row(y: Any) -> Any:
    """Return one-hot rows (n, C) as class indices, any other y unchanged."""
    one_hot = y.ndim == 2 and y.shape[1] > 1 and ((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all()
    return y.argmax(axis=1) if one_hot else y


def _strata(loss: Loss, y: HostArray) -> HostArray | None:
    """Return the class of each row (n,); None if the targets are no classes, or several a row.

    A column holds classes if the loss decides, about each number in it, that number.
    """
    y = class_per_row(y)
    if y.ndim == 2 and y.shape[1] == 1:
        decided = loss.decide(y)
        y = decided.ravel() if decided.shape == y.shape and (decided == y).all() else y
    return y if y.ndim == 1 and y.dtype.kind == "i" else None


def _factors(class_weight: Any, classes: list[Any], n_out: int) -> HostArray:
    if not isinstance(class_weight, Mapping) or not all(isinstance(v, Real) for v in class_weight.values()):
        raise ConfigurationError(
            f"class_weight must be 'balanced' or a mapping from classes to numbers, not {class_weight!r}"
        )
    known = {*classes, *range(n_out)}  # a class without training rows is still a class
    stray = next((c for c in class_weight if c not in known), None)
    if stray is not None:
        raise ConfigurationError(
            f"class_weight has the class {stray!r}; the classes of these rows are {classes}"
        )
    return np.array([class_weight.get(c, 1.0) for c in classes], np.float64)
