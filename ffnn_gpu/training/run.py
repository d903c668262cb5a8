"""A training run: its position, its next step, the row of a finished epoch, its state.

`fit` holds the loop around it and calls the callbacks. There is no CUDA here: `backend.capture` may turn
several steps into one graph.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.errors import ConfigurationError, DivergedError
from ffnn_gpu.evaluation.evaluate import evaluate_together
from ffnn_gpu.evaluation.samples import Samples
from ffnn_gpu.nn.layer import all_layers
from ffnn_gpu.training.callbacks import Run
from ffnn_gpu.training.loss_meter import Meter
from ffnn_gpu.training.resume import save_run
from ffnn_gpu.training.step import Step


@dataclass(eq=False, repr=False)
class TrainingRun(Run):
    """The `Run` that `fit` drives.

    sample_weight: weights of the training rows in metrics; the loss multiplies them by class weights.
    """

    sample_weight: Array | None = None

    def __post_init__(self) -> None:
        network, backend = self.network, self.network.backend
        self.validation = self.held_out and self.held_out.on(backend, network.compute_dtype)
        self._most = backend.steps_per_launch(self.data.B)
        self.meter = self.make_meter(self._most)
        self._lr = backend.zeros((self._most,), np.float64)
        self._step = self.make_step()
        self.ws = self._step.ws
        self.optimizer.state(self.team.params)  # a captured step must not allocate it
        self._factors = dict(network.params.factors)
        self._of_steps = backend.zeros((self._most, len(self._factors)), np.float64)
        self._captured = backend.capture(self._steps, operations_only=self._is_ours(), repeats=True)
        self._has_begun = False
        self._rates, self._written = [self.lr], list[list[float]]()
        self._began = time.perf_counter()

    def make_step(self) -> Step:
        """Return the update of one minibatch."""
        return Step(self)

    def make_meter(self, most: int) -> Meter:
        """Return what adds up the losses of an epoch, of up to `most` steps in one launch."""
        return Meter(self.network.backend, most)

    @property
    def steps_done(self) -> int:
        return self.epoch * self.data.steps + self.position

    def steps_at_once(self) -> int:
        callbacks = *self.callbacks, *self.elsewhere
        return 1 if any(callback.needs_every_step() for callback in callbacks) else self._most

    def step(self) -> None:
        """Update θ by the next minibatch, or by all of the next launch if no callback needs each update.

        Raises DivergedError if a loss is not finite.
        """
        team = self.team
        k, n = self.data.choose(self.epoch, self.position, self.steps_at_once() if self._has_begun else 1)
        self._has_begun = True  # a backend that captures steps runs the first one uncaptured
        self._set_rates(k)
        if team.size > 1:
            team.send_signal()
        weight = self._captured(k, n)
        self.position += k
        if team.size > 1:
            team.receive_signal()
        self.meter.add(k, weight, self)
        every = team.data_parallel.check_every
        if team.size > 1 and self.steps_done // every != (self.steps_done - k) // every:
            self.require_agreement()

    def require_agreement(self, settings: Mapping[str, Any] | None = None) -> None:
        """Raise DivergedRanksError on every rank unless θ, learning rate, step and settings agree."""
        self.team.require_agreement(self.lr_factor, self.steps_done, settings)

    def finish_epoch(self) -> dict[str, float]:
        """Add the row of the epoch whose last minibatch is done to the history; return it.

        Raises DivergedError if θ or the last gradient is not finite.
        """
        row = {"epoch": self.epoch + 1, "loss": self.meter.mean(self)}
        self.require_finite()
        with self.averaged():
            row |= self.validate()
        seconds = self.team.maximum(time.perf_counter() - self._began)
        row |= {"lr": self.lr, "seconds": seconds, "samples_per_second": self.data.rows / max(seconds, 1e-9)}
        self.epoch, self.position = self.epoch + 1, 0
        self._began = time.perf_counter()
        self.history.rows.append(row)
        return row

    def require_finite(self) -> None:
        """Raise DivergedError if the last update of an epoch, which has no loss after it, diverged."""
        if not self.network.backend.all_finite(self.network.params.theta):
            raise DivergedError(
                f"the parameters are not finite after epoch {self.epoch + 1}; lower lr, or set clip_norm"
            )
        scale = self.network.params.loss_scale
        if scale is not None and self.network.backend.to_host(scale).tolist() == [1, 0]:
            # The scale cannot be lowered: all further updates would be skipped.
            raise DivergedError(
                f"the gradient of the last step of epoch {self.epoch + 1} is not finite in float16 although "
                "the loss scale is down to 1; use dtype='bfloat16' or 'float32'"
            )

    def release(self) -> None:
        """Free the memory of the steps. The run cannot go on afterwards; its history and network remain."""
        self.ws.release()
        del self.ws, self._step, self._captured

    def save(self, path: Path, extras: Mapping[str, Any]) -> None:
        self.meter.flush(self)
        save_run(self, path, extras)

    def _set_rates(self, k: int) -> None:
        """Write the learning rates of the next k steps to the device."""
        steps, total = range(self.steps_done, self.steps_done + k), self.epochs * self.data.steps
        rates = [self.optimizer.lr * self.schedule(step, total) * self.lr_factor for step in steps]
        if rates != self._rates:
            backend = self.network.backend
            backend.copy(backend.asarray(np.array(rates)), out=self._lr[:k])
        self.lr, self._rates = rates[-1], rates
        self._write_factors(steps, total)

    def _write_factors(self, steps: Iterable[int], total: int) -> None:
        """Write the factors of dropout and weight decay of the next steps to the device."""
        factors = [[float(schedule(step, total)) for schedule in self._factors] for step in steps]
        if factors == self._written or not self._factors:
            return
        for schedule, found in zip(self._factors, zip(*factors, strict=True), strict=True):
            wrong = next((value for value in found if not 0 <= value <= 1), None)
            if wrong is not None:
                raise ConfigurationError(
                    f"{schedule!r} returned {wrong!r}; a factor of dropout or weight decay must be between 0 "
                    "and 1"
                )
        backend = self.network.backend
        backend.copy(backend.asarray(np.array(factors)), out=self._of_steps[: len(factors)])
        self._written = factors

    def end_schedules(self) -> None:
        """Set the factors of dropout and weight decay to 1, as before the run."""
        for factor in self._factors.values():
            self.network.backend.write(factor, 0, 1.0)

    def _is_ours(self) -> bool:
        """Return whether a step touches arrays by operations alone: it runs no code of a user's own."""
        parts = *all_layers(self.network.layers), self.loss, self.optimizer, self._step
        package = __name__.partition(".")[0]
        ours = all(type(part).__module__.partition(".")[0] == package for part in parts)
        # Sums over micro-batches or ranks are written as arithmetic of arrays.
        alone = self.accumulate == self.team.size == 1
        return ours and alone and not self.loss.reads_values

    def _steps(self, k: int, n: int) -> Any:
        """Do k updates on minibatches of n rows. Everything that differs between calls lies on the device."""
        for j in range(k):
            for place, factor in enumerate(self._factors.values()):
                self.network.backend.copy(self._of_steps[j, place : place + 1], out=factor)
            value, weight = self._step(j, n, self._lr[j : j + 1])
            self.meter.store(j, value, weight)
        return weight

    def validate(self) -> dict[str, float]:
        """Return the columns of an epoch's row that the validation rows give, or metrics of all rows."""
        if self.validation is None and not self.metrics:
            return {}
        x, y, _ = self.data.whole
        data = Samples(x, y, self.sample_weight) if self.validation is None else self.validation
        row = evaluate_together(self.team.communicator, self.network, self.loss, data, self.metrics)
        if self.validation is not None:
            row = {f"val_{name}": value for name, value in row.items()}
        else:
            del row["loss"]  # the row of the epoch has its own mean
        if self.network.members is None:
            return row
        self.history.members.append(row)
        return {name: float(values.mean()) for name, values in row.items()}
