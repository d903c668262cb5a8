"""Everything in a training run besides the step: each callback is one small class with the hooks it needs.

A callback receives the `Run` before the first step, after each step, after each epoch and at the end. A
checkpoint stores its `state` (JSON values) and its `arrays` (host arrays); `restore` receives both.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from stat import S_ISDIR
from typing import Any, ClassVar

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checkpoints import checkpoint
from ffnn_gpu.checks import is_number, require_positive_int
from ffnn_gpu.data.minibatches import Minibatches
from ffnn_gpu.errors import ConfigurationError, IncompatibleCheckpointError
from ffnn_gpu.evaluation.evaluate import better, by_name
from ffnn_gpu.evaluation.samples import Samples
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.optim.schedules import Schedule
from ffnn_gpu.training.data_fingerprint import fingerprints
from ffnn_gpu.training.data_parallel.team import Team
from ffnn_gpu.training.history import History

__all__ = ["BestWeights", "Callback", "Checkpoints", "EarlyStopping", "ReduceOnPlateau"]

SIGNS = {"min": -1, "max": 1}
WHERE = ("path", "extras")  # fields of Checkpoints that may differ between ranks


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


class Monitor(Callback):
    """A callback that compares a column of the history with its best value so far.

    Attributes:
        monitor: the column; None for val_loss where there is a validation set, else loss.
        mode: "min" if lower values are better, "max" if higher ones are. Losses and the metrics of this
            package need none; a metric of your own does.
        min_delta: the smallest difference that counts as better.
        best: the best value so far.
        waited: epochs since the best value (ReduceOnPlateau: or since the end of the cooldown).
        cooling: epochs that remain of the cooldown.
        stored: the attributes above that a checkpoint stores.
    """

    monitor: str | None = None
    mode: str | None = None
    min_delta: float = 0.0
    stored: ClassVar[tuple[str, ...]] = ("best",)

    def start(self, run: Run) -> None:
        self.best, self.waited, self.cooling = math.nan, 0, 0
        self.column, self.sign = self.watched(run.columns)

    def watched(self, columns: Mapping[str, str | None]) -> tuple[str, int]:
        """Return (the column to monitor, 1 if higher values are better or −1 if lower ones are).

        Raises ConfigurationError for an unknown column, or if it is not known which values are better.
        """
        column = self.monitor or ("val_loss" if "val_loss" in columns else "loss")
        if column not in columns:
            raise ConfigurationError(
                f"there is no column {column!r} to monitor; there are {', '.join(columns)}"
            )
        mode, name = self.mode or columns[column], type(self).__name__
        if mode is None:
            raise ConfigurationError(
                f"{name} monitors {column!r}, and nothing says whether its lower or its higher values are "
                f"better; add mode='min' or mode='max' to {name}"
            )
        if mode not in SIGNS:
            raise ConfigurationError(f"mode of {name} must be 'min' or 'max', not {mode!r}")
        return column, SIGNS[mode]

    def improves(self, row: dict[str, float]) -> bool:
        """Return whether this row is the best so far, and store its value. NaN and infinity never are."""
        value = row[self.column]
        is_first, gain = math.isnan(self.best), self.sign * (value - self.best)
        found = math.isfinite(value) and (is_first or gain > self.min_delta)
        if found:
            self.best = value
        return found

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.stored}

    def restore(self, state: dict[str, Any], arrays: dict[str, HostArray]) -> None:
        for name in self.stored:
            setattr(self, name, state[name])


@dataclass
class EarlyStopping(Monitor):
    """Stop after `patience` epochs without a better value of `monitor`."""

    stored = "best", "waited"

    patience: int = 10
    monitor: str | None = None
    min_delta: float = 0.0
    mode: str | None = None

    def __post_init__(self) -> None:
        require_positive_int("the patience of EarlyStopping", self.patience)

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        self.waited = 0 if self.improves(row) else self.waited + 1
        run.stop = run.stop or self.waited >= self.patience


@dataclass
class BestWeights(Monitor):
    """Restore the parameters of the best epoch on every exit."""

    monitor: str | None = None
    mode: str | None = None

    def start(self, run: Run) -> None:
        super().start(run)
        self.kept: dict[str, HostArray] = {}

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        if self.improves(row):
            with run.averaged():
                self.kept = run.network.params.to_host()

    def finish(self, run: Run) -> None:
        if self.kept:
            run.network.params.assign(self.kept)

    def arrays(self) -> dict[str, HostArray]:
        return self.kept

    def restore(self, state: dict[str, Any], arrays: dict[str, HostArray]) -> None:
        super().restore(state, arrays)
        self.kept = dict(arrays)


@dataclass
class ReduceOnPlateau(Monitor):
    """lr ← factor · lr after `patience` epochs without a better value of `monitor`.

    Args:
        cooldown: epochs to wait after a reduction before counting again.
        factor_floor: the product of all factors does not fall below it.
    """

    stored = "best", "waited", "cooling"

    factor: float = 0.1
    patience: int = 10
    monitor: str | None = None
    min_delta: float = 0.0
    cooldown: int = 0
    factor_floor: float = 0.0
    mode: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1 or self.patience < 0:
            raise ConfigurationError(f"ReduceOnPlateau needs 0 < factor < 1 and patience >= 0, not {self}")

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        self.waited = 0 if self.improves(row) else self.waited + 1
        if self.cooling:
            self.cooling, self.waited = self.cooling - 1, 0
        if self.waited > self.patience:
            run.lr_factor = max(run.lr_factor * self.factor, self.factor_floor)
            self.cooling, self.waited = self.cooldown, 0


@dataclass
class Checkpoints(Monitor):
    """Write last.safetensors, from which a run resumes exactly, and best.safetensors, of the best epoch.

    If last.safetensors is missing, a run resumes from the folder `last` that an earlier version wrote.

    Args:
        path: the folder of both files.
        every_epochs, every_steps: intervals at which the first is written. It is also written after an
            interruption and at the end.
        extras: JSON values to store with the network.
    """

    path: str | Path
    every_epochs: int = 1
    every_steps: int | None = None
    monitor: str | None = None
    extras: dict[str, Any] = field(default_factory=dict)
    mode: str | None = None

    def __post_init__(self) -> None:
        require_positive_int("every_epochs of Checkpoints", self.every_epochs)
        if self.every_steps is not None:
            require_positive_int("every_steps of Checkpoints", self.every_steps)
        _require_folder(Path(self.path))

    @property
    def last(self) -> Path:
        return Path(self.path) / "last"

    @property
    def has_last(self) -> bool:
        """True if there is a checkpoint to resume from."""
        return checkpoint.find(self.last) is not None

    def needs_every_step(self) -> bool:
        return self.every_steps is not None

    def after_step(self, run: Run) -> None:
        if self.every_steps and run.steps_done % self.every_steps == 0:
            run.save(self.last, self.extras)

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        if self.improves(row):
            with run.averaged():
                run.save_network(Path(self.path) / "best", self.extras | {"row": row})
        if run.epoch % self.every_epochs == 0 or run.epoch == run.epochs or run.stop:
            run.save(self.last, self.extras)

    def after_interrupt(self, run: Run) -> None:
        run.save(self.last, self.extras)


def _require_folder(path: Path) -> None:
    """Raise ConfigurationError unless `path`, or else its nearest existing parent, is a folder."""
    for place in (path, *path.parents):
        try:
            if S_ISDIR(place.stat().st_mode):
                return
            problem = f"{str(place)!r} is a file"
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"no checkpoints can be written to {str(path)!r}: {problem}; choose another folder"
        )


def decisions(callbacks: list[Callback]) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and settings of the callbacks of this file.

    All ranks must agree on them, because ranks wait for each other in these callbacks.
    """
    kinds = EarlyStopping, BestWeights, ReduceOnPlateau, Checkpoints
    return [
        (type(c).__name__, {e.name: getattr(c, e.name) for e in fields(c) if e.name not in WHERE})
        for c in callbacks
        if isinstance(c, kinds)
    ]


def require_restorable(callbacks: list[Callback], states: list[dict[str, Any]]) -> None:
    """Raise IncompatibleCheckpointError unless `states` holds one state per callback, with all its values."""
    names = [type(callback).__name__ for callback in callbacks]
    saved = [state.get("callback") for state in states]
    if names != saved:
        raise IncompatibleCheckpointError(
            f"the checkpoint was written with the callbacks {saved}; this run has {names}"
        )
    for callback, state in zip(callbacks, states, strict=True):
        mine, name = callback.state(), type(callback).__name__
        lacks = ", ".join(sorted(mine.keys() - state.keys()))
        if lacks:
            raise IncompatibleCheckpointError(f"the state of {name} in the checkpoint lacks {lacks}")
        for key, value in mine.items():
            if is_number(value) and not is_number(state[key]):
                raise IncompatibleCheckpointError(
                    f"{key} of {name} in the checkpoint is {state[key]!r}, not a number"
                )
