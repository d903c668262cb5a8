"""Assert that gradients are exact and that backends agree, for this package's tests and for your own layers.

This module needs neither CuPy nor pytest; `pytest_ffnn_gpu` is the plugin for pytest. The oracles are in
`derivatives`, the bounds in `tolerances`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import eps, is_16_bit
from ffnn_gpu.backends import Backend, probe
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.losses.standard import get_loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.choice import get_optimizer
from ffnn_gpu.optim.optimizers import SGD, Optimizer
from ffnn_gpu.testing.derivatives import EXACT, Numbers, oracle
from ffnn_gpu.testing.one_pass import GRADIENT, as_network, one_pass, some_steps
from ffnn_gpu.testing.strict_device import StrictBackend
from ffnn_gpu.testing.tolerances import Difference, difference, difference_of_norms, tolerance

# Smallest scale of a gradient's error relative to the largest gradient, in float64 and in other types. A
# gradient that cancels to zero, such as the gradient of a bias before BatchNorm, has no scale of its own. Its
# rounding error in float32 is up to half an eps of the largest gradient.
SMALLEST_SCALE = 1e-2, 1e-1


@dataclass(frozen=True)
class Report:
    """The result of a comparison, to print.

    Attributes:
        method: "complex step", "float64 differences (reason)", or "parity with" a backend.
        differences: the largest difference of each tensor, in the order of computation.
    """

    method: str
    differences: tuple[Difference, ...]

    @property
    def worst(self) -> Difference:
        """Return the tensor with the largest error relative to its bound."""
        return max(self.differences, key=lambda found: found.excess)

    def __str__(self) -> str:
        bad = [found for found in self.differences if found.excess > 1]
        first = f"{len(bad)} of them differ, {bad[0].what} first" if bad else "all agree"
        return f"{self.method}, {len(self.differences)} tensors: {first}; {self.worst}"

    def checked(self) -> "Report":
        """Return this report; raise AssertionError with its text if a tensor exceeds its bound."""
        if self.worst.excess > 1:
            raise AssertionError(str(self))
        return self


def check_gradients(
    subject: Network | Layer,
    loss: Loss | str,
    x: Array,
    y: Array,
    *,
    sample_weight: Array | None = None,
    relative: float | None = None,
) -> Report:
    """Raise AssertionError unless every element of ∇θ and ∂L/∂x equals the derivative of the loss.

    The derivative is computed by the complex step, or by float64 differences if a formula does not allow
    complex numbers. Where x holds category codes, ∂L/∂x must be 0. The network is copied; yours is not
    changed.

    Args:
        subject: a network on any backend, or a layer, which is put into a float64 network on NumPy.
        loss: a loss or its name.
        x, y: a batch. Keep it and the network small: every number costs a forward pass. Avoid kinks of ReLU.
        relative: bound relative to the largest element of each tensor. Default in float64: 1e-12, or 1e-6
            with differences. Default in other types: the "network" tolerance of the compute type.

    Raises:
        AssertionError: a gradient exceeds the bound.
        ConfigurationError: the loss has no usable derivative, or subject is neither a network nor a layer.
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
    x: Array,
    y: Array,
    loss: Loss | str,
    *,
    backends: Iterable[Any] | None = None,
    optimizer: str | Optimizer | None = None,
    steps: int = 3,
) -> Report:
    """Raise AssertionError unless all backends give the same outputs, loss, gradients and θ after `steps`
    updates.

    Outputs and gradients are compared within tolerance("parity"), and θ within `steps` times that.

    Args:
        subject: a network, or a layer, which is put into a float64 network.
        backends: the first one is the standard for the others. Default: the reference, NumPy, and CuPy if its
            probe passes, else a strict device (`ffnn_gpu.testing.strict_device`).
        steps: at most 10, because trajectories with different rounding diverge.

    Raises:
        AssertionError: two backends differ by more than the tolerance.
        ConfigurationError: there are fewer than two backends, or subject is neither a network nor a layer.
    """
    network, loss = as_network(subject, x), get_loss(loss) if isinstance(loss, str) else loss
    first, *others = backends or (Backend(), "numpy", "cupy" if probe().usable else StrictBackend())
    if not others:
        raise ConfigurationError(f"backends has only {first}; give at least two to compare")
    optimizer, relative = get_optimizer(optimizer or SGD(lr=1e-2)), _tolerance("parity", network, x)
    found: list[Difference] = []
    standard = network.to(first)
    before, want = standard.params.to_host(), one_pass(standard, loss, x, y)
    after = some_steps(standard, loss, optimizer, x, y, steps)
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
    """Yield the difference of every tensor; in 16 bits also the norm's difference of every gradient."""
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


def _tolerance(kind: str, network: Network, x: Array) -> float:
    weights = sum(len(slot.shape) > 1 for slot in network.params.slots)
    return tolerance(kind, network.compute_dtype, max(*network.widths, len(x)), max(1, weights))


def _scales(want: Numbers, dtype: np.dtype) -> dict[str, float]:
    """Return each tensor's scale: its largest element, and at least a fraction of the largest gradient."""
    size = {name: float(np.abs(value).max(initial=0)) for name, value in want.items()}
    largest = max((size[name] for name in size if name.startswith(GRADIENT)), default=0.0)
    floor = SMALLEST_SCALE[np.dtype(dtype) != np.float64] * (largest if largest > EXACT else 1.0)
    return {name: max(size[name], floor if name.startswith(GRADIENT) else 0.0) for name in size}


def _rounding_of_updates(
    before: Numbers, after: Numbers, want: Numbers, optimizer: Optimizer, relative: float, master_eps: float
) -> Numbers:
    """Return the scale of the error of each number after an update.

    A parameter's scale is the sum of:
    - how far its tensor moved;
    - 4 eps of its largest element, for storing it, divided by `relative`;
    - lr G with SGD, where G is the scale of its gradient; lr G/|g| with other rules, which divide by the
      gradient g. It is at most the 2 lr of a change of sign.

    A running statistic's scale is its largest element plus the largest of these last terms.
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
