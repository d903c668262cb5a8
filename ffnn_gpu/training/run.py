"""One training under way: where it stands, its next steps, the row of an epoch that is done.

The loop around it, and what calls the callbacks, is in `training`. There is no CUDA here: `backend.capture` may turn several
steps into one graph.
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
from ffnn_gpu.evaluation.evaluate import Samples
from ffnn_gpu.nn.losses.standard import Loss
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
    """One training under way: what callbacks see and a checkpoint remembers.

    Attributes:
        epoch, position: finished epochs, and finished minibatches of the next one.
        lr, lr_factor: the learning rate of the last step; what callbacks multiply the schedule by.
        team: the ranks that train together, one in most trainings; its `params` are what the optimizer updates here.
        held_out, validation: the validation rows as they came, and where the network reads them; None if there are none.
        stop: set to end the training after this epoch.
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
        self.elsewhere: list[Callback] = []  # those that only the first rank calls
        self._most = network.backend.steps_per_launch(data.B)
        self.meter = Meter(network.backend, self._most)
        self._lr = network.backend.zeros((self._most,), np.float64)
        self._step = Step(network, loss, optimizer, data, team, accumulate, seed)
        self.ws = self._step.ws
        optimizer.state(team.params)  # a step that is recorded must find it there
        self._captured = network.backend.capture(self._steps)
        self.lr, self._rates = float("nan"), [float("nan")]
        self._began = time.perf_counter()

    @property
    def steps_done(self) -> int:
        return self.epoch * self.data.steps + self.position

    @cached_property
    def fingerprints(self) -> dict[str, Any]:
        """Checksums of the data; made when a checkpoint is written or read, so that a training without one pays nothing."""
        v = self.held_out
        return fingerprints(
            self.network.backend, self.data.given, None if v is None else (v.x, v.y, v.weight)
        )

    def steps_at_once(self) -> int:
        """The most steps of one launch: one where a callback wants to see each."""
        return (
            1
            if any(callback.needs_every_step() for callback in (*self.callbacks, *self.elsewhere))
            else self._most
        )

    def step(self) -> None:
        """The next minibatch, or several: as many as the device does in one launch, unless a callback wants to see each.

        Raises DivergedError if a loss is not finite.
        """
        k, n = self.data.choose(self.epoch, self.position, self.steps_at_once())
        self._set_rates(k)
        self.team.tell(self.network.backend)
        weight = self._captured(k, n)
        self.position += k
        self.team.hear(self.network.backend)
        self.meter.add(k, weight, self)
        self.team.compare(self, self.steps_done - k)

    def finish_epoch(self) -> dict[str, float]:
        """The row of the epoch whose last minibatch is done, added to the history."""
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
        seconds = self.team.largest(time.perf_counter() - self._began)
        row |= {"lr": self.lr, "seconds": seconds, "samples_per_second": self.data.rows / max(seconds, 1e-9)}
        self.epoch, self.position = self.epoch + 1, 0
        self._began = time.perf_counter()
        self.history.rows.append(row)
        return row

    def _require_updates(self) -> None:
        """Raise DivergedError if no loss scale is left to lower: from here on every update would be skipped in silence."""
        scale = self.network.params.loss_scale
        if scale is not None and self.network.backend.to_host(scale).tolist() == [1, 0]:
            raise DivergedError(
                f"the gradient of the last step of epoch {self.epoch + 1} is not finite in float16 although the loss scale "
                "is down to 1; use dtype='bfloat16' or 'float32'"
            )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """While entered, θ is its moving average if the optimizer keeps one."""
        if self.optimizer.ema is not None:
            self.optimizer.swap_average(self.team.params)
        try:
            yield
        except BaseException:
            # Other ranks, whose pieces of θ this needs, may not be here.
            if self.optimizer.ema is not None and self.team.shard is None:
                self.optimizer.swap_average(self.team.params)
            raise
        if self.optimizer.ema is not None:
            self.optimizer.swap_average(self.team.params)

    def save(self, path: Path, extras: Mapping[str, Any]) -> None:
        """Everything needed to go on exactly from here."""
        self.meter.flush(self)
        save_run(self, path, extras)

    def save_network(self, path: Path, extras: Mapping[str, Any]) -> None:
        """The network as it is now."""
        save_network(self, path, extras)

    def restore(self, path: Path) -> None:
        """Go on from what `save` wrote. Raises IncompatibleCheckpointError, and changes nothing then."""
        restore_run(self, path)

    def _set_rates(self, k: int) -> None:
        """Put the learning rates of the next k steps on the device."""
        steps = range(self.steps_done, self.steps_done + k)
        whole = self.epochs * self.data.steps
        rates = [self.optimizer.lr * self.schedule(step, whole) * self.lr_factor for step in steps]
        if rates != self._rates:
            backend = self.network.backend
            backend.copy(backend.asarray(np.array(rates)), out=self._lr[:k])
        self.lr, self._rates = rates[-1], rates

    def _steps(self, k: int, n: int) -> Any:
        """k updates on minibatches of n rows; everything that differs from call to call lies on the device."""
        for j in range(k):
            value, weight = self._step(j, n, self._lr[j : j + 1])
            self.meter.note(j, value, weight)
        return weight

    def _validate(self) -> dict[str, float]:
        if self.validation is not None:
            row = self.team.evaluate(self.network, self.loss, self.validation, self.metrics)
            return {f"val_{name}": value for name, value in row.items()}
        if not self.metrics:
            return {}
        row = self.team.evaluate(self.network, self.loss, Samples(*self.data.whole), self.metrics)
        return {
            name: value for name, value in row.items() if name != "loss"
        }  # the epoch's own mean stands there
