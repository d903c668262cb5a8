"""Proof for tests: are the gradients exact, do two backends agree. For this package's suite and for layers of your own.

Imports and runs without CuPy and without pytest; `pytest_ffnn_gpu` is the plugin for pytest. The oracles are in
`slopes`, the bounds in `tolerances`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.arrays.precision import eps, is_16_bit
from ffnn_gpu.backends.choice import probe
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.losses.standard import get_loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.optimizers import SGD, Optimizer
from ffnn_gpu.testing.derivatives import EXACT, Numbers, oracle
from ffnn_gpu.testing.one_pass import GRADIENT, as_network, one_pass, some_steps
from ffnn_gpu.testing.strict_device import StrictBackend
from ffnn_gpu.testing.tolerances import (
    Difference,
    assert_close,
    assert_no_worse,
    difference,
    difference_of_norms,
    tolerance,
)

__all__ = [
    "Difference",
    "Report",
    "assert_close",
    "assert_no_worse",
    "assert_parity",
    "check_gradients",
    "tolerance",
]

# Of the largest gradient, in float64 and in other types: one that cancels to zero, a bias before BatchNorm, has no scale of
# its own. In float32 its rounding is up to half an eps of the largest.
SMALLEST_SCALE = 1e-2, 1e-1


@dataclass(frozen=True)
class Report:
    """What was compared, in the order it is computed in, by which method; `print` it.

    Attributes:
        method: "complex step", "float64 differences (why)", or "parity with" a backend.
        differences: for each tensor, where it differs most.
    """

    method: str
    differences: tuple[Difference, ...]

    @property
    def worst(self) -> Difference:
        """The tensor that exceeds its bound most, or comes nearest to it."""
        return max(self.differences, key=lambda found: found.excess)

    def __str__(self) -> str:
        bad = [found for found in self.differences if found.excess > 1]
        first = f"{len(bad)} of them differ, {bad[0].what} first" if bad else "all agree"
        return f"{self.method}, {len(self.differences)} tensors: {first}; {self.worst}"

    def checked(self) -> "Report":
        """This report. Raises AssertionError with it if anything exceeds its bound."""
        if self.worst.excess > 1:
            raise AssertionError(str(self))
        return self


def check_gradients(
    subject: Network | Layer,
    loss: Any,
    x: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    relative: float | None = None,
) -> Report:
    """Raise AssertionError unless every element of ∇θ and ∂L/∂x is the derivative of the loss, by the complex step.

    Args:
        subject: a network on any backend, or a layer, which is put into a float64 network on NumPy.
        loss: a loss or its name; one whose formulas do not take complex z is held to float64 differences.
        x, y: a batch; keep it and the network small, every number costs a forward pass. No ReLU should stand on its kink.
        relative: bound relative to the largest element of each tensor; by default in float64 1e-12 (1e-6 by differences),
            and the "network" tolerance of the type computed in for the others.

    Returns:
        The report: `method` says which oracle was used. The network is copied; yours is not touched.
    """
    network, loss = as_network(subject, x), get_loss(loss) if isinstance(loss, str) else loss
    network = network.to(network.backend)
    got = one_pass(network, loss, x, y, sample_weight)
    method, least, slopes = oracle(network, loss, x, y, sample_weight)
    if relative is None:
        relative = least if network.dtype == np.float64 else max(least, _tolerance("network", network, x))
    want = {name: slopes[name.removeprefix(GRADIENT)] for name in got if name.startswith(GRADIENT)}
    return Report(method, tuple(_compared(got, want, relative, network.compute_dtype, "the {}"))).checked()


def assert_parity(
    subject: Network | Layer,
    x: Any,
    y: Any,
    loss: Any,
    *,
    backends: Iterable[Any] | None = None,
    optimizer: Optimizer | None = None,
    steps: int = 3,
) -> Report:
    """Raise AssertionError unless all backends give the same outputs, loss, gradients and θ after `steps` updates.

    The first backend is the yardstick; by default they are the reference, NumPy and CuPy, or, where the probe does not pass,
    a strict device: NumPy with the manners of a GPU, which refuses what CuPy would (`ffnn_gpu.testing.strict_device`).
    Outputs and gradients are held to tolerance("parity"), what n updates did to θ to n times that. Trajectories of different
    rounding diverge, so use at most ten steps. A layer is put into a float64 network.

    Returns:
        The report: the worst tensor, its index, both values, the error in eps of the type computed in.
    """
    network, loss = as_network(subject, x), get_loss(loss) if isinstance(loss, str) else loss
    first, *others = backends or (Backend(), "numpy", "cupy" if probe().usable else StrictBackend())
    if not others:
        raise ConfigurationError(f"there is nothing to compare {first} with: name two backends or more")
    optimizer, relative = optimizer or SGD(lr=1e-2), _tolerance("parity", network, x)
    found: list[Difference] = []
    yardstick = network.to(first)
    before, want = yardstick.params.to_host(), one_pass(yardstick, loss, x, y)
    after = some_steps(yardstick, loss, optimizer, x, y, steps)
    moved = _rounding_of_updates(before, after, want, optimizer, relative, eps(network.dtype))
    for backend in others:
        there = network.to(backend)
        got = one_pass(there, loss, x, y)
        found += _compared(got, want, relative, network.compute_dtype, f"{{}} on {backend}")
        for name, value in some_steps(there, loss, optimizer, x, y, steps).items():
            what = f"{name} on {backend} after {steps} steps"
            found.append(
                difference(value, after[name], steps * relative, what, moved[name], network.compute_dtype)
            )
    return Report(f"parity with {first}", tuple(found)).checked()


def _compared(
    got: Numbers, want: Numbers, relative: float, dtype: np.dtype, what: str
) -> Iterator[Difference]:
    """Every tensor by its worst element; in 16 bits outputs more closely, and gradients by their norm too."""
    narrow, scales = is_16_bit(dtype), _scales(want, dtype)
    for name, value in want.items():
        of_gradient = name.startswith(GRADIENT)
        bound = tolerance("output16", dtype) if narrow and not of_gradient else relative
        yield difference(got[name], value, bound, what.format(name), scales[name], dtype)
        if narrow and of_gradient:
            floor = scales[name] if scales[name] > np.abs(value).max(initial=0) else 0.0
            yield difference_of_norms(
                got[name], value, tolerance("norm16", dtype), what.format(name), floor, dtype
            )


def _tolerance(kind: str, network: Network, x: Any) -> float:
    weights = sum(len(slot.shape) > 1 for slot in network.params.slots)
    return tolerance(kind, network.compute_dtype, max(*network.widths, len(x)), max(1, weights))


def _scales(want: Numbers, dtype: np.dtype) -> dict[str, float]:
    """What each tensor's error is relative to: its largest element, of a gradient at least a part of the largest of all."""
    size = {name: float(np.abs(value).max(initial=0)) for name, value in want.items()}
    largest = max((size[name] for name in size if name.startswith(GRADIENT)), default=0.0)
    floor = SMALLEST_SCALE[np.dtype(dtype) != np.float64] * (largest if largest > EXACT else 1.0)
    return {name: max(size[name], floor if name.startswith(GRADIENT) else 0.0) for name in size}


