"""What callbacks share that compare a column of the history with its best value so far."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.training.callbacks.callback import Callback, Run

SIGNS = {"min": -1, "max": 1}


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
