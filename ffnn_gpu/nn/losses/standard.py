"""The losses by their names, and those that are elementwise formulas, as data."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import require_finite
from ffnn_gpu.arrays.precision import underflow_is_zero
from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.backends.reference.special import magnitude
from ffnn_gpu.checks import look_up, nearest
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.nn.activations import WithAlpha, sigmoid, softplus
from ffnn_gpu.nn.losses.loss import CrossEntropy, Loss, SoftmaxCrossEntropy, real_numbers, require_columns

Pointwise = Callable[[Any, Any, Any, float], Any]


@dataclass(frozen=True)
class PointwiseLoss(WithAlpha, Loss):
    """L = mean over rows and outputs of ℓ(z, y), for ℓ given as data.

    Args:
        name: used in files and on the command line.
        formula: (xp, z, y, alpha) → ℓ. slope: (xp, z, y, alpha) → ∂ℓ/∂z. Both elementwise.
        accepts: check of host targets, raises DataError.
        alpha: the one constant some of them have.
        threshold: outputs above it mean decisions[1], others decisions[0]; None if outputs are numbers.
    """

    counts_rows: ClassVar[bool] = True
    name: str
    formula: Pointwise = field(repr=False, compare=False)
    slope: Pointwise = field(repr=False, compare=False)
    accepts: Callable[[HostArray], None] | None = field(default=None, repr=False, compare=False)
    alpha: float = 0.0
    threshold: float | None = None
    decisions: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        standard = globals().get("LOSSES", {}).get(self.name)  # absent while this module makes them
        formulas = getattr(standard, "formula", None), getattr(standard, "slope", None)
        if standard is not None and (self.formula, self.slope) != formulas:
            raise ConfigurationError(f"{self.name!r} is the name of a loss of this package; choose another")

    def __reduce__(self) -> tuple[Any, ...]:
        if self.name in LOSSES:
            return get_loss, (self.name, self.alpha)  # its formulas are lambdas: no names
        return PointwiseLoss, tuple(getattr(self, entry.name) for entry in fields(self))

    def value(self, xp: Any, z: Any, y: Any) -> Any:
        return self.formula(xp, z, y, self.alpha)

    def derivative(self, xp: Any, z: Any, y: Any) -> Any:
        return self.slope(xp, z, y, self.alpha)

    def value_and_gradient(
        self, backend: Backend, z: Array, y: Array, dz: Array | None, sample_weight: Array | None
    ) -> Array:
        return backend.pointwise_loss(self, z, y, sample_weight, dz)

    def targets(self, y: Any, O: int, dtype: Any) -> HostArray:
        numbers = real_numbers(np.asarray(y))
        if numbers.ndim == 1 and O == 1:
            numbers = numbers.reshape(-1, 1)
        require_columns(numbers, O)
        require_finite(np, numbers, "y", dtype)
        numbers = numbers.astype(dtype, copy=False)
        if self.accepts is not None:
            self.accepts(numbers)
        return numbers

    def device_targets(self, backend: Backend, y: Any, O: int, dtype: Any) -> Any:
        return super().device_targets(backend, y.reshape(-1, 1) if y.ndim == 1 and O == 1 else y, O, dtype)

    def decide(self, z: HostArray) -> HostArray:
        if self.threshold is None:
            return z
        return np.where(z > self.threshold, self.decisions[1], self.decisions[0])

    @underflow_is_zero
    def probabilities(self, z: HostArray) -> HostArray:
        """Return σ(z) in float64 for the loss that reads logits; other outputs stay as they are."""
        return sigmoid.value(np, z.astype(np.float64)) if self == binary_cross_entropy_with_logits else z


def nonnegative(y: HostArray) -> None:
    """Raise DataError unless y holds counts."""
    if (y < 0).any():
        raise DataError(f"y holds {y.min()}; the poisson loss needs counts of at least 0")


def unit_interval(y: HostArray) -> None:
    """Raise DataError unless y holds probabilities."""
    if len(y) and (y.min() < 0 or y.max() > 1):
        raise DataError(
            f"y ranges from {y.min()} to {y.max()}; binary cross-entropy reads targets from 0 to 1"
        )


def in_set(*allowed: float) -> Callable[[HostArray], None]:
    """Return a check that y holds nothing but `allowed`."""

    def check(y: HostArray) -> None:
        stray = ~np.isin(y, allowed)
        if stray.any():
            raise DataError(f"y holds {y[stray][0]}; this loss reads targets from {allowed}")

    return check


def _huber(xp: Any, z: Any, y: Any, delta: float) -> Any:
    d = magnitude(xp, z - y)
    return xp.where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta))


# of log p, and of p(1 − p): finite values, gradients that are not 0 when wrong
LOG_FLOOR, PRODUCT_FLOOR = -100.0, 1e-12


def _log(xp: Any, p: Any) -> Any:  # log p, at least −100, silent at p = 0; NaN of a NaN
    outside = p <= 0
    return xp.maximum(xp.where(outside, LOG_FLOOR, xp.log(xp.where(outside, 1, p))), LOG_FLOOR)


def _bce(xp: Any, p: Any, y: Any, _: float) -> Any:
    return -(y * _log(xp, p) + (1 - y) * _log(xp, 1 - p))


def _bce_slope(xp: Any, p: Any, y: Any, _: float) -> Any:
    return (p - y) / xp.maximum(p * (1 - p), PRODUCT_FLOOR)


mean_squared_error = PointwiseLoss(  # ℓ = (z − y)²
    "mean_squared_error", lambda xp, z, y, _: (z - y) ** 2, lambda xp, z, y, _: 2 * (z - y)
)
mean_absolute_error = PointwiseLoss(  # ℓ = |z − y|
    "mean_absolute_error", lambda xp, z, y, _: magnitude(xp, z - y), lambda xp, z, y, _: xp.sign(z - y)
)
# ℓ = ½ d² for |d| ≤ α, else α(|d| − ½α), d = z − y: Huber, Ann. Math. Stat. 35 (1964), p. 75
huber = PointwiseLoss("huber", _huber, lambda xp, z, y, alpha: xp.clip(z - y, -alpha, alpha), alpha=1.0)
# ℓ = e^z − y z: minus the log likelihood of counts y at the rate e^z, without its constant
poisson = PointwiseLoss(
    "poisson", lambda xp, z, y, _: xp.exp(z) - y * z, lambda xp, z, y, _: xp.exp(z) - y, nonnegative
)
binary_cross_entropy = PointwiseLoss(  # ℓ = −y log p − (1 − y) log(1 − p), on probabilities p
    "binary_cross_entropy", _bce, _bce_slope, unit_interval, threshold=0.5
)
# ℓ = log(1 + e^z) − z y, as softplus writes it: nothing overflows
binary_cross_entropy_with_logits = PointwiseLoss(
    "binary_cross_entropy_with_logits",
    lambda xp, z, y, _: softplus.value(xp, z) - z * y,
    lambda xp, z, y, _: sigmoid.value(xp, z) - y,
    unit_interval,
    threshold=0.0,
)
hinge = PointwiseLoss(  # ℓ = max(0, 1 − y z), y = ±1
    "hinge",
    lambda xp, z, y, _: xp.maximum(1 - y * z, 0),
    lambda xp, z, y, _: xp.where(y * z < 1, -y, xp.zeros_like(z)),
    in_set(-1, 1),
    threshold=0.0,
    decisions=(-1, 1),
)
cross_entropy = CrossEntropy()
softmax_cross_entropy = SoftmaxCrossEntropy()

LOSSES: dict[str, Loss] = {
    "mean_squared_error": mean_squared_error, "mean_absolute_error": mean_absolute_error,
    "huber": huber, "poisson": poisson, "binary_cross_entropy": binary_cross_entropy,
    "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    "cross_entropy": cross_entropy, "softmax_cross_entropy": softmax_cross_entropy, "hinge": hinge,
}  # fmt: skip
SHORT_NAMES = {"mse": "mean_squared_error", "mae": "mean_absolute_error"}  # names of metrics


def get_loss(name: str | Loss, alpha: float = 0.0) -> Loss:
    """Return the loss of this name, with the constant `alpha` if it is given; a Loss as it is."""
    if isinstance(name, Loss):
        return name
    known = LOSSES | {short: LOSSES[long] for short, long in SHORT_NAMES.items()}
    asked = name.strip().lower() if isinstance(name, str) else ""
    if asked not in known and _is_cross_entropy(asked, known):
        # Why no name is suggested: a network that trains with the wrong one is wrong, without an error.
        raise ConfigurationError(
            f"no loss is called {name!r}; on logits use 'softmax_cross_entropy' for classes or "
            "'binary_cross_entropy_with_logits' for targets 0 and 1; on probabilities use 'cross_entropy' "
            "after Softmax() or 'binary_cross_entropy' after sigmoid"
        )
    found = look_up("loss", name, known, "softmax_cross_entropy")
    if not alpha or not isinstance(found, PointwiseLoss) or alpha == found.alpha:
        return found
    return found.with_alpha(alpha)


def _is_cross_entropy(asked: str, known: Iterable[str]) -> bool:
    """Return whether `asked` contains a name of cross-entropies or resembles one, with any separators."""
    letters = re.sub("[^a-z]", "", asked)
    near = nearest(asked, known), nearest(letters, (name.replace("_", "") for name in known))
    return bool(re.search("cross|entropy|bce", " ".join((letters, *near))))