def _rounding_of_updates(
    before: Numbers, after: Numbers, want: Numbers, optimizer: Optimizer, relative: float, master_eps: float
) -> Numbers:
    """What the error of each number after an update is relative to.

    Of a parameter: how far its tensor moved; 4 eps of its largest element, for storing it; lr G, with G what its gradient's
    error is relative to; and, as all rules but SGD's divide by the gradient, lr G/|g| where g is small beside G: at most the
    2 lr of a change of sign. Of a running statistic: its largest element, and the most that such a parameter may add to it.
    """
    G, lr, linear = _scales(want, np.dtype(np.float32)), optimizer.lr, isinstance(optimizer, SGD)
    loose = {}
    for name in after:
        if GRADIENT + name not in want:
            continue
        scale, g = G[GRADIENT + name], np.abs(want[GRADIENT + name])
        loose[name] = lr * scale if linear else lr * scale / np.maximum(g, scale * relative / 2)
    most, found = max((float(np.max(part, initial=0)) for part in loose.values()), default=0.0), {}
    for name, value in after.items():
        size, moved = np.abs(value).max(initial=0), np.abs(value - before[name]).max(initial=0)
        found[name] = (
            moved + 4 * master_eps / relative * size + loose[name]
            if name in loose
            else np.asarray(size + most)
        )
    return found
