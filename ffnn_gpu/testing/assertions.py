"""Assert that gradients are exact and that backends agree, for this package's tests and for your own layers.

This module needs neither CuPy nor pytest; `pytest_ffnn_gpu` is the plugin for pytest. The oracles are in
`derivatives`, the bounds in `tolerances`.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import eps
from ffnn_gpu.backends import Backend, probe
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.losses.standard import get_loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.choice import get_optimizer
from ffnn_gpu.optim.optimizers import SGD, Optimizer
from ffnn_gpu.testing.bounds import Bounds, Updates
from ffnn_gpu.testing.constant_parameters import with_other_values
from ffnn_gpu.testing.derivatives import oracle
from ffnn_gpu.testing.one_pass import GRADIENT, as_network, one_pass, some_steps
from ffnn_gpu.testing.rounding import exact_pass, scatter
from ffnn_gpu.testing.strict_device import StrictBackend
from ffnn_gpu.testing.tolerances import Difference, tolerance
from ffnn_gpu.testing.waits import counted


@dataclass(frozen=True)
class Report:
    """The result of a comparison, to print.

    Attributes:
        method: "complex step", "float64 differences (reason)", or "parity with" a backend.
        differences: the largest difference of each tensor, in the order of computation.
        waits: what waits for a strict device within a pass.
        left_out: the checks that were left out, and why.
    """

    method: str
    differences: tuple[Difference, ...]
    waits: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def worst(self) -> Difference:
        """Return the tensor with the largest error relative to its bound."""
        return max(self.differences, key=lambda found: found.excess)

    def __str__(self) -> str:
        bad = [found for found in self.differences if found.excess > 1]
        first = f"{len(bad)} of them differ, {bad[0].what} first" if bad else "all agree"
        text = f"{self.method}, {len(self.differences)} tensors: {first}; {self.worst}"
        return "; ".join([text, *self.waits, *self.left_out])

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
    complex numbers. Where x holds category codes, ∂L/∂x must be 0. Output and loss are compared with a
    float64 pass of the reference. The network is copied; yours is not changed. With a layer of your own,
    parameters that are constant, such as 0, are checked a second time at other values.

    Args:
        subject: a network on any backend, or a layer, which is put into a float64 network on NumPy.
        loss: a loss or its name.
        x, y: a batch. Keep it and the network small: every number costs a forward pass. Avoid kinks of ReLU.
        sample_weight: without it, ∂L/∂z is compared a second time, with random weights. If the loss raises
            NotImplementedError for weights, the report says that this check was left out.
        relative: bound relative to the largest element of each tensor. Default in float64: 1e-12, or 1e-6
            with differences. Default in other types: the "network" tolerance of the compute type. Where
            rounding alone moves a tensor further, it may differ by as much.

    Raises:
        AssertionError: a gradient exceeds the bound.
        ConfigurationError: the loss has no usable derivative, or subject is neither a network nor a layer.
    """
    network, loss = as_network(subject, x), get_loss(loss) if isinstance(loss, str) else loss
    network = network.to(network.backend)
    method, found = _against_oracle(network, loss, x, y, sample_weight, relative)
    if (other := with_other_values(network)) is not None:
        _, more = _against_oracle(other, loss, x, y, sample_weight, relative)
        found += [replace(each, what=f"{each.what} at other values of the parameters") for each in more]
    left_out = list[str]()
    if sample_weight is None and np.size(x):
        try:
            found += _weighted(network, loss, x, y, relative)
        except NotImplementedError as error:
            reason = f"the loss raises NotImplementedError: {error}"
            left_out.append(f"the check with weights of rows was left out, because {reason}")
    return Report(method, tuple(found), left_out=tuple(left_out)).checked()


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

    Outputs and gradients are compared within tolerance("parity"), and θ within `steps` times that, or within
    what rounding alone changes. A layer or loss that waits for a strict device is named by a UserWarning.

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
    standard = network.to(first)
    before, want = standard.params.to_host(), one_pass(standard, loss, x, y)
    after, waits = some_steps(standard, loss, optimizer, x, y, steps), list[str]()
    updates = Updates(before, after, want, optimizer, steps, eps(network.dtype))
    results = []
    for backend in others:
        there = network.to(backend)
        by_parts, of_loss, counters = counted(there, loss)
        if counters:  # at its first use, a backend may wait to time its products
            one_pass(there, loss, x, y)
        got = one_pass(by_parts, of_loss, x, y)
        waits += [f"{sentence} from {backend}" for each in counters for sentence in each.sentences()]
        results.append((backend, got, some_steps(there, loss, optimizer, x, y, steps)))

    def compared(room: Mapping[str, float]) -> Iterator[Difference]:
        twice = {name: 2 * size for name, size in room.items()}  # both backends round
        bounds = Bounds(relative, network.compute_dtype, twice)
        for backend, got, there in results:
            yield from bounds.compared(got, want, f"{{}} on {backend}")
            yield from updates.compared(there, got, bounds, f"{{}} on {backend} after {steps} steps")

    found = _with_room(compared, (network, standard), loss, x, y, None)
    report = Report(f"parity with {first}", tuple(found), tuple(waits)).checked()
    if waits:
        warnings.warn(f"{'; '.join(waits)}. A GPU stops for each, and no graph holds the step", stacklevel=2)
    return report


