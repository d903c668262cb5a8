"""Pictures of a run: learning curve, confusion matrix, predicted against true.

Why `matplotlib.figure.Figure` and never pyplot: a figure of its own needs no display, and leaves no global state behind.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ffnn_gpu.training.history import History

DPI = 150
BLUE, RED, GREY = "#1f5fa8", "#c8443c", "#8a8a8a"
MAX_CLASSES_WITH_COUNTS = 30  # classes up to which every cell says its count
MAX_CLASS_NAMES = 60  # classes up to which every row has its name
MAX_LETTERS_IN_A_ROW = 28  # of names side by side under the matrix; more are turned
MAX_METRIC_PANELS = 3  # metrics that get a panel of the learning curve
MAX_OUTPUT_PANELS = 4  # outputs of a regression that get a panel
MAX_NAME_LENGTH = 24
NOT_DRAWN = ("epoch", "lr", "seconds", "samples_per_second", "loss", "val_loss")


def learning_curve(history: History, path: str | Path | None = None) -> Any:
    """Loss of training and validation part, and the first validation metrics, over the epochs; returns the figure."""
    drawn = [name for name in (history.rows[-1] if history.rows else {}) if name not in NOT_DRAWN][
        :MAX_METRIC_PANELS
    ]
    figure = _figure(4.5 * (1 + len(drawn)), 3.6)
    losses, *others = figure.subplots(1, 1 + len(drawn), squeeze=False)[0]
    _curves(losses, history, {"loss": ("training", BLUE), "val_loss": ("validation", RED)})
    losses.set(title="Loss")
    if history.rows and "val_loss" in history.rows[-1]:
        best = best_epoch(history)
        lowest = history["val_loss"][history["epoch"].index(best)]
        losses.scatter([best], [lowest], color=RED, zorder=3, label=f"best epoch {best}")
        losses.legend(frameon=False)
    if all((line.get_ydata() > 0).all() for line in losses.lines):
        losses.set_yscale("log")
    for name, axes in zip(drawn, others, strict=True):  # scales differ: an R² is nothing beside an RMSE
        _curves(axes, history, {name: ("validation", RED)})
        axes.set(title=f"Validation {_words(name)}")
    return _written(figure, path)


def best_epoch(history: History) -> int:
    """The epoch of the lowest validation loss, or of the lowest training loss where there is none."""
    losses = history["val_loss" if "val_loss" in history.columns else "loss"]
    return int(history["epoch"][int(np.nanargmin(losses))])


def confusion_matrix(counts: ArrayLike, names: Sequence[object], path: str | Path | None = None) -> Any:
    """Counts (C, C), row = true class, column = predicted class, coloured by their share of the row."""
    cells = np.asarray(counts)
    C = len(cells)
    side = min(max(4.2, 1.8 + 0.45 * C), 14.0)
    figure = _figure(side + 0.6, side)
    axes = figure.subplots()
    share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    _name_classes(axes, [_short(name) for name in names])
    right = int(np.trace(cells))
    axes.set(xlabel="predicted", ylabel="true", title=f"{right:,} of {int(cells.sum()):,} right")
    if C <= MAX_CLASSES_WITH_COUNTS:
        _write_counts(axes, cells, share, size=9 if C <= 12 else 7)
    return _written(figure, path)


def predicted_against_true(
    y: ArrayLike, prediction: ArrayLike, names: Sequence[str] = (), path: str | Path | None = None
) -> Any:
    """One panel per output, the first four at most: a dot per row, and the line on which a prediction is exact."""
    y, prediction = (np.asarray(a, dtype=np.float64).reshape(len(np.asarray(a)), -1) for a in (y, prediction))
    K = min(y.shape[1], MAX_OUTPUT_PANELS)
    figure = _figure(4.4 * K, 4.2)
    for k, axes in enumerate(figure.subplots(1, K, squeeze=False)[0]):
        low, high = min(y[:, k].min(), prediction[:, k].min()), max(y[:, k].max(), prediction[:, k].max())
        margin = 0.04 * (high - low) or 1.0
        ends = [low - margin, high + margin]
        axes.plot(ends, ends, color=GREY, linewidth=1, zorder=1, label="exact")
        axes.scatter(
            y[:, k], prediction[:, k], s=16, color=BLUE, alpha=_alpha(len(y)), linewidths=0, zorder=2
        )
        axes.set(xlabel="true", ylabel="predicted", xlim=ends, ylim=ends, aspect="equal")
        axes.set_title(_short(names[k]) if k < len(names) else "Predicted against true")
        axes.legend(frameon=False, loc="upper left")
        axes.grid(alpha=0.25)
    return _written(figure, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _written(figure: Any, path: str | Path | None) -> Any:
    if path is not None:
        figure.savefig(path, dpi=DPI)
    return figure


def _curves(axes: Any, history: History, columns: dict[str, tuple[str, str | None]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for name, (label, color) in columns.items():
        if history.rows and name in history.rows[-1]:
            few = "o" if len(history) < 3 else None
            axes.plot(
                history["epoch"], np.array(history[name]), label=label, color=color, linewidth=1.6, marker=few
            )
    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25)
    if axes.lines:
        axes.legend(frameon=False)


def _name_classes(axes: Any, names: list[str]) -> None:
    every = math.ceil(len(names) / MAX_CLASS_NAMES)
    places, shown = range(0, len(names), every), names[::every]
    crowded = len(shown) * max(map(len, shown), default=0) > MAX_LETTERS_IN_A_ROW
    axes.set_xticks(
        places,
        shown,
        rotation=45 if crowded else 0,
        ha="right" if crowded else "center",
        rotation_mode="anchor" if crowded else None,
    )
    axes.set_yticks(places, shown)
    if len(names) > 20:
        axes.tick_params(labelsize=7)


def _write_counts(axes: Any, cells: Any, share: Any, size: int) -> None:
    for (row, column), count in np.ndenumerate(cells):
        if count:
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=size, color=color)


def _alpha(rows: int) -> float:
    return min(0.8, max(0.1, 200 / rows))


def _short(name: object) -> str:
    text = str(name).replace("$", r"\$")  # no mathematics in names of classes
    return text if len(text) <= MAX_NAME_LENGTH else f"{text[: MAX_NAME_LENGTH - 1]}…"


def _words(column: str) -> str:
    return column.removeprefix("val_").replace("_", " ")
