"""The mean loss of an epoch, with as few looks at the device as can be.

Why a buffer: reading a value waits for the GPU. The losses of some steps are kept on the device and read together; on the
CPU reading is free, so every step is looked at.
"""

import math
from typing import Any

import numpy as np

from ffnn_gpu.backend.reference import Backend
from ffnn_gpu.errors import DivergedError


class Meter:
    """Σ N_i L_i and Σ N_i over the minibatches of an epoch, in float64."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.values = backend.zeros((backend.steps_between_reads,), np.float64)
        self.weights = backend.zeros((backend.steps_between_reads,), np.float64)
        self.pending, self.total, self.weight = 0, 0.0, 0.0

    def add(self, value: Any, weight: Any, run: Any) -> None:
        """Note the loss of one minibatch. Raises DivergedError, now or within the next steps, if it is not finite."""
        self.backend.write(self.values, self.pending, value)
        self.backend.write(self.weights, self.pending, weight)
        self.pending += 1
        if self.pending == len(self.values):
            self.flush(run)

    def flush(self, run: Any) -> None:
        """Read what is pending."""
        values, weights = (self.backend.to_host(v)[: self.pending].tolist() for v in (self.values, self.weights))
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
