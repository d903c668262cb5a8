"""Derivatives of a loss with respect to every parameter and input, the oracle for gradients.

- The complex step f′(x) = Im f(x + ih)/h has no cancellation. It runs on the reference backend in complex128.
- A formula that is not complex-differentiable (an |x| written with abs, a cast) would make it wrong. So it is
  first compared with a central difference in float64 along one random direction of all numbers.
- If they differ, every element is computed by (f(x + h) − f(x − h))/2h in float64, and the report contains
  the reason.

Why two oracles: a difference checks the complex step, and neither uses the code under test, `backward`.

Reference: Squire, Trapp: Using complex variables to estimate derivatives (1998).
"""

import warnings
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends import Backend
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.network import Network

COMPLEX_STEP = 1e-30  # h, far below eps, so real parts of intermediate values do not change
REAL_STEP = 1e-6  # h of central differences: an error near 10⁻¹⁰ of the loss; a larger h crosses more kinks
EXACT, DIFFERENCED = 1e-12, 1e-6  # bounds in float64, relative to the largest element, of the two oracles
COARSEST = 1e-4  # relative to the largest slope: less exact differences prove nothing

Batch: TypeAlias = tuple[Array, Array, Array | None]  # x, y, sample weights
Numbers: TypeAlias = dict[str, HostArray]


class ComplexBackend(Backend):
    """The reference in complex128, for complex-step derivatives."""

    name = "complex"
    dtypes = ("complex128",)


class Twin:
    """Compute the loss of one batch as a function of `numbers`, on a copy of a network in another type.

    The loss of a pack is the sum of its members' losses.
    """

    def __init__(self, network: Network, backend: Backend, dtype: str, loss: Loss, batch: Batch) -> None:
        x, self.y, self.weight = batch
        self.loss, self.backend = loss, backend
        self.network = Network(network.n_in, network.layers, backend, dtype, network.seed, network.members)
        params = self.network.params
        params.assign({name: value.astype(dtype) for name, value in network.params.to_host().items()})
        backend.write(params.step, 0, int(network.params.step[0]))
        self.x = np.array(network.backend.to_host(network.backend.asarray(x, network.dtype)), dtype)
        if network.members is not None and self.x.ndim == 2:
            self.x = np.stack([self.x] * len(network.members))  # each member has its own gradient
        self.ws = self.network.workspace(self.x.shape[-2])
        differentiable = self.x[..., : network.n_in - len(network.levels)]  # codes are not
        self.numbers = {slot.name: slot.view(params.theta) for slot in params.slots} | {"x": differentiable}

    def value(self) -> Array:
        z = self.network.run(self.x, self.ws)
        return np.asarray(self.loss(self.backend, z, self.y, sample_weight=self.weight)).sum()

    def move(self, factor: complex, direction: Numbers) -> None:
        for name, values in self.numbers.items():
            values += factor * direction[name]


def oracle(
    network: Network, loss: Loss, x: Array, y: Array, weight: Array | None
) -> tuple[str, float, Numbers]:
    """Return (method, its error relative to the largest element, derivatives of the loss).

    The method is the complex step if it equals a float64 difference, else float64 differences.

    Raises:
        ConfigurationError: two passes give different losses, or differences are too inexact.
    """
    why, complex_twin, real = _complex_step(network, loss, (x, y, weight))
    if complex_twin is not None:
        return "complex step", EXACT, _slopes(complex_twin, _complex_slope)
    slopes = _slopes(real, _real_slope)
    largest = max(float(np.abs(slope).max(initial=0)) for slope in slopes.values())
    exactness = max(DIFFERENCED, _noise(real) / largest if largest else 0.0)
    if exactness > COARSEST:
        raise ConfigurationError(
            f"the loss is {real.value():.3g} and its largest slope {largest:.3g}, so float64 differences "
            f"have a relative error of {exactness:.0e}. Remove constants from the loss, or make it "
            "complex-differentiable"
        )
    return f"float64 differences ({why})", exactness, slopes


def _complex_step(network: Network, loss: Loss, batch: Batch) -> tuple[str, Twin | None, Twin]:
    """Return ("", complex twin, real twin), or (reason against the complex step, None, real twin)."""
    real = Twin(network, Backend(), "float64", loss, batch)
    first, second = real.value(), real.value()
    if first != second and first == first:
        raise ConfigurationError(
            f"the loss of the same batch is {first!r} in one pass and {second!r} in the next, so it has no "
            "derivative. Make the layers and the loss functions of their arguments alone"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            complex_twin = Twin(network, ComplexBackend(), "complex128", loss, batch)
            by_step, by_difference = _slopes_along_one_direction(complex_twin, real)
    except Exception as error:  # a formula may fail in any way with complex numbers; it works in float64
        return f"the complex step ended in {type(error).__name__}: {error}", None, real
    if abs(by_step - by_difference) > 1e-5 * abs(by_difference) + _noise(real):
        why = f"along one direction the complex step gives {by_step:.6g}, differences {by_difference:.6g}"
        return why, None, real
    return "", complex_twin, real


def _noise(real: Twin) -> float:
    """Return the rounding error of a difference quotient, 10 eps |L| / h, where 10 is for sums within L."""
    return 10 * float(np.finfo(np.float64).eps * abs(real.value())) / REAL_STEP


def _slopes_along_one_direction(complex_twin: Twin, real: Twin) -> tuple[float, float]:
    rng, values = np.random.default_rng(0), []
    direction = {name: rng.normal(size=numbers.shape) for name, numbers in real.numbers.items()}
    complex_twin.move(1j * COMPLEX_STEP, direction)
    by_step = float(complex_twin.value().imag) / COMPLEX_STEP
    complex_twin.move(-1j * COMPLEX_STEP, direction)
    for factor in (REAL_STEP, -2 * REAL_STEP):
        real.move(factor, direction)
        values.append(float(real.value()))
    real.move(REAL_STEP, direction)
    return by_step, (values[0] - values[1]) / (2 * REAL_STEP)


def _slopes(twin: Twin, slope: Callable[..., float]) -> Numbers:
    out = {name: np.empty(numbers.shape) for name, numbers in twin.numbers.items()}
    out["x"] = np.zeros(twin.x.shape)
    for name, numbers in twin.numbers.items():
        for at in np.ndindex(numbers.shape):
            out[name][at] = slope(twin, numbers, at)
    return out


def _complex_slope(twin: Twin, numbers: HostArray, at: tuple[int, ...]) -> float:
    """Im f(x + ih)/h"""
    numbers[at] += 1j * COMPLEX_STEP
    slope = float(twin.value().imag) / COMPLEX_STEP
    numbers[at] = numbers[at].real
    return slope


def _real_slope(twin: Twin, numbers: HostArray, at: tuple[int, ...]) -> float:
    """(f(x + h) − f(x − h))/2h"""
    value = numbers[at]
    h = REAL_STEP * max(1.0, abs(value))
    numbers[at] = value + h
    above = float(twin.value())
    numbers[at] = value - h
    below = float(twin.value())
    numbers[at] = value
    return float((above - below) / (2 * h))
