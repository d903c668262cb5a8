"""Assert that backends agree, for this package's tests and for your own layers.

Where two backends differ by more than the tolerance, `rounding` says how far rounding alone moves each
tensor. Some updates of θ then differ by the sum of three parts: rounding in each update, the difference of
the first gradients, and what follows from θ being different already.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import eps
from ffnn_gpu.backends import Backend, get_backend, probe
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.losses.standard import get_loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.choice import get_optimizer
from ffnn_gpu.optim.optimizers import SGD, Optimizer
from ffnn_gpu.testing.assertions import Report, agree, tolerance_for
from ffnn_gpu.testing.bounds import Bounds, Updates
from ffnn_gpu.testing.derivatives import Numbers
from ffnn_gpu.testing.one_pass import as_network, one_pass, some_steps
from ffnn_gpu.testing.rounding import ROOM, scatter
from ffnn_gpu.testing.strict_device import StrictBackend
from ffnn_gpu.testing.tolerances import Difference
from ffnn_gpu.testing.waits import counted, waits_of_step

Room: TypeAlias = Mapping[str, float]


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
    what rounding alone changes. A layer, loss or optimizer that waits for a strict device is named by a
    UserWarning.

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
    trial = Trial(network, loss, get_optimizer(optimizer or SGD(lr=1e-2)), x, y, steps)
    found, waits = trial.differences(first, others)
    report = Report(f"parity with {first}", found, waits).checked()
    if waits:
        warnings.warn(f"{'; '.join(waits)}. A GPU stops for each, and no graph holds the step", stacklevel=2)
    return report


class Ran(NamedTuple):
    """A trial on one backend: the first pass, θ and the running statistics after all updates, what waits."""

    backend: Any
    first_pass: Numbers
    after: Numbers
    waits: list[str]


@dataclass(frozen=True)
class Trial:
    """Some updates of a network by one batch, to be run on several backends."""

    network: Network
    loss: Loss
    optimizer: Optimizer
    x: Array
    y: Array
    steps: int

    def differences(
        self, first: Any, others: Sequence[Any]
    ) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
        """Return the differences of the others from the first backend, and what waits for the device.

        Where rounding alone moves a tensor beyond the tolerance, the backends are compared in float64 too:
        a wrong formula may hide in it.
        """
        standard, results = self.run_on(first), [self.run_on(backend) for backend in others]
        waits = tuple(sentence for each in results for sentence in each.waits)
        found = [*self._compared(standard, results, {}, [()] * len(others))]
        if agree(found):
            return tuple(found), waits
        of_both = [scatter(each, self.loss, self.x, self.y, None) for each in self._both(first)]
        room = {name: max(each[name] for each in of_both) for name in of_both[0]}
        found = [*self._compared(standard, results, room, [self._later(first, b) for b in others])]
        is_known = all("float64" in get_backend(each).dtypes for each in (first, *others))
        if agree(found) and is_known and self.network.compute_dtype != np.float64:
            exact = replace(self, network=self.network.copied(first, "float64"))
            more = exact.differences(first, others)[0]
            found += [replace(each, what=f"{each.what} in float64") for each in more]
        return tuple(found), waits

    def run_on(self, backend: Any) -> Ran:
        """Return the results on one backend."""
        there = self.network.to(backend)
        by_parts, of_loss, counters = counted(there, self.loss)
        if counters:  # at its first use, a backend may wait to time its products
            one_pass(there, self.loss, self.x, self.y)
        first_pass = one_pass(by_parts, of_loss, self.x, self.y)
        waits = [f"{sentence} from {backend}" for each in counters for sentence in each.sentences()]
        after = self._updated(there, self.steps)
        waits += [f"{sentence} from {backend}" for sentence in waits_of_step(there, self.optimizer)]
        return Ran(backend, first_pass, after, waits)

    def _compared(
        self, standard: Ran, results: Sequence[Ran], room: Room, later: Sequence[Sequence[Room]]
    ) -> Iterator[Difference]:
        """Yield all differences. later: of each backend, the room of each update after the first."""
        network, (_, want, after, _) = self.network, standard
        updates = Updates(
            network.params.to_host(), after, want, self.optimizer, self.steps, eps(network.dtype)
        )
        bounds = Bounds(tolerance_for("parity", network, self.x), network.compute_dtype, _twice(room))
        for (backend, got, there, _), rooms in zip(results, later, strict=True):
            yield from bounds.compared(got, want, f"{{}} on {backend}")
            what = f"{{}} on {backend} after {self.steps} steps"
            yield from updates.compared(there, got, bounds, [*map(_twice, rooms)], what)

    def _later(self, first: Any, backend: Any) -> list[Room]:
        """Return how far the gradients of each update after the first may differ.

        Each is the sum of rounding, and of how far the first backend's gradient moves if it gets the θ of the
        other one.
        """
        here, there, rooms = self.network.to(first), self.network.to(backend), list[Room]()
        for _ in range(1, self.steps):
            self._updated(here, 1), self._updated(there, 1)
            rounding = scatter(here, self.loss, self.x, self.y, None)
            want, got = (one_pass(each, self.loss, self.x, self.y) for each in (here, there.to(first)))
            moved = {name: float(np.abs(got[name] - want[name]).max(initial=0)) for name in want}
            rooms.append({name: rounding[name] + moved[name] / ROOM for name in want})
        return rooms

    def _both(self, first: Any) -> Iterable[Network]:
        return self.network, self.network.to(first)

    def _updated(self, network: Network, steps: int) -> Numbers:
        return some_steps(network, self.loss, self.optimizer, self.x, self.y, steps)


def _twice(room: Room) -> Room:
    """Return the room for two backends, because both round."""
    return {name: 2 * size for name, size in room.items()}
