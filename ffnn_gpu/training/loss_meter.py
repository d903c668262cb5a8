"""The mean loss of an epoch, read from the device as rarely as possible.

Why two buffers: reading a value waits for the GPU, so the losses of many steps are stored on the device and
read together. A captured graph always writes to the same addresses, the first buffer; after each launch they
are copied to the second one. On the CPU reading is free, so every step is read.
"""

import math
from typing import Any

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.errors import DivergedError
from ffnn_gpu.training.callbacks import Run


class Meter:
    """Add the losses of minibatches to `run.loss_sum` and `run.weight_sum`, in float64.

    Attributes:
        most: the largest number of minibatches in one launch.
        pending: losses on the device that have not been read.
    """

    def __init__(self, backend: Backend, most: int) -> None:
        self.backend, self.most = backend, most
        waiting = max(backend.steps_between_reads, most)
        self._of_launch = {name: backend.zeros((most,), np.float64) for name in ("loss", "weight")}
        self._waiting = {name: backend.zeros((waiting,), np.float64) for name in ("loss", "weight")}
        self.pending, self.room = 0, waiting

    def store(self, j: int, value: Array, weight: Any) -> None:
        """Store the loss of the j-th minibatch of a launch, and its weight if that is an array."""
        self.backend.write(self._of_launch["loss"], j, value)
        if not isinstance(weight, int):
            self.backend.write(self._of_launch["weight"], j, weight)

    def add(self, k: int, weight: Any, run: Run) -> None:
        """Add the losses of k steps. weight: rows per step, or any array if `store` received the weights.

        Raises DivergedError, now or within the next steps, if a loss is not finite.
        """
        places = slice(self.pending, self.pending + k)
        self.backend.copy(self._of_launch["loss"][:k], out=self._waiting["loss"][places])
        weights = weight if isinstance(weight, int) else self._of_launch["weight"][:k]
        self.backend.copy(weights, out=self._waiting["weight"][places])
        self.pending += k
        if self.pending + self.most > self.room:
            self.flush(run)

    def flush(self, run: Run) -> None:
        """Read the pending losses."""
        values, weights = (self.backend.to_host(v)[: self.pending].tolist() for v in self._waiting.values())
        for i, (value, weight) in enumerate(zip(values, weights, strict=True)):
            if not math.isfinite(value):
                position = run.position - self.pending + i + 1
                step = run.epoch * run.data.steps + position
                raise DivergedError(
                    f"the loss is {value} at step {step} (epoch {run.epoch + 1}, minibatch {position} of "
                    f"{run.data.steps}); lower lr ({run.optimizer.lr:g}), or set clip_norm"
                )
            run.loss_sum += value * weight
            run.weight_sum += weight
        self.pending = 0

    def mean(self, run: Run) -> float:
        """Return the mean loss of the epoch and start the next epoch."""
        self.flush(run)
        mean = run.loss_sum / run.weight_sum if run.weight_sum else 0.0
        run.loss_sum = run.weight_sum = 0.0
        return mean
