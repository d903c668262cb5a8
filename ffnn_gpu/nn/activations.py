"""Activation functions φ with their derivatives φ′, as data.

An activation is a name and two formulas for any array module `xp`.

- φ′ is a function of the output a = φ(s) if possible, because a layer then need not store s. It is a function
  of s for gelu, silu and mish, which have `needs_input`.
- φ of a NaN is NaN, and so is φ′ unless it is constant by pieces. At a kink (relu at 0) φ′ is the left-hand
  derivative.
- φ and φ′ of ±∞ are their limits, and φ′ is finite for every finite number.
- Every formula also accepts complex s with a tiny imaginary part, for the complex-step gradient checks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias, cast

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import underflow_is_zero
from ffnn_gpu.backends.reference.special import erfc, magnitude
from ffnn_gpu.checks import look_up
from ffnn_gpu.errors import ConfigurationError

__all__ = [
    "Activation", "elu", "gelu", "gelu_tanh", "get_activation", "hard_sigmoid", "hard_tanh", "identity",
    "leaky_relu", "mish", "relu", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh",
]  # fmt: skip

Formula: TypeAlias = Callable[[Any, Array, float], Array]  # (xp, s or a, alpha)


class WithAlpha:
    """A frozen dataclass whose formulas have at most one constant, `alpha`; 0 if they have none."""

    name: str
    alpha: float

    def with_alpha(self, alpha: float) -> Self:
        """Return the same formulas with another constant. Raises ConfigurationError if there is none."""
        if not self.alpha:
            raise ConfigurationError(f"{self.name} has no constant alpha to set")
        if not 0 < alpha < math.inf:
            raise ConfigurationError(f"alpha of {self.name} must be positive and finite, not {alpha}")
        return cast(Self, replace(cast(Any, self), alpha=float(alpha)))


@dataclass(frozen=True)
class Activation(WithAlpha):
    """φ and φ′, elementwise.

    Args:
        name: its name in files and on the command line.
        phi: (xp, s, alpha) → φ(s).
        slope: (xp, a, alpha) → φ′ from a = φ(s), or (xp, s, alpha) → φ′(s) if `needs_input`.
        alpha: the constant of leaky_relu and elu; `leaky_relu.with_alpha(0.2)` changes it.
    """

    name: str
    phi: Formula = field(repr=False, compare=False)
    slope: Formula = field(repr=False, compare=False)
    needs_input: bool = False
    alpha: float = 0.0

    def __post_init__(self) -> None:
        standard = globals().get("ACTIVATIONS", {}).get(self.name)  # {} while this module is imported
        if standard is not None and (self.phi, self.slope) != (standard.phi, standard.slope):
            raise ConfigurationError(f"{self.name!r} is the name of a built-in activation; choose another")

    @underflow_is_zero
    def value(self, xp: Any, s: Array) -> Array:
        """φ(s)"""
        return self.phi(xp, s, self.alpha)

    @underflow_is_zero
    def derivative(self, xp: Any, a: Array) -> Array:
        """φ′, as a function of the output a, or of the pre-activation if `needs_input`."""
        return self.slope(xp, a, self.alpha)

    def __repr__(self) -> str:
        standard = ACTIVATIONS.get(self.name)
        return self.name if standard in (self, None) else f"{self.name}.with_alpha({self.alpha!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.name not in ACTIVATIONS:
            return Activation, (self.name, self.phi, self.slope, self.needs_input, self.alpha)
        return get_activation, (self.name, self.alpha)


# Why maximum and minimum instead of `where`: they are complex-differentiable, and ten times as fast on a CPU.

# Beyond ±FLAT, gelu, gelu_tanh, silu, mish and their slopes equal their limits in every type: e^{−1000} is 0.
# A formula that gets a number within ±FLAT does not compute ∞ · 0, nor an s³ that overflows.
# For |s| ≥ LARGE, s/(1 + |s|) is rounded to ±1.
FLAT, LARGE = 1000.0, 1e18


def _within(xp: Any, s: Array, bound: float) -> Array:  # min(max(s, −bound), bound)
    return xp.minimum(xp.maximum(s, -bound), bound)


def _sigmoid(xp: Any, s: Array) -> Array:  # 1/(1 + e^{-s}); e^{-|s|} cannot overflow, the small tail is exact
    return xp.exp(xp.minimum(s, 0)) / (1 + xp.exp(xp.minimum(s, -s)))


def _sigmoid_slope(xp: Any, s: Array) -> Array:  # σ (1 − σ) = e/(1 + e)², e = e^{-|s|}: 1 − σ would cancel
    e = xp.exp(xp.minimum(s, -s))
    return e / (1 + e) ** 2


def _softplus(xp: Any, s: Array) -> Array:  # log(1 + e^s)
    return xp.maximum(s, 0) + xp.log1p(xp.exp(xp.minimum(s, -s)))


def _normal_cdf(xp: Any, s: Array) -> Array:  # Φ(s) = ½ erfc(-s/√2)
    return 0.5 * erfc(xp, s * -math.sqrt(0.5))


def _normal_pdf(xp: Any, s: Array) -> Array:  # e^{-s²/2}/√(2π)
    return xp.exp(-0.5 * s * s) * (1 / math.sqrt(2 * math.pi))


def _gelu(xp: Any, s: Array, alpha: float) -> Array:  # s Φ(s)
    return xp.maximum(s, -FLAT) * _normal_cdf(xp, _within(xp, s, FLAT))


def _gelu_slope(xp: Any, s: Array, alpha: float) -> Array:  # Φ(s) + s Φ'(s)
    s = _within(xp, s, FLAT)
    return _normal_cdf(xp, s) + s * _normal_pdf(xp, s)


# s (1 + tanh u)/2 with u = √(2/π)(s + 0.044715 s³). Why σ(2u) = (1 + tanh u)/2: 1 + tanh u cancels.
def _gelu_tanh(xp: Any, s: Array, alpha: float) -> Array:
    t = _within(xp, s, FLAT)
    return xp.maximum(s, -FLAT) * _sigmoid(xp, math.sqrt(8 / math.pi) * t * (1 + 0.044715 * t * t))


def _gelu_tanh_slope(xp: Any, s: Array, alpha: float) -> Array:  # σ(2u) + s σ′(2u) 2u′
    s = _within(xp, s, FLAT)
    twice, slope = (math.sqrt(8 / math.pi) * (1 + k * 0.044715 * s * s) for k in (1, 3))
    return _sigmoid(xp, s * twice) + s * _sigmoid_slope(xp, s * twice) * slope


def _silu(xp: Any, s: Array, alpha: float) -> Array:  # s σ
    return xp.maximum(s, -FLAT) * _sigmoid(xp, s)


def _silu_slope(xp: Any, s: Array, alpha: float) -> Array:  # σ + s σ′
    s = _within(xp, s, FLAT)
    return _sigmoid(xp, s) + s * _sigmoid_slope(xp, s)


# Returns t = tanh(log(1 + e^s)) = n/d, e = e^{−|s|}, and 1/d: one division is enough. n = e^s (e^s + 2) and
# d = n + 2; for s > 0 both times e^{−2s}, so that nothing overflows.
def _tanh_of_softplus(xp: Any, s: Array) -> tuple[Array, Array, Array]:
    e = xp.exp(xp.minimum(s, -s))
    n, rest = xp.where(s > 0, 1 + 2 * e, e * (e + 2)), xp.where(s > 0, 2 * e * e, 2 + 0 * e)
    inverse = 1 / (n + rest)
    return n * inverse, e, inverse


def _mish(xp: Any, s: Array, alpha: float) -> Array:  # s n/d
    return xp.maximum(s, -FLAT) * _tanh_of_softplus(xp, s)[0]


def _mish_slope(xp: Any, s: Array, alpha: float) -> Array:  # n/d + 4 s e^s (1 + e^s)/d²
    s = _within(xp, s, FLAT)
    t, e, inverse = _tanh_of_softplus(xp, s)
    return t + 4 * s * (1 + e) * xp.where(s > 0, e * e, e) * inverse * inverse


def _softsign(xp: Any, s: Array, alpha: float) -> Array:  # s/(1 + |s|)
    s = _within(xp, s, LARGE)
    return s / (1 + magnitude(xp, s))


# λ s, or λ α (e^s - 1) for s <= 0
def _scaled_elu(xp: Any, s: Array, alpha: float, scale: float = 1.0) -> Array:
    return scale * (xp.maximum(s, 0) + alpha * xp.expm1(xp.minimum(s, 0)))


SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # the fixed point is mean 0, variance 1

identity = Activation("identity", lambda xp, s, _: s, lambda xp, a, _: xp.ones_like(a))
relu = Activation("relu", lambda xp, s, _: xp.maximum(s, 0), lambda xp, a, _: (a > 0).astype(a.dtype))
leaky_relu = Activation(  # Maas, Hannun, Ng (2013)
    "leaky_relu",
    lambda xp, s, alpha: xp.maximum(s, 0) + alpha * xp.minimum(s, 0),
    lambda xp, a, alpha: xp.where(a > 0, xp.ones_like(a), alpha * xp.ones_like(a)),
    alpha=0.01,
)
elu = Activation(  # Clevert, Unterthiner, Hochreiter (2016), eq. 15
    "elu", _scaled_elu, lambda xp, a, alpha: xp.where(a > 0, xp.ones_like(a), a + alpha), alpha=1.0
)
selu = Activation(  # Klambauer, Unterthiner, Mayr, Hochreiter (2017), eq. 2
    "selu",
    lambda xp, s, _: _scaled_elu(xp, s, SELU_ALPHA, SELU_SCALE),
    lambda xp, a, _: xp.where(a > 0, SELU_SCALE * xp.ones_like(a), a + SELU_SCALE * SELU_ALPHA),
)
gelu = Activation("gelu", _gelu, _gelu_slope, needs_input=True)  # Hendrycks, Gimpel (2016), eq. 2
gelu_tanh = Activation("gelu_tanh", _gelu_tanh, _gelu_tanh_slope, needs_input=True)
silu = Activation("silu", _silu, _silu_slope, needs_input=True)
mish = Activation("mish", _mish, _mish_slope, needs_input=True)  # Misra (2019)
softplus = Activation("softplus", lambda xp, s, _: _softplus(xp, s), lambda xp, a, _: -xp.expm1(-a))
softsign = Activation("softsign", _softsign, lambda xp, a, _: (1 - magnitude(xp, a)) ** 2)
tanh = Activation("tanh", lambda xp, s, _: xp.tanh(s), lambda xp, a, _: (1 - a) * (1 + a))
sigmoid = Activation("sigmoid", lambda xp, s, _: _sigmoid(xp, s), lambda xp, a, _: a * (1 - a))
hard_sigmoid = Activation(  # min(max(s + 3, 0), 6)/6: Howard et al., MobileNetV3 (2019), section 5.2
    "hard_sigmoid",
    lambda xp, s, _: xp.minimum(xp.maximum(s / 6 + 0.5, 0), 1),
    lambda xp, a, _: xp.where((a <= 0) | (a >= 1), xp.zeros_like(a), xp.ones_like(a) / 6),
)
hard_tanh = Activation(
    "hard_tanh",
    lambda xp, s, _: xp.minimum(xp.maximum(s, -1), 1),
    lambda xp, a, _: ((a > -1) & (a < 1)).astype(a.dtype),
)

ACTIVATIONS: dict[str, Activation] = {
    phi.name: phi
    for phi in (
        identity, relu, leaky_relu, elu, selu, gelu, gelu_tanh, silu, mish, softplus, softsign, tanh, sigmoid,
        hard_sigmoid, hard_tanh,
    )
}  # fmt: skip


def get_activation(name: str | Activation, alpha: float = 0.0) -> Activation:
    """Return the activation with this name, with the constant `alpha` if given; an Activation unchanged."""
    if isinstance(name, Activation):
        return name
    phi = look_up("activation", name, ACTIVATIONS, "relu")
    return phi if not alpha or alpha == phi.alpha else phi.with_alpha(alpha)
