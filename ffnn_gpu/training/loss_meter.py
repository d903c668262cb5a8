"""The mean loss of an epoch, with as few looks at the device as can be.

Why two buffers: reading a value waits for the GPU, so the losses of many steps are kept on the device and read together. And
a recorded graph writes to the addresses it was recorded with: the places of one launch, copied on from there. On the CPU
reading is free, so every step is looked at.
"""

import math
from typing import Any

import numpy as np

from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.errors import DivergedError


class Meter:
    """Σ N_i L_i and Σ N_i over the minibatches of an epoch, in float64. `most`: minibatches of one launch."""

    def __init__(self, backend: Backend, most: int) -> None:
        self.backend, self.most = backend, most
        waiting = max(backend.steps_between_reads, most)
        self._of_launch = {name: backend.zeros((most,), np.float64) for name in ("loss", "weight")}
        self._waiting = {name: backend.zeros((waiting,), np.float64) for name in ("loss", "weight")}
        self.pending, self.room, self.total, self.weight = 0, waiting, 0.0, 0.0

    def note(self, j: int, value: Any, weight: Any) -> None:
        """Within a step: the loss of the j-th minibatch of a launch, and its weight where that is an array."""
        self.backend.write(self._of_launch["loss"], j, value)
        if not isinstance(weight, int):
            self.backend.write(self._of_launch["weight"], j, weight)

    def add(self, k: int, weight: Any, run: Any) -> None:
        """After a launch of k steps. Raises DivergedError, now or within the next steps, if a loss is not finite.

        weight: the number of rows of each minibatch, or any array where `note` got the weights.
        """
        places = slice(self.pending, self.pending + k)
        self.backend.copy(self._of_launch["loss"][:k], out=self._waiting["loss"][places])
        weights = weight if isinstance(weight, int) else self._of_launch["weight"][:k]
        self.backend.copy(weights, out=self._waiting["weight"][places])
        self.pending += k
        if self.pending + self.most > self.room:
            self.flush(run)

    def flush(self, run: Any) -> None:
        """Read what is pending."""
        values, weights = (self.backend.to_host(v)[: self.pending].tolist() for v in self._waiting.values())
        for i, (value, weight) in enumerate(zip(values, weights, strict=True)):
            if not math.isfinite(value):
                position = run.position - self.pending + i + 1
                raise DivergedError(
                    f"the loss is {value} at step {run.epoch * run.data.steps + position} (epoch {run.epoch + 1}, minibatch "
                    f"{position} of {run.data.steps}); lower lr ({run.optimizer.lr:g}), or set clip_norm"
                )
            self.total += value * weight
            self.weight += weight
        self.pending = 0

    def mean(self, run: Any) -> float:
        """The mean of the epoch; starts the next."""
        self.flush(run)
        mean = self.total / self.weight if self.weight else 0.0
        self.total = self.weight = 0.0
        return mean
