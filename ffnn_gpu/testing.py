"""Proof for tests: are the gradients exact, do two backends agree. For this package's suite and for layers of your own.

Imports and runs without CuPy and without pytest; `pytest_ffnn_gpu` is the plugin for pytest. The oracles are in
`slopes`, the bounds in `tolerances`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.backend import probe
from ffnn_gpu.backend.precision import eps
from ffnn_gpu.backend.reference import Backend
from ffnn_gpu.layers import Layer
from ffnn_gpu.network import Network
from ffnn_gpu.optimizers import SGD, Optimizer
from ffnn_gpu.passes import GRADIENT, as_network, one_pass, some_steps
from ffnn_gpu.slopes import EXACT, Numbers, oracle
from ffnn_gpu.tolerances import Difference, assert_close, assert_no_worse, difference, tolerance

__all__ = ["Difference", "Report", "assert_close", "assert_no_worse", "assert_parity", "check_gradients", "tolerance"]

SMALLEST_SCALE = 1e-2  # of the largest gradient: one that cancels to zero, a bias before BatchNorm, has no scale of its own


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
        if self.worst.excess > 1: raise AssertionError(str(self))
        return self


def check_gradients(
    subject: Network | Layer, loss: Any, x: Any, y: Any, *, sample_weight: Any = None, relative: float | None = None
) -> Report:
    """Raise AssertionError unless every element of ∇θ and ∂L/∂x is the derivative of the loss, by the complex step.

    Args:
        subject: a network on any backend, or a layer, which is put into a float64 network on NumPy.
        loss: a loss; one whose formulas do not take complex z is held to float64 differences.
        x, y: a batch; keep it and the network small, every number costs a forward pass. No ReLU should stand on its kink.
        relative: bound relative to the largest element of each tensor; by default in float64 1e-12 (1e-6 by differences),
            and the "network" tolerance of the type computed in for the others.

    Returns:
        The report: `method` says which oracle was used. Running statistics are as before, θ is never changed.
    """
    network = as_network(subject, x)
    got = one_pass(network, loss, x, y, sample_weight)
    method, least, slopes = oracle(network, loss, x, y, sample_weight)
    if relative is None:
        relative = least if network.dtype == np.float64 else max(least, _tolerance("network", network, x))
    want = {name: slopes[name.removeprefix(GRADIENT)] for name in got if name.startswith(GRADIENT)}
    return Report(method, tuple(
        difference(got[name], gradient, relative, f"the {name}", scale, network.compute_dtype)
        for (name, gradient), scale in zip(want.items(), _scales(want), strict=True)
    )).checked()  # fmt: skip


def assert_parity(
    subject: Network | Layer, x: Any, y: Any, loss: Any, *, backends: Iterable[Any] | None = None,
    optimizer: Optimizer | None = None, steps: int = 3,
) -> Report:  # fmt: skip
    """Raise AssertionError unless all backends give the same outputs, loss, gradients and θ after `steps` updates.

    The first backend is the yardstick; by default they are the reference, NumPy and, where the probe passes, CuPy.
    Outputs and gradients are held to tolerance("parity"), what n updates did to θ to n times that. Trajectories of different
    rounding diverge, so use at most ten steps. A layer is put into a float64 network.

    Returns:
        The report: the worst tensor, its index, both values, the error in eps of the type computed in.
    """
    network = as_network(subject, x)
    first, *others = backends or (Backend(), "numpy", *(["cupy"] if probe().usable else []))
    optimizer, relative, found = optimizer or SGD(lr=1e-2), _tolerance("parity", network, x), []
    yardstick = network.to(first)
    before, want = yardstick.params.to_host(), one_pass(yardstick, loss, x, y)
    after = some_steps(yardstick, loss, optimizer, x, y, steps)
    moved = _rounding_of_updates(before, after, want, optimizer.lr, relative, eps(network.dtype))
    for backend in others:
        there = network.to(backend)
        got = one_pass(there, loss, x, y)
        for (name, value), scale in zip(want.items(), _scales(want), strict=True):
            found.append(difference(got[name], value, relative, f"{name} on {backend}", scale, network.compute_dtype))
        for name, value in some_steps(there, loss, optimizer, x, y, steps).items():
            what = f"{name} on {backend} after {steps} steps"
            found.append(difference(value, after[name], steps * relative, what, moved[name], network.compute_dtype))
    return Report(f"parity with {first}", tuple(found)).checked()


def _tolerance(kind: str, network: Network, x: Any) -> float:
    return tolerance(kind, network.compute_dtype, max(*network.widths, len(x)), max(1, len(network.layers)))


def _scales(want: Numbers) -> list[float]:
    """What each tensor's error is relative to: its largest element, of a gradient at least 1 % of the largest of all."""
    size = {name: float(np.abs(value).max(initial=0)) for name, value in want.items()}
    largest = max((size[name] for name in size if name.startswith(GRADIENT)), default=0.0)
    floor = SMALLEST_SCALE * (largest if largest > EXACT else 1.0)
    return [max(size[name], floor if name.startswith(GRADIENT) else 0.0) for name in size]


def _rounding_of_updates(
    before: Numbers, after: Numbers, want: Numbers, lr: float, relative: float, master_eps: float
) -> Numbers:
    """What the error of each number after an update is relative to.

    Of a parameter: how far its tensor moved; 4 eps of its largest element, for storing it; and, as some rules divide by the
    gradient, lr G/|g| where g is small beside G, what g's error is relative to: at most the 2 lr of a change of sign. Of a
    running statistic: its largest element, and the most that such a parameter may add to it.
    """
    G = dict(zip(want, _scales(want), strict=True))
    loose = {
        name: lr * G[GRADIENT + name] / np.maximum(np.abs(want[GRADIENT + name]), G[GRADIENT + name] * relative / 2)
        for name in after if GRADIENT + name in want
    }  # fmt: skip
    most, found = max((float(part.max(initial=0)) for part in loose.values()), default=0.0), {}
    for name, value in after.items():
        size, moved = np.abs(value).max(initial=0), np.abs(value - before[name]).max(initial=0)
        found[name] = moved + 4 * master_eps / relative * size + loose[name] if name in loose else np.asarray(size + most)
    return found
