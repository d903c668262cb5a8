"""A training run: its position, its next step, the row of a finished epoch, its state.

`fit` holds the loop around it and calls the callbacks. There is no CUDA here: `backend.capture` may turn
several steps into one graph.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ffnn_gpu.data.minibatches import Minibatches
from ffnn_gpu.errors import DivergedError
from ffnn_gpu.evaluation.evaluate import evaluate_together
from ffnn_gpu.evaluation.samples import Samples
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.optim.schedules import Schedule
from ffnn_gpu.training.callbacks import Callback
from ffnn_gpu.training.data_fingerprint import fingerprints
from ffnn_gpu.training.data_parallel.team import Team
from ffnn_gpu.training.history import History
from ffnn_gpu.training.loss_meter import Meter
from ffnn_gpu.training.resume import restore_run, save_network, save_run
from ffnn_gpu.training.step import Step


class TrainingRun:
    """The `Run` that `fit` drives.

    Attributes:
        held_out, validation: the validation rows as the caller gave them and as the network reads them, or
            None.
        callbacks, elsewhere: the callbacks of this rank, and those that only rank 0 has.
        ws: scratch of a step.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        data: Minibatches,
        validation: Samples | None,
        *,
        team: Team,
        epochs: int,
        metrics: Sequence[Any],
        schedule: Schedule,
        accumulate: int,
        seed: int,
    ) -> None:
        self.network, self.loss, self.optimizer, self.data, self.team = network, loss, optimizer, data, team
        self.held_out, self.metrics, self.schedule, self.epochs = validation, metrics, schedule, epochs
        self.validation = validation and validation.on(network.backend, network.compute_dtype)
        self.accumulate, self.seed = accumulate, seed
        self.epoch = self.position = 0
        self.lr_factor, self.stop, self.history = 1.0, False, History()
        self.callbacks: list[Callback] = []
        self.elsewhere: list[Callback] = []
        self._most = network.backend.steps_per_launch(data.B)
        self.meter = Meter(network.backend, self._most)
        self._lr = network.backend.zeros((self._most,), np.float64)
        self._step = Step(network, loss, optimizer, data, team, accumulate, seed)
        self.ws = self._step.ws
        optimizer.state(team.params)  # a captured step must not allocate it
        self._captured = network.backend.capture(self._steps)
        self.lr, self._rates = float("nan"), [float("nan")]
        self._began = time.perf_counter()

    @property
    def steps_done(self) -> int:
        return self.epoch * self.data.steps + self.position

    @cached_property
    def fingerprints(self) -> dict[str, Any]:
        """Checksums of the data, computed when a checkpoint is first written or read."""
        v = self.held_out
        return fingerprints(
            self.network.backend, self.data.given, None if v is None else (v.x, v.y, v.weight)
        )

    def steps_at_once(self) -> int:
        """Return the largest number of steps in one launch: one if a callback needs each."""
        callbacks = *self.callbacks, *self.elsewhere
        return 1 if any(callback.needs_every_step() for callback in callbacks) else self._most

    def step(self) -> None:
        """Update θ by the next minibatch, or by all of the next launch if no callback needs each update.

        Raises DivergedError if a loss is not finite.
        """
        team = self.team
        k, n = self.data.choose(self.epoch, self.position, self.steps_at_once())
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
        if not self.network.backend.all_finite(
            self.network.params.theta
        ):  # the last update has no loss after it
            raise DivergedError(
                f"the parameters are not finite after epoch {self.epoch + 1}; lower lr, or set clip_norm"
            )
        self._require_updates()
        with self.averaged():
            row |= self._validate()
        seconds = self.team.maximum(time.perf_counter() - self._began)
        row |= {"lr": self.lr, "seconds": seconds, "samples_per_second": self.data.rows / max(seconds, 1e-9)}
        self.epoch, self.position = self.epoch + 1, 0
        self._began = time.perf_counter()
        self.history.rows.append(row)
        return row

    def _require_updates(self) -> None:
        """Raise DivergedError if the loss scale cannot be lowered: all further updates would be skipped."""
        scale = self.network.params.loss_scale
        if scale is not None and self.network.backend.to_host(scale).tolist() == [1, 0]:
            raise DivergedError(
                f"the gradient of the last step of epoch {self.epoch + 1} is not finite in float16 although "
                "the loss scale is down to 1; use dtype='bfloat16' or 'float32'"
            )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """While entered, θ is its moving average if the optimizer computes one."""
        if self.optimizer.ema is not None:
            self.optimizer.swap_average(self.team.params)
        try:
            yield
        except BaseException:
            # With a shard, swapping back needs the other ranks, which may be gone.
            if self.optimizer.ema is not None and self.team.shard is None:
                self.optimizer.swap_average(self.team.params)
            raise
        if self.optimizer.ema is not None:
            self.optimizer.swap_average(self.team.params)

    def save(self, path: Path, extras: Mapping[str, Any]) -> None:
        """Write a checkpoint from which the run can resume exactly."""
        self.meter.flush(self)
        save_run(self, path, extras)

    def save_network(self, path: Path, extras: Mapping[str, Any]) -> None:
        """Write the network as it is now."""
        save_network(self, path, extras)

    def load(self, path: Path) -> None:
        """Restore the state that `save` wrote; all or nothing. Raises IncompatibleCheckpointError."""
        restore_run(self, path)

    def state(self) -> dict[str, Any]:
        """Return counters, learning rate, the meter's sums and the history as JSON values."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "lr_factor": self.lr_factor,
            "stop": bool(self.stop),
            "lr": self.lr,
            "history": [*self.history.rows],
            **self.meter.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Overwrite them by the values that `state` returned."""
        self.epoch, self.position, self.lr = state["epoch"], state["position"], state["lr"]
        self.lr_factor, self.stop = state["lr_factor"], state["stop"]
        self.history.rows[:] = state["history"]
        self.meter.restore(state)

    def _set_rates(self, k: int) -> None:
        """Write the learning rates of the next k steps to the device."""
        steps, total = range(self.steps_done, self.steps_done + k), self.epochs * self.data.steps
        rates = [self.optimizer.lr * self.schedule(step, total) * self.lr_factor for step in steps]
        if rates != self._rates:
            backend = self.network.backend
            backend.copy(backend.asarray(np.array(rates)), out=self._lr[:k])
        self.lr, self._rates = rates[-1], rates

    def _steps(self, k: int, n: int) -> Any:
        """Do k updates on minibatches of n rows. Everything that differs between calls lies on the device."""
        for j in range(k):
            value, weight = self._step(j, n, self._lr[j : j + 1])
            self.meter.store(j, value, weight)
        return weight

    def _validate(self) -> dict[str, float]:
        if self.validation is not None:
            row = self._evaluated(self.validation)
            return {f"val_{name}": value for name, value in row.items()}
        if not self.metrics:
            return {}
        row = self._evaluated(Samples(*self.data.whole))
        return {
            name: value for name, value in row.items() if name != "loss"
        }  # the epoch's own mean stands there

    def _evaluated(self, data: Samples) -> dict[str, float]:
        return evaluate_together(self.team.communicator, self.network, self.loss, data, self.metrics)