def _against_oracle(
    network: Network, loss: Loss, x: Array, y: Array, weight: Array | None, relative: float | None
) -> tuple[str, list[Difference]]:
    """Return the oracle's method, and the differences of output, loss and every gradient."""
    got = one_pass(network, loss, x, y, weight)
    method, least, slopes = oracle(network, loss, x, y, weight)
    want, bound = exact_pass(network, loss, x, y, weight), _tolerance("network", network, x)
    want |= {name: slopes[name.removeprefix(GRADIENT)] for name in got if name.startswith(GRADIENT)}
    if relative is None:
        relative = least if network.dtype == np.float64 else max(least, bound)

    def compared(room: Mapping[str, float]) -> Iterator[Difference]:
        of_output = max(bound, relative)
        return Bounds(relative, network.compute_dtype, room, of_output).compared(got, want, "the {}")

    return method, _with_room(compared, (network,), loss, x, y, weight)


def _weighted(network: Network, loss: Loss, x: Array, y: Array, relative: float | None) -> list[Difference]:
    """Return the differences of ∂L/∂z for random weights of the rows, at the network's outputs z."""
    backend, B = network.backend, np.shape(x)[-2]
    z = backend.to_host(network.forward(backend.asarray(x, network.compute_dtype), network.workspace(B)))
    outputs = Network(network.widths[-1], [], backend, network.dtype, members=network.members)
    weight = np.random.default_rng(0).uniform(0.5, 1.5, (B,)).astype(network.dtype)
    _, found = _against_oracle(outputs, loss, np.array(z, network.dtype), y, weight, relative)
    what = "the gradient at the output with weights of rows"
    return [replace(each, what=what) for each in found if each.what == f"the {GRADIENT}x"]


def _with_room(
    compared: Callable[[Mapping[str, float]], Iterable[Difference]],
    networks: tuple[Network, ...],
    loss: Loss,
    x: Array,
    y: Array,
    weight: Array | None,
) -> list[Difference]:
    """Return the differences, within wider bounds if one is too large: what rounding alone changes."""
    found = list(compared({}))
    if all(each.excess <= 1 for each in found):
        return found
    rooms = [scatter(network, loss, x, y, weight) for network in networks]
    return list(compared({name: max(room[name] for room in rooms) for name in rooms[0]}))


def _tolerance(kind: str, network: Network, x: Array) -> float:
    weights = sum(len(slot.shape) > 1 for slot in network.params.slots)
    return tolerance(kind, network.compute_dtype, max(*network.widths, np.shape(x)[-2]), max(1, weights))
