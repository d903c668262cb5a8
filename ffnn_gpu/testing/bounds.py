"""Bounds on all tensors of a pass and of an update: the scale of each tensor's error."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.precision import is_16_bit
from ffnn_gpu.optim.optimizers import SGD, Optimizer
from ffnn_gpu.testing.derivatives import EXACT, Numbers
from ffnn_gpu.testing.one_pass import GRADIENT
from ffnn_gpu.testing.rounding import NORM, ROOM
from ffnn_gpu.testing.tolerances import Difference, difference, difference_of_norms, tolerance

# Smallest scale of a gradient's error relative to the largest gradient, in float64 and in other types. A
# gradient that cancels to zero, such as the gradient of a bias before BatchNorm, has no scale of its own. Its
# rounding error in float32 is up to half an eps of the largest gradient.
SMALLEST_SCALE = 1e-2, 1e-1


@dataclass(frozen=True)
class Bounds:
    """Bounds on the differences of the tensors of a pass.

    Attributes:
        relative: of gradients, relative to the scale of each.
        dtype: the compute type.
        room: name → how far rounding alone moves a tensor; 0 if not among them.
        of_output: of output and loss; None for `relative`, in 16 bits for tolerance("output16").
    """

    relative: float
    dtype: np.dtype
    room: Mapping[str, float]
    of_output: float | None = None

    def compared(self, got: Numbers, want: Numbers, what: str) -> Iterator[Difference]:
        """Yield the difference of every tensor; in 16 bits also the norm's difference of every gradient."""
        narrow, scales = is_16_bit(self.dtype), _scales(want, self.dtype)
        of_output = self.of_output
        if of_output is None:
            of_output = tolerance("output16", self.dtype) if narrow else self.relative
        for name, value in want.items():
            of_gradient = name.startswith(GRADIENT)
            bound, title = self.relative if of_gradient else of_output, what.format(name)
            yield difference(
                got[name], value, bound, title, self.widened(scales[name], name, bound), self.dtype
            )
            if narrow and of_gradient:
                bound = tolerance("norm16", self.dtype)
                floor = scales[name] if scales[name] > np.abs(value).max(initial=0) else 0.0
                floor = self.widened(floor, NORM + name, bound * math.sqrt(max(value.size, 1)))
                yield difference_of_norms(got[name], value, bound, title, floor, self.dtype)

    def widened(self, scale: float, name: str, bound: float) -> float:
        """Return the scale of a tensor, or a larger one whose bound allows what rounding alone changes."""
        room = ROOM * self.room.get(name, 0.0)
        return max(scale, room / bound) if room and bound else scale


def _scales(want: Numbers, dtype: np.dtype) -> dict[str, float]:
    """Return each tensor's scale: its largest element, and at least a fraction of the largest gradient."""
    size = {name: float(np.abs(value).max(initial=0)) for name, value in want.items()}
    largest = max((size[name] for name in size if name.startswith(GRADIENT)), default=0.0)
    floor = SMALLEST_SCALE[np.dtype(dtype) != np.float64] * (largest if largest > EXACT else 1.0)
    return {name: max(size[name], floor if name.startswith(GRADIENT) else 0.0) for name in size}


@dataclass(frozen=True)
class Updates:
    """Some updates of θ on the backend that is the standard.

    Attributes:
        before, after: θ and the running statistics.
        want: the first pass.
        master_eps: eps of the type of θ.
    """

    before: Numbers
    after: Numbers
    want: Numbers
    optimizer: Optimizer
    steps: int
    master_eps: float

    def compared(
        self, there: Numbers, got: Numbers, bounds: Bounds, later: Sequence[Mapping[str, float]], what: str
    ) -> Iterator[Difference]:
        """Yield the difference of each number on another backend, whose first pass is `got`.

        later: how far rounding moves each tensor of the pass of each later update; () for 0.
        """
        scales, relative = self._scales(got, bounds, later), self.steps * bounds.relative
        for name, value in there.items():
            title = what.format(name)
            yield difference(value, self.after[name], relative, title, scales[name], bounds.dtype)

    def _scales(self, got: Numbers, bounds: Bounds, later: Sequence[Mapping[str, float]]) -> Numbers:
        """Return the scale of the error of each number after an update.

        A parameter's scale is the sum of:
        - how far its tensor moved;
        - 4 eps of its largest element, for storing it, divided by `relative`;
        - lr G with SGD, where G is the scale of its gradient; lr G/|g| with other rules, which divide by the
          gradient g. It is at most the 2 lr of a change of sign.

        A running statistic's scale is its largest element plus the largest of these last terms.
        """
        lr, linear, loose = self.optimizer.lr, isinstance(self.optimizer, SGD), dict[str, HostArray]()
        relative = bounds.relative
        for name, scale in self._of_gradients(got, bounds, later).items():
            g = np.abs(self.want[GRADIENT + name])
            loose[name] = np.asarray(
                lr * scale if linear else lr * scale / np.maximum(g, scale * relative / 2)
            )
        most, found = max((float(part.max(initial=0)) for part in loose.values()), default=0.0), {}
        for name, value in self.after.items():
            size, moved = np.abs(value).max(initial=0), np.abs(value - self.before[name]).max(initial=0)
            stored = moved + 4 * self.master_eps / relative * size
            found[name] = stored + loose[name] if name in loose else np.asarray(size + most)
        return found

    def _of_gradients(
        self, got: Numbers, bounds: Bounds, later: Sequence[Mapping[str, float]]
    ) -> dict[str, float]:
        """Return the scale of the gradient of each parameter, averaged over the updates.

        With room for rounding, the first gradient differs as the passes do, and each later one by its own
        room. Why not by that room in all: a wrong update of a gradient that cancels would not be detected.
        """
        scales, found = _scales(self.want, np.dtype(np.float32)), {}
        for name in self.after:
            if (key := GRADIENT + name) not in self.want:
                continue
            first = float(np.abs(got[key] - self.want[key]).max(initial=0)) if bounds.room else 0.0
            room = first + ROOM * sum(each[key] for each in later)
            found[name] = scales[key] + room / (self.steps * bounds.relative)
        return found
