"""What a training did, epoch by epoch."""

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class History:
    """Rows of epoch, loss, val_loss, metrics, lr, seconds, samples_per_second.

    Attributes:
        rows: one dict per finished epoch.
        interrupted: the signal that ended the training early, or None.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    interrupted: int | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> list[float]:
        """One column, for example history["val_loss"]; NaN for epochs without it. Raises KeyError with all names."""
        if self.rows and name not in self.columns:
            raise KeyError(f"{name!r}; there are {', '.join(self.columns)}")
        return [row.get(name, math.nan) for row in self.rows]

    @property
    def columns(self) -> list[str]:
        """Every name in any row: a training that is resumed with more metrics gains some midway."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def to_csv(self, path: str | Path) -> None:
        """One line per epoch under a header."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns or ["epoch"])
            writer.writeheader()
            writer.writerows(self.rows)

    def to_jsonl(self, path: str | Path) -> None:
        """One JSON object per epoch and line."""
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in self.rows)

    def plot(self, path: str | Path | None = None) -> Any:
        """Learning curves as a matplotlib figure, written to `path` if given. Needs the extra `plot`."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        names = [name for name in self.columns if name not in ("epoch", "seconds", "lr")]
        for name in names:
            if name != "samples_per_second":
                axes = left if name in ("loss", "val_loss") else right
                axes.plot(self["epoch"], self[name], label=name)
        left.set(xlabel="epoch", ylabel="loss")
        right.set(xlabel="epoch", ylabel="metrics")
        for axes in (left, right):
            if axes.lines:
                axes.legend()
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure
