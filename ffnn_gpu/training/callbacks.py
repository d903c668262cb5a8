"""What happens besides the step: each one small class with the hooks it needs.

A callback sees the run (`network`, `optimizer`, `epoch`, `history`, `stop`, …) at four moments. What it must remember over
an interruption it gives as JSON in `state` and as arrays in `arrays`; `restore` gets both back.
"""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ffnn_gpu.checkpoints import atomic_folder
from ffnn_gpu.checks import is_number, require_positive_int
from ffnn_gpu.errors import ConfigurationError, IncompatibleCheckpointError

LOWER_IS_BETTER = ("loss", "error", "mse", "rmse", "mae")
WHERE = ("path", "extras")  # of Checkpoints: not what it decides by


class Callback:
    """The hooks; every one does nothing here.

    first_rank_only: where ranks train together, whether the first alone has this callback, as one that prints or writes a
        file should be; the others wait for it, no longer than for a rank. Other callbacks are called on every rank, see the
        same numbers there, and must decide the same.
    """

    first_rank_only: ClassVar[bool] = False

    def start(self, run: Any) -> None:
        """Before the first step, of a new or a resumed run."""

    def after_step(self, run: Any) -> None:
        """After every update of θ."""

    def needs_every_step(self) -> bool:
        """Whether `after_step` must come after each single update; else a GPU may do several before it is called."""
        return type(self).after_step is not Callback.after_step

    def after_epoch(self, run: Any, row: dict[str, float]) -> None:
        """After the row of an epoch joined the history; setting `run.stop` ends the training."""

    def after_interrupt(self, run: Any) -> None:
        """After the last step before an interruption ends the training."""

    def finish(self, run: Any) -> None:
        """On every exit, exceptions included."""

    def state(self) -> dict[str, Any]:
        """JSON values to remember."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Host arrays to remember."""
        return {}

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take back what `state` and `arrays` gave."""


@dataclass
class Best:
    """The best value seen of one column of the history.

    Args:
        monitor: the column; None for val_loss where there is a validation set, else loss.
        min_delta: how much better a value must be to count.
    """

    monitor: str | None = None
    min_delta: float = 0.0
    value: float = field(default=math.nan, init=False)

    def improves(self, row: dict[str, float]) -> bool:
        """Whether this row is the best so far; remembers it. Raises ConfigurationError for an unknown column."""
        name = self.monitor or ("val_loss" if "val_loss" in row else "loss")
        if name not in row:
            raise ConfigurationError(f"there is no column {name!r} to monitor; there are {', '.join(row)}")
        sign = -1 if name.endswith(LOWER_IS_BETTER) else 1
        better = math.isnan(self.value) or sign * (row[name] - self.value) > self.min_delta
        if better:
            self.value = row[name]
        return better


@dataclass
class EarlyStopping(Callback):
    """Stop after `patience` epochs without a better value of `monitor`."""

    patience: int = 10
    monitor: str | None = None
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        require_positive_int("the patience of EarlyStopping", self.patience)

    def start(self, run: Any) -> None:
        self.best, self.waited = Best(self.monitor, self.min_delta), 0

    def after_epoch(self, run: Any, row: dict[str, float]) -> None:
        self.waited = 0 if self.best.improves(row) else self.waited + 1
        run.stop = run.stop or self.waited >= self.patience

    def state(self) -> dict[str, Any]:
        return {"best": self.best.value, "waited": self.waited}

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.best.value, self.waited = state["best"], state["waited"]


@dataclass
class BestWeights(Callback):
    """Put the parameters of the best epoch back on every exit."""

    monitor: str | None = None

    def start(self, run: Any) -> None:
        self.best = Best(self.monitor)
        self.kept: dict[str, np.ndarray] = {}

    def after_epoch(self, run: Any, row: dict[str, float]) -> None:
        if self.best.improves(row):
            with run.averaged():
                self.kept = run.network.params.to_host()

    def finish(self, run: Any) -> None:
        if self.kept:
            run.network.params.assign(self.kept)

    def state(self) -> dict[str, Any]:
        return {"best": self.best.value}

    def arrays(self) -> dict[str, np.ndarray]:
        return self.kept

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.best.value, self.kept = state["best"], dict(arrays)


@dataclass
class ReduceOnPlateau(Callback):
    """lr ← factor · lr after `patience` epochs without a better value of `monitor`, not below factor_floor of the first.

    Args:
        cooldown: epochs to wait after a reduction before counting again.
    """

    factor: float = 0.1
    patience: int = 10
    monitor: str | None = None
    min_delta: float = 0.0
    cooldown: int = 0
    factor_floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1 or self.patience < 0:
            raise ConfigurationError(f"ReduceOnPlateau needs 0 < factor < 1 and patience >= 0, not {self}")

    def start(self, run: Any) -> None:
        self.best, self.waited, self.cooling = Best(self.monitor, self.min_delta), 0, 0

    def after_epoch(self, run: Any, row: dict[str, float]) -> None:
        self.waited = 0 if self.best.improves(row) else self.waited + 1
        if self.cooling:
            self.cooling, self.waited = self.cooling - 1, 0
        if self.waited > self.patience:
            run.lr_factor = max(run.lr_factor * self.factor, self.factor_floor)
            self.cooling, self.waited = self.cooldown, 0

    def state(self) -> dict[str, Any]:
        return {"best": self.best.value, "waited": self.waited, "cooling": self.cooling}

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.best.value, self.waited, self.cooling = state["best"], state["waited"], state["cooling"]


@dataclass
class Checkpoints(Callback):
    """Write `path`/last, from which a training resumes exactly, and `path`/best, the network of the best epoch.

    Args:
        every_epochs, every_steps: how often `last` is written, besides on an interruption and at the end.
        extras: JSON values to keep with the network.
    """

    path: str | Path
    every_epochs: int = 1
    every_steps: int | None = None
    monitor: str | None = None
    extras: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_positive_int("every_epochs of Checkpoints", self.every_epochs)
        if self.every_steps is not None:
            require_positive_int("every_steps of Checkpoints", self.every_steps)

    @property
    def last(self) -> Path:
        return Path(self.path) / "last"

    @property
    def has_last(self) -> bool:
        """Whether there is something to resume from."""
        return atomic_folder.exists(self.last)

    def start(self, run: Any) -> None:
        self.best = Best(self.monitor)

    def needs_every_step(self) -> bool:
        return self.every_steps is not None

    def after_step(self, run: Any) -> None:
        if self.every_steps and run.steps_done % self.every_steps == 0:
            run.save(self.last, self.extras)

    def after_epoch(self, run: Any, row: dict[str, float]) -> None:
        if self.best.improves(row):
            with run.averaged():
                run.save_network(Path(self.path) / "best", self.extras | {"row": row})
        if run.epoch % self.every_epochs == 0 or run.epoch == run.epochs or run.stop:
            run.save(self.last, self.extras)

    def after_interrupt(self, run: Any) -> None:
        run.save(self.last, self.extras)

    def state(self) -> dict[str, Any]:
        return {"best": self.best.value}

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.best.value = state["best"]


def decisions(callbacks: list[Callback]) -> list[tuple[str, dict[str, Any]]]:
    """The callbacks of this file by name, with what they decide by: in these, ranks wait for each other."""
    own = [c for c in callbacks if isinstance(c, (EarlyStopping, BestWeights, ReduceOnPlateau, Checkpoints))]
    return [
        (
            type(callback).__name__,
            {e.name: getattr(callback, e.name) for e in fields(callback) if e.name not in WHERE},
        )
        for callback in own
    ]


def require_restorable(callbacks: list[Callback], states: list[dict[str, Any]]) -> None:
    """Raise IncompatibleCheckpointError unless there is one saved state for each callback, with all it remembers."""
    names = [type(callback).__name__ for callback in callbacks]
    saved = [state.get("callback") for state in states]
    if names != saved:
        raise IncompatibleCheckpointError(
            f"the checkpoint was written with the callbacks {saved}; this run has {names}"
        )
    for callback, state in zip(callbacks, states, strict=True):
        mine, name = callback.state(), type(callback).__name__
        lacks = mine.keys() - state.keys()
        if lacks:
            raise IncompatibleCheckpointError(
                f"the state of {name} in the checkpoint lacks {', '.join(sorted(lacks))}"
            )
        wrong = next((key for key in mine if is_number(mine[key]) and not is_number(state[key])), None)
        if wrong is not None:
            raise IncompatibleCheckpointError(
                f"{wrong} of {name} in the checkpoint is {state[wrong]!r}, not a number"
            )
