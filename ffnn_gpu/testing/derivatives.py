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
from typing import Any, NamedTuple, TypeAlias

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
        self.loss: Any = loss  # a Loss, or another function of its arguments
        self.backend = backend
        self.loss_of: Callable[[HostArray], Any] = self._loss_of_first
        self.network = network.copied(backend, dtype)
        params = self.network.params
        self.x = np.array(network.backend.to_host(network.backend.asarray(x, network.dtype)), dtype)
        if network.members is not None and self.x.ndim == 2:
            self.x = np.stack([self.x] * len(network.members))  # each member has its own gradient
        self.ws = self.network.workspace(self.x.shape[-2])
        differentiable = self.x[..., : network.n_in - len(network.levels)]  # codes are not
        self.numbers = {slot.name: slot.view(params.theta) for slot in params.slots} | {"x": differentiable}

    def outputs(self) -> tuple[HostArray, HostArray]:
        """Return the outputs, a buffer of the next pass, and the loss; of a pack the members' losses."""
        z = self.network.run(self.x, self.ws)
        return z, np.asarray(self.loss_of(z))

    def _loss_of_first(self, z: HostArray) -> Any:
        """Return the loss. Later passes use the same targets and weights, which are checked once."""
        if isinstance(self.loss, Loss):
            y, weight = self.loss.checked_arguments(self.backend, z, self.y, None, self.weight)
            self.loss_of = lambda z: self.loss(self.backend, z, y, None, weight, checked=True)
        else:
            self.loss_of = lambda z: self.loss(self.backend, z, self.y, sample_weight=self.weight)
        return self.loss_of(z)

    def value(self) -> Array:
        return self.outputs()[1].sum()

    def move(self, factor: complex, direction: Numbers) -> None:
        for name, values in self.numbers.items():
            values += factor * direction[name]


class Oracle(NamedTuple):
    """What a network should compute.

    Attributes:
        method: how the slopes were computed, for messages.
        error: of the method, relative to the largest element.
        output, loss: of a pass of the reference in float64.
        slopes: the derivative of the loss with respect to each number.
    """

    method: str
    error: float
    output: HostArray
    loss: HostArray
    slopes: Numbers


def oracle(network: Network, loss: Loss, x: Array, y: Array, weight: Array | None) -> Oracle:
    """Return what the network should compute.

    The method is the complex step if it equals a float64 difference, else float64 differences.

    Raises:
        ConfigurationError: two passes give different losses, or differences are too inexact.
    """
    real = Twin(network, Backend(), "float64", loss, (x, y, weight))
    z, value = real.outputs()
    exact, first = (z.copy(), value), float(value.sum())
    complex_twin, why = _complex_step(real, first, network, loss, (x, y, weight))
    if complex_twin is not None:
        return Oracle("complex step", EXACT, *exact, _slopes(complex_twin, _complex_slope))
    slopes = _slopes(real, _real_slope)
    largest = max(float(np.abs(slope).max(initial=0)) for slope in slopes.values())
    size = float(
        np.abs(value).sum() + np.abs(z).max(initial=0)
    )  # a loss far below the outputs rounds as they do
    exactness = max(DIFFERENCED, _noise(size) / largest if largest else 0.0)
    if exactness > COARSEST:
        raise ConfigurationError(
            f"the loss is {real.value():.3g}, the largest output {np.abs(z).max(initial=0):.3g} and the "
            f"largest slope {largest:.3g}, so float64 differences have a relative error of {exactness:.0e}. "
            "Remove constants from the loss, or make it complex-differentiable"
        )
    return Oracle(f"float64 differences ({why})", exactness, *exact, slopes)


def _complex_step(
    real: Twin, first: float, network: Network, loss: Loss, batch: Batch
) -> tuple[Twin | None, str]:
    """Return (complex twin, ""), or (None, reason against the complex step). first: the loss.

    Why three steps of the differences: where the loss is far below the outputs, it has a larger rounding
    error than its size says, and a step of 1e-6 is too small for it.
    """
    second = float(real.value())
    if first != second and first == first:
        raise ConfigurationError(
            f"the loss of the same batch is {first!r} in one pass and {second!r} in the next, so it has no "
            "derivative. Make the layers and the loss functions of their arguments alone"
        )
    rng = np.random.default_rng(0)
    direction = {name: rng.normal(size=numbers.shape) for name, numbers in real.numbers.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            twin = Twin(network, ComplexBackend(), "complex128", loss, batch)
            twin.move(1j * COMPLEX_STEP, direction)
            by_step = float(twin.value().imag) / COMPLEX_STEP
            twin.move(-1j * COMPLEX_STEP, direction)
    except Exception as error:  # a formula may fail in any way with complex numbers; it works in float64
        return None, f"the complex step ended in {type(error).__name__}: {error}"
    for h in (REAL_STEP, 10 * REAL_STEP, 100 * REAL_STEP):
        found = _difference(real, direction, h)
        if abs(by_step - found) <= 1e-5 * abs(found) + _noise(abs(first), h):
            return twin, ""
    found = _difference(real, direction, REAL_STEP)
    return None, f"along one direction the complex step gives {by_step:.6g}, differences {found:.6g}"


def _noise(size: float, h: float = REAL_STEP) -> float:
    """Return the rounding error of a difference quotient, 10 eps size / h, where 10 is for sums within L."""
    return 10 * float(np.finfo(np.float64).eps) * size / h


def _difference(real: Twin, direction: Numbers, h: float) -> float:
    """(f(x + h d) − f(x − h d))/2h"""
    real.move(h, direction)
    above = float(real.value())
    real.move(-2 * h, direction)
    below = float(real.value())
    real.move(h, direction)
    return (above - below) / (2 * h)


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
