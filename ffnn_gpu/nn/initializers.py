"""Initial values of the parameters: seed → numbers.

They are drawn on the host in float64, so they are equal on every backend. The variance of a weight is
gain/fan, where fan is the number of inputs (he, lecun) or the mean of inputs and outputs (glorot).
"""

import math
from dataclasses import dataclass, fields

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.activations import Activation

__all__ = [
    "Constant", "Initializer", "Normal", "Orthogonal", "Uniform", "VarianceScaling", "glorot_normal",
    "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "normal", "orthogonal",
    "uniform", "zeros",
]  # fmt: skip


@dataclass(frozen=True)
class Initializer:
    """shape → values, drawn in float64 from a host generator."""

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> HostArray:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(rng, shape)")

    def __repr__(self) -> str:
        name = next((key for key, standard in INITIALIZERS.items() if standard == self), None)
        values = ", ".join(f"{entry.name}={getattr(self, entry.name)!r}" for entry in fields(self))
        return name or f"{type(self).__name__}({values})"


@dataclass(frozen=True, repr=False)
class Constant(Initializer):
    """All values are `value`. `zeros` is Constant(0)."""

    value: float = 0.0

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> HostArray:
        return np.full(shape, self.value)


@dataclass(frozen=True, repr=False)
class Normal(Initializer):
    """N(mean, std²)"""

    std: float = 0.01
    mean: float = 0.0

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> HostArray:
        return rng.normal(self.mean, self.std, shape)


@dataclass(frozen=True, repr=False)
class Uniform(Initializer):
    """U[low, high)"""

    low: float = -0.05
    high: float = 0.05

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> HostArray:
        return rng.uniform(self.low, self.high, shape)


@dataclass(frozen=True, repr=False)
class VarianceScaling(Initializer):
    """Zero mean, variance gain/fan.

    normal: N(0, gain/fan)        uniform: U[−r, r) with r = √(3 gain/fan)

    Reference: glorot: Glorot, Bengio (2010), eq. 12 and 16; he: He et al. (2015), eq. 10; lecun: LeCun et
    al.: Efficient BackProp (1998), eq. 16.
    """

    gain: float
    fan: str
    distribution: str

    def __post_init__(self) -> None:
        if self.fan not in ("in", "mean") or self.distribution not in ("normal", "uniform"):
            raise ConfigurationError(
                "fan must be 'in' or 'mean' and distribution one of ('normal', 'uniform'), "
                f"not {self.fan!r} and {self.distribution!r}"
            )

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> HostArray:
        variance = self.gain / (shape[0] if self.fan == "in" else (shape[0] + shape[-1]) / 2)
        if self.distribution == "normal":
            return rng.normal(0.0, math.sqrt(variance), shape)
        return rng.uniform(-math.sqrt(3 * variance), math.sqrt(3 * variance), shape)


@dataclass(frozen=True, repr=False)
class Orthogonal(Initializer):
    """gain · Q with QᵀQ = 1 (or QQᵀ = 1), uniform over the orthogonal matrices.

    Reference: Saxe, McClelland, Ganguli (2014); the sign rule of Mezzadri (2007) makes Q Haar-distributed.
    """

    gain: float = 1.0

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> HostArray:
        tall = rng.standard_normal((max(shape), min(shape)))
        Q, R = np.linalg.qr(tall)
        Q *= np.where(np.diag(R) < 0, -1.0, 1.0)
        return self.gain * (Q if shape[0] >= shape[1] else Q.T)


zeros = Constant(0.0)
normal, uniform = Normal(), Uniform()
glorot_normal = VarianceScaling(1.0, "mean", "normal")
glorot_uniform = VarianceScaling(1.0, "mean", "uniform")
he_normal, he_uniform = VarianceScaling(2.0, "in", "normal"), VarianceScaling(2.0, "in", "uniform")
lecun_normal, lecun_uniform = VarianceScaling(1.0, "in", "normal"), VarianceScaling(1.0, "in", "uniform")
orthogonal = Orthogonal()

INITIALIZERS: dict[str, Initializer] = {
    "zeros": zeros, "normal": normal, "uniform": uniform, "orthogonal": orthogonal,
    "glorot_normal": glorot_normal, "glorot_uniform": glorot_uniform,
    "he_normal": he_normal, "he_uniform": he_uniform,
    "lecun_normal": lecun_normal, "lecun_uniform": lecun_uniform,
}  # fmt: skip


def default_initializer(phi: Activation) -> Initializer:
    """Return he_normal for half-rectified activations, lecun_normal for selu, else glorot_uniform."""
    if phi.name in ("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish", "softplus"):
        return he_normal
    return lecun_normal if phi.name == "selu" else glorot_uniform
