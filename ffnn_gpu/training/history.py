"""The results of a training run, one row per epoch."""

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checkpoints.json_values import dumps
from ffnn_gpu.checks import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_METRICS = ("epoch", "lr", "seconds", "samples_per_second", "loss", "val_loss")
MAX_METRIC_PANELS = 3
BLUE, RED = "#1f5fa8", "#c8443c"


@dataclass
class History:
    """Rows of epoch, loss, val_loss, metrics, lr, seconds, samples_per_second.

    Attributes:
        rows: one dict per finished epoch. Of a pack, losses and metrics are means over its members.
        members: of a pack, one dict per finished epoch: the vectors (R,) of the members' validation losses
            and metrics. `==` compares the rows, not these arrays.
        interrupted: the signal that ended the run early, or None.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    interrupted: int | None = None
    members: list[dict[str, HostArray]] = field(default_factory=list, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        last = self.rows[-1] if self.rows else {}
        values = [f"{name} {last[name]:.4g}" for name in ("loss", "val_loss") if name in last]
        return f"<History: {', '.join([counted(len(self), 'row'), *values])}>"

    def __getitem__(self, name: str) -> list[float]:
        """Return one column, for example history["val_loss"]; NaN for epochs without it.

        Raises KeyError with the list of columns.
        """
        if self.rows and name not in self.columns:
            listed = f"the columns are {', '.join(self.columns)}; history.rows lists the epochs"
            raise KeyError(f"the history has no column {name!r}; {listed}")
        return [row.get(name, math.nan) for row in self.rows]

    @property
    def columns(self) -> list[str]:
        """Every name in any row: a run that is resumed with more metrics has more columns from there on."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def to_csv(self, path: str | Path) -> None:
        """Write a header and one line per epoch."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns or ["epoch"])
            writer.writeheader()
            writer.writerows(self.rows)

    def to_jsonl(self, path: str | Path) -> None:
        """Write one JSON object per epoch and line, with null for a value that is not finite."""
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(dumps(row) + "\n" for row in self.rows)

    def best_epoch(self) -> int | None:
        """Return the epoch with the lowest validation loss, or training loss if there is no validation.

        Return None if no epoch has a finite one.
        """
        losses = np.array(self["val_loss" if "val_loss" in self.columns else "loss"])
        finite = np.flatnonzero(np.isfinite(losses))
        return int(self["epoch"][finite[losses[finite].argmin()]]) if len(finite) else None

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Draw the losses and the first validation metrics over the epochs, one panel each.

        The figure is also written to `path` if one is given. Needs the extra `plot`.
        """
        from matplotlib.figure import Figure

        last = self.rows[-1] if self.rows else {}
        metrics = [name for name in last if name not in NO_METRICS][:MAX_METRIC_PANELS]
        panels = 1 + len(metrics)
        figure = Figure(figsize=(4.5 * panels, 3.6), layout="constrained")
        losses, *others = figure.subplots(1, panels, squeeze=False)[0]
        for name, label, color in (("loss", "training", BLUE), ("val_loss", "validation", RED)):
            if name in last:
                self._draw(losses, name, label, color)
        if "val_loss" in last and (best := self.best_epoch()) is not None:
            lowest = self["val_loss"][self["epoch"].index(best)]
            losses.scatter([best], [lowest], color=RED, zorder=3, label=f"best epoch {best}")
        if all((line.get_ydata() > 0).all() for line in losses.lines):
            losses.set_yscale("log")
        losses.set(title="Loss")
        for name, axes in zip(metrics, others, strict=True):  # scales differ: an R² is nothing beside an RMSE
            self._draw(axes, name, "validation", RED)
            axes.set(title=f"Validation {name.removeprefix('val_').replace('_', ' ')}")
        for axes in (losses, *others):
            axes.set(xlabel="epoch")
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axes.grid(alpha=0.25)
            if axes.lines:
                axes.legend(frameon=False)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def _draw(self, axes: "Axes", name: str, label: str, color: str) -> None:
        marker = "o" if len(self) < 3 else None  # a line of one epoch would not be seen
        axes.plot(self["epoch"], np.array(self[name]), label=label, color=color, linewidth=1.6, marker=marker)
