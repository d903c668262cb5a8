"""The slope of a loss along every parameter and every input: what gradients are held to.

Why these oracles: one is never the code under test. Gradients are held to the complex step f′(x) = Im f(x + ih)/h, which has
no cancellation, through the reference backend in complex128. A formula that is not complex-differentiable (an |x| written
with abs, a cast) would make it lie, so first it must equal a central difference in float64 along one random direction of all
numbers; where it does not, every element is held to (f(x + h) − f(x − h))/2h in float64, and the report says so.

Reference: Squire, Trapp, Using complex variables to estimate derivatives (1998).
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.network import Network

COMPLEX_STEP = (
    1e-30  # h: far below eps, so the real part of every intermediate is that of the plain evaluation
)
REAL_STEP = 1e-6  # h of central differences, which then err by some 10⁻¹⁰ of the loss; a larger one crosses more kinks
EXACT, DIFFERENCED = 1e-12, 1e-6  # of the largest element: what float64 is held to by each of the two
COARSEST = 1e-4  # of the largest slope: differences that are not even as exact as this prove nothing

Numbers = dict[str, np.ndarray]


class ComplexBackend(Backend):
    """The reference in complex128, for complex-step derivatives."""

    name = "complex"
    dtypes = ("complex128",)


class Twin:
    """The network in another type on a backend of the reference, and the batch: `loss` as a function of `numbers`."""

    def __init__(
        self, network: Network, backend: Backend, dtype: str, loss: Any, batch: tuple[Any, Any, Any]
    ) -> None:
        x, self.y, self.weight = batch
        self.loss, self.backend = loss, backend
        self.network = Network(network.n_in, network.layers, backend, dtype, network.seed)
        params = self.network.params
        params.assign({name: value.astype(dtype) for name, value in network.params.to_host().items()})
        backend.write(params.step, 0, int(network.params.step[0]))
        self.x = np.array(network.backend.to_host(network.backend.asarray(x, network.dtype)), dtype)
        self.ws = self.network.workspace(len(self.x), seed=network.seed)
        self.numbers = {slot.name: slot.view(params.theta) for slot in params.slots} | {"x": self.x}

    def value(self) -> Any:
        z = self.network.run(self.x, self.ws)
        return np.asarray(self.loss(self.backend, z, self.y, sample_weight=self.weight))[()]

    def move(self, factor: complex, direction: Numbers) -> None:
        for name, values in self.numbers.items():
            values += factor * direction[name]


def oracle(network: Network, loss: Any, x: Any, y: Any, weight: Any) -> tuple[str, float, Numbers]:
    """(method, how exact it is relative to the largest element, the slope of the loss along each number of θ and x).

    The complex step where it equals a float64 difference, else float64 differences.
    """
    why, bent, real = _complex_step(network, loss, (x, y, weight))
    if bent is not None:
        return "complex step", EXACT, _slopes(bent, _complex_slope)
    slopes = _slopes(real, _real_slope)
    largest = max(float(np.abs(slope).max(initial=0)) for slope in slopes.values())
    exactness = max(DIFFERENCED, _noise(real) / largest if largest else 0.0)
    if exactness > COARSEST:
        raise ConfigurationError(
            f"the loss is {real.value():.3g} and its largest slope {largest:.3g}: float64 differences see no more than "
            f"{exactness:.0e} of it. Leave out what is constant in the loss, or make it complex-differentiable"
        )
    return f"float64 differences ({why})", exactness, slopes


def _complex_step(network: Network, loss: Any, batch: tuple[Any, Any, Any]) -> tuple[str, Twin | None, Twin]:
    """(why it is of no use here, complex twin or None, real twin)"""
    real = Twin(network, Backend(), "float64", loss, batch)
    first, second = real.value(), real.value()
    if first != second and first == first:
        raise ConfigurationError(
            f"the loss of the same batch is {first!r} in one pass and {second!r} in the next: a layer or the loss is not a "
            "function of its arguments, and has no slope to compare with"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            bent = Twin(network, ComplexBackend(), "complex128", loss, batch)
            by_step, by_difference = _slopes_along_one_direction(bent, real)
    except Exception as error:  # whatever a formula does with complex numbers; in float64 it has just run
        return f"the complex step ended in {type(error).__name__}: {error}", None, real
    if abs(by_step - by_difference) > 1e-5 * abs(by_difference) + _noise(real):
        return (
            f"along one direction the complex step gives {by_step:.6g}, they {by_difference:.6g}",
            None,
            real,
        )
    return "", bent, real


def _noise(real: Twin) -> float:
    """What the rounding of the loss does to a difference quotient: eps |L| / h, ten times for the sums within L."""
    return 10 * float(np.finfo(np.float64).eps * abs(real.value())) / REAL_STEP


def _slopes_along_one_direction(bent: Twin, real: Twin) -> tuple[float, float]:
    rng, values = np.random.default_rng(0), []
    direction = {name: rng.normal(size=numbers.shape) for name, numbers in real.numbers.items()}
    bent.move(1j * COMPLEX_STEP, direction)
    by_step = float(bent.value().imag) / COMPLEX_STEP
    bent.move(-1j * COMPLEX_STEP, direction)
    for factor in (REAL_STEP, -2 * REAL_STEP):
        real.move(factor, direction)
        values.append(float(real.value()))
    real.move(REAL_STEP, direction)
    return by_step, (values[0] - values[1]) / (2 * REAL_STEP)


def _slopes(twin: Twin, slope: Callable[..., float]) -> Numbers:
    out = {name: np.empty(numbers.shape) for name, numbers in twin.numbers.items()}
    for name, numbers in twin.numbers.items():
        for at in np.ndindex(numbers.shape):
            out[name][at] = slope(twin, numbers, at)
    return out


def _complex_slope(twin: Twin, numbers: np.ndarray, at: tuple[int, ...]) -> float:
    """Im f(x + ih)/h"""
    numbers[at] += 1j * COMPLEX_STEP
    slope = float(twin.value().imag) / COMPLEX_STEP
    numbers[at] = numbers[at].real
    return slope


def _real_slope(twin: Twin, numbers: np.ndarray, at: tuple[int, ...]) -> float:
    """(f(x + h) − f(x − h))/2h"""
    kept = numbers[at]
    h = REAL_STEP * max(1.0, abs(kept))
    numbers[at] = kept + h
    above = float(twin.value())
    numbers[at] = kept - h
    below = float(twin.value())
    numbers[at] = kept
    return (above - below) / (2 * h)
