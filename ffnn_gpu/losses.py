"""Losses: value and gradient together.

A loss is a frozen dataclass that is called as

    value = loss(backend, z, y, dz=None, sample_weight=None)

with z (B, O) the network's output, left unchanged; y the targets; dz (B, O) overwritten with ∂L/∂z, or None for the
value alone; sample_weight (B,) with the meaning  L = Σᵢ wᵢ ℓᵢ / Σᵢ wᵢ, so a weight of 2 counts a row twice. The value is
a 0-d array on z's device; `float()` of it waits for the device.

Besides, `targets` checks and converts targets on the host, once for a whole data set, and `decide` turns outputs into
decisions (a class, a number). Arithmetic: `backend/losses.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from ffnn_gpu.activations import sigmoid, softplus
from ffnn_gpu.backend.precision import is_floating, master
from ffnn_gpu.backend.reference import Backend
from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError
from ffnn_gpu.targets import class_indices, columns_like, distributions, in_set, nonnegative, unit_interval, weights

Pointwise = Callable[[Any, Any, Any, float], Any]


@dataclass(frozen=True)
class Loss:
    """What every loss can do besides being called."""

    def __call__(self, backend: Backend, z: Any, y: Any, dz: Any = None, sample_weight: Any = None) -> Any:
        """The mean loss of outputs z (B, O) against targets y; ∂L/∂z into dz.

        Raises:
            ShapeError, DataError: z is not floating (B, O), or y, dz or sample_weight do not fit z or this loss.
        """
        if z.ndim != 2:
            raise ShapeError(f"z has shape {z.shape}; a loss reads a matrix (rows, outputs)")
        if z.dtype.kind != "c" and not is_floating(z.dtype):                     # targets are rounded to z's dtype
            raise DataError(f"z has dtype {z.dtype}; a loss reads the floating outputs of a network")
        if dz is not None and dz.shape != z.shape:
            raise ShapeError(f"dz has shape {dz.shape}; z has {z.shape}")
        y = self._on_device(backend, y, z)
        if sample_weight is not None:
            real = master(z.dtype)
            sample_weight = backend.asarray(weights(backend.admit(sample_weight), len(z), real), real)
        return self.evaluate(backend, z, y, dz, sample_weight)

    def evaluate(self, backend: Backend, z: Any, y: Any, dz: Any, sample_weight: Any) -> Any:
        """The same for arguments that are known to be right: of z's device and, float32 for 16 bits, z's dtype, checked by
        `targets`."""
        raise NotImplementedError(f"{type(self).__name__} has no evaluate")

    def targets(self, y: Any, O: int, dtype: Any) -> np.ndarray:
        """Host targets checked and converted for a network with O outputs. Raises ShapeError or DataError."""
        raise NotImplementedError(f"{type(self).__name__} has no targets")

    def device_targets(self, backend: Backend, y: Any, O: int, dtype: Any) -> Any:
        """`targets` for an array of the device: shape and dtype are checked, values are not. Raises ShapeError."""
        if y.ndim != 2 or y.shape[1] != O:
            raise ShapeError(f"y has shape {y.shape}; the network has {O} outputs, so y must be (rows, {O})")
        return backend.asarray(y, dtype)

    def total_weight(self, backend: Backend, y: Any, sample_weight: Any) -> Any:
        """What the mean is taken over: the number of rows, or the sum of their weights as a 0-d array."""
        return len(y) if sample_weight is None else backend.total(sample_weight)

    def decide(self, z: np.ndarray) -> np.ndarray:
        """What outputs mean, in the form of the targets: class indices, 0/1, or the number itself."""
        return z

    def _on_device(self, backend: Backend, y: Any, z: Any) -> Any:
        if backend.owns(y) and not isinstance(y, np.ndarray):  # on the GPU: looking at the values would wait for it
            y = self.device_targets(backend, y, z.shape[1], master(z.dtype))
        else:
            y = backend.asarray(self.targets(y, z.shape[1], master(z.dtype)))
        if len(y) != len(z):
            raise ShapeError(f"z has {len(z)} rows and y has {len(y)}")
        return y


@dataclass(frozen=True)
class PointwiseLoss(Loss):
    """L = mean over rows and outputs of ℓ(z, y), for ℓ given as data.

    Args:
        name: what it is called in files and on the command line.
        formula: (xp, z, y, alpha) → ℓ. slope: (xp, z, y, alpha) → ∂ℓ/∂z. Both elementwise.
        accepts: check of host targets, raises DataError.
        alpha: the one constant some of them have.
        threshold: outputs above it mean decisions[1], others decisions[0]; None for losses whose outputs are numbers.
    """

    name: str
    formula: Pointwise = field(repr=False, compare=False)
    slope: Pointwise = field(repr=False, compare=False)
    accepts: Callable[[np.ndarray], None] | None = field(default=None, repr=False, compare=False)
    alpha: float = 0.0
    threshold: float | None = None
    decisions: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        standard = globals().get("LOSSES", {}).get(self.name)  # absent while this module makes them
        formulas = getattr(standard, "formula", None), getattr(standard, "slope", None)
        if standard is not None and (self.formula, self.slope) != formulas:
            raise ConfigurationError(f"{self.name!r} is the name of a loss of this package; choose another")

    def __reduce__(self) -> tuple[Any, ...]:
        if self.name in LOSSES: return loss, (self.name, self.alpha)             # its formulas are lambdas: no names
        return PointwiseLoss, tuple(getattr(self, entry.name) for entry in fields(self))

    def with_alpha(self, alpha: float) -> "PointwiseLoss":
        """The same loss with another constant: huber.with_alpha(0.5). Raises ConfigurationError where there is none."""
        if not self.alpha:
            raise ConfigurationError(f"{self.name} has no constant alpha to set")
        if not 0 < alpha < float("inf"):
            raise ConfigurationError(f"alpha of {self.name} must be positive and finite, not {alpha!r}")
        return replace(self, alpha=float(alpha))

    def value(self, xp: Any, z: Any, y: Any) -> Any:
        return self.formula(xp, z, y, self.alpha)

    def derivative(self, xp: Any, z: Any, y: Any) -> Any:
        return self.slope(xp, z, y, self.alpha)

    def evaluate(self, backend: Backend, z: Any, y: Any, dz: Any, sample_weight: Any) -> Any:
        return backend.pointwise_loss(self, z, y, sample_weight, dz)

    def targets(self, y: Any, O: int, dtype: Any) -> np.ndarray:
        y = columns_like(y, O, dtype)
        if self.accepts is not None:
            self.accepts(y)
        return y

    def device_targets(self, backend: Backend, y: Any, O: int, dtype: Any) -> Any:
        return super().device_targets(backend, y.reshape(-1, 1) if y.ndim == 1 and O == 1 else y, O, dtype)

    def decide(self, z: np.ndarray) -> np.ndarray:
        return z if self.threshold is None else np.where(z > self.threshold, self.decisions[1], self.decisions[0])


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """L = −(1/B) Σ_b Σ_c q_bc log p_bc on probabilities p, for one-hot or soft targets q (B, C) or class indices (B,).

    Less accurate than `softmax_cross_entropy` on logits: a probability that has rounded to 0 is taken as 10⁻¹².
    """

    def evaluate(self, backend: Backend, z: Any, y: Any, dz: Any, sample_weight: Any) -> Any:
        return backend.cross_entropy(z, y, sample_weight, dz, smallest=1e-12)

    def targets(self, y: Any, O: int, dtype: Any) -> np.ndarray:
        y = np.asarray(y)
        return np.eye(O, dtype=dtype)[class_indices(y, O)] if y.ndim == 1 else distributions(y, O, dtype)

    def device_targets(self, backend: Backend, y: Any, O: int, dtype: Any) -> Any:
        return backend.one_hot(y, O, dtype) if y.ndim == 1 else super().device_targets(backend, y, O, dtype)

    def decide(self, z: np.ndarray) -> np.ndarray:
        return z.argmax(axis=1)


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """Mean cross-entropy of softmax(z) against class indices y (B,) or target distributions y (B, C).

        L = −(1/B) Σ_b log softmax(z_b)[y_b]          dz = (softmax(z) − onehot(y)) / B

    Args:
        label_smoothing: ε; the target becomes (1 − ε) q + ε/C.
        class_weight: C positive numbers v; row b counts with v[y_b], and the mean is taken over Σ v[y_b].

    Reference: Bishop, Pattern Recognition and Machine Learning (2006), eq. 4.108-4.109.
    """

    label_smoothing: float = 0.0
    class_weight: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigurationError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing!r}")
        if self.class_weight is not None:
            object.__setattr__(self, "class_weight", tuple(float(v) for v in self.class_weight))
            if not all(0 <= v < float("inf") for v in self.class_weight):
                raise ConfigurationError(f"class weights must be finite and at least 0, not {self.class_weight}")

    def evaluate(self, backend: Backend, z: Any, y: Any, dz: Any, sample_weight: Any) -> Any:
        v = self._class_weight(backend, master(z.dtype))
        return backend.softmax_cross_entropy(z, y, sample_weight, v, self.label_smoothing, dz)

    def total_weight(self, backend: Backend, y: Any, sample_weight: Any) -> Any:
        if self.class_weight is None or y.ndim == 2:
            return super().total_weight(backend, y, sample_weight)
        return backend.total_class_weight(y, self._class_weight(backend, np.float64), sample_weight)

    def _class_weight(self, backend: Backend, dtype: Any) -> Any:
        return None if self.class_weight is None else backend.constant(self.class_weight, dtype)

    def targets(self, y: Any, O: int, dtype: Any) -> np.ndarray:
        if self.class_weight is not None and len(self.class_weight) != O:
            raise ShapeError(f"class_weight has {len(self.class_weight)} numbers; the network has {O} outputs")
        y = np.asarray(y)
        return class_indices(y, O) if y.ndim == 1 else distributions(y, O, dtype)

    def device_targets(self, backend: Backend, y: Any, O: int, dtype: Any) -> Any:
        return backend.asarray(y, np.int32) if y.ndim == 1 else super().device_targets(backend, y, O, dtype)

    def decide(self, z: np.ndarray) -> np.ndarray:
        return z.argmax(axis=1)


def _magnitude(xp: Any, d: Any) -> Any:  # |d|, complex-differentiable
    return xp.maximum(d, -d)


def _huber(xp: Any, z: Any, y: Any, delta: float) -> Any:
    d = _magnitude(xp, z - y)
    return xp.where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta))


LOG_FLOOR, PRODUCT_FLOOR = -100.0, 1e-12  # of log p, and of p(1 − p): finite values, gradients that are not 0 when wrong


def _log(xp: Any, p: Any) -> Any:  # log p, at least −100, silent at p = 0
    positive = p > 0
    return xp.maximum(xp.where(positive, xp.log(xp.where(positive, p, 1)), LOG_FLOOR), LOG_FLOOR)


def _bce(xp: Any, p: Any, y: Any, _: float) -> Any:
    return -(y * _log(xp, p) + (1 - y) * _log(xp, 1 - p))


def _bce_slope(xp: Any, p: Any, y: Any, _: float) -> Any:
    return (p - y) / xp.maximum(p * (1 - p), PRODUCT_FLOOR)


mean_squared_error = PointwiseLoss(  # ℓ = (z − y)²
    "mean_squared_error", lambda xp, z, y, _: (z - y) ** 2, lambda xp, z, y, _: 2 * (z - y)
)
mean_absolute_error = PointwiseLoss(  # ℓ = |z − y|
    "mean_absolute_error", lambda xp, z, y, _: _magnitude(xp, z - y), lambda xp, z, y, _: xp.sign(z - y)
)
huber = PointwiseLoss(  # ℓ = ½ d² for |d| ≤ α, else α(|d| − ½α), d = z − y: Huber, Ann. Math. Stat. 35 (1964), p. 75
    "huber", _huber, lambda xp, z, y, alpha: xp.clip(z - y, -alpha, alpha), alpha=1.0
)
poisson = PointwiseLoss(  # ℓ = e^z − y z: minus the log likelihood of counts y at the rate e^z, its constant left out
    "poisson", lambda xp, z, y, _: xp.exp(z) - y * z, lambda xp, z, y, _: xp.exp(z) - y, nonnegative
)
binary_cross_entropy = PointwiseLoss(  # ℓ = −y log p − (1 − y) log(1 − p), on probabilities p
    "binary_cross_entropy", _bce, _bce_slope, unit_interval, threshold=0.5
)
binary_cross_entropy_with_logits = PointwiseLoss(  # ℓ = log(1 + e^z) − z y, as softplus writes it: nothing overflows
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
    "mean_squared_error": mean_squared_error,
    "mean_absolute_error": mean_absolute_error,
    "huber": huber,
    "poisson": poisson,
    "binary_cross_entropy": binary_cross_entropy,
    "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    "cross_entropy": cross_entropy,
    "softmax_cross_entropy": softmax_cross_entropy,
    "hinge": hinge,
}


def loss(name: str, alpha: float = 0.0) -> Loss:
    """The loss called `name`, with the constant `alpha` if it is given. Raises ConfigurationError."""
    if name not in LOSSES:
        raise ConfigurationError(f"no loss is called {name!r}; there are {', '.join(LOSSES)}")
    found = LOSSES[name]
    if not alpha or not isinstance(found, PointwiseLoss) or alpha == found.alpha: return found
    return found.with_alpha(alpha)
