"""A training run as callbacks see it, and the hooks of a callback."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checkpoints import checkpoint
from ffnn_gpu.data.minibatches import Minibatches
from ffnn_gpu.evaluation.evaluate import better, by_name
from ffnn_gpu.evaluation.samples import Samples
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.schedules import Schedule
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.training.data_fingerprint import fingerprints
from ffnn_gpu.training.data_parallel.team import Team
from ffnn_gpu.training.history import History


@dataclass(eq=False, repr=False)
class Run(ABC):
    """A training run: its settings, its counters, and what a callback can do with it.

    Attributes:
        held_out: the validation rows as the caller gave them, or None.
        team: the ranks that train together; its `params` are what the optimizer updates on this rank.
        callbacks: the callbacks of this rank.
        elsewhere: on ranks other than 0, the callbacks that only rank 0 has.
        epochs: the number of epochs to train.
        epoch: the number of finished epochs.
        position: the number of finished minibatches of the next epoch.
        lr: the learning rate of the last step.
        lr_factor: a factor on the schedule, for callbacks to set.
        stop: set it to end the run after this epoch.
        loss_sum, weight_sum: Σ N_i L_i and Σ N_i of this epoch's minibatches whose losses have been read.
    """

    network: Network
    loss: Loss
    optimizer: Optimizer
    data: Minibatches
    held_out: Samples | None
    team: Team
    metrics: Sequence[Any]
    schedule: Schedule
    callbacks: list["Callback"]
    epochs: int
    accumulate: int
    elsewhere: list["Callback"] = field(default_factory=list)
    history: History = field(default_factory=History)
    epoch: int = 0
    position: int = 0
    lr: float = math.nan
    lr_factor: float = 1.0
    stop: bool = False
    loss_sum: float = 0.0
    weight_sum: float = 0.0

    @cached_property
    def fingerprints(self) -> dict[str, Any]:
        """Checksums of the data, computed when a checkpoint is first written or read."""
        v = self.held_out
        held_out = None if v is None else (v.x, v.y, v.weight)
        return fingerprints(self.network.backend, self.data.given, held_out)

    @cached_property
    def columns(self) -> dict[str, str | None]:
        """The columns to monitor, each with its better values, "min" or "max"; None if they are not known."""
        prefix = "" if self.held_out is None else "val_"
        known: dict[str, str | None] = {"loss": "min", f"{prefix}loss": "min"}
        known |= {prefix + name: better(metric) for name, metric in by_name(self.metrics).items()}
        return known | dict.fromkeys(("lr", "seconds", "samples_per_second"))

    @property
    @abstractmethod
    def steps_done(self) -> int:
        """The number of updates of θ so far."""

    @abstractmethod
    def steps_at_once(self) -> int:
        """Return the largest number of updates in one launch: one if a callback needs each."""

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

    @abstractmethod
    def save(self, path: Path, extras: Mapping[str, Any]) -> None:
        """Write a checkpoint from which the run can resume exactly."""

    def save_network(self, path: Path, extras: Mapping[str, Any]) -> None:
        """Write the network as it is now."""
        self.team.on_rank_zero(lambda: checkpoint.save(self.network, path, extras=extras))


class Callback:
    """The hooks; each does nothing here.

    Attributes:
        first_rank_only: True if only rank 0 has this callback if several ranks train together. Set it for
            callbacks that print or write files; the other ranks wait. Any other callback is called on every
            rank, receives the same values there, and must decide the same.
    """

    first_rank_only: ClassVar[bool] = False

    def start(self, run: Run) -> None:
        """Called before the first step of a new or a resumed run."""

    def after_step(self, run: Run) -> None:
        """Called after every update of θ."""

    def needs_every_step(self) -> bool:
        """Return whether `after_step` must follow each update; else a GPU may do several before it."""
        return type(self).after_step is not Callback.after_step

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        """Called after the row of an epoch was added to the history. Setting `run.stop` ends the run."""

    def after_interrupt(self, run: Run) -> None:
        """Called after the last step of a run that Ctrl-C, SIGTERM or SIGHUP ends."""

    def finish(self, run: Run) -> None:
        """Called on every exit, also after an exception."""

    def state(self) -> dict[str, Any]:
        """Return JSON values for a checkpoint."""
        return {}

    def arrays(self) -> dict[str, HostArray]:
        """Return host arrays for a checkpoint."""
        return {}

    def restore(self, state: dict[str, Any], arrays: dict[str, HostArray]) -> None:
        """Restore the values that `state` and `arrays` returned."""
