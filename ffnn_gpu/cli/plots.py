"""Draw the test results of a run: confusion matrix, predicted against true.

Why `matplotlib.figure.Figure` and never pyplot: a Figure needs no display and leaves no global state behind.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ffnn_gpu.arrays.array_types import HostArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
BLUE, GREY = "#1f5fa8", "#8a8a8a"
MAX_CLASSES_WITH_COUNTS = 30  # with more classes, the cells show colours only
MAX_CLASS_NAMES = 60  # with more classes, only some rows and columns are named
MAX_LETTERS_IN_A_ROW = 28  # with more letters, the names under the matrix are turned
MAX_OUTPUT_PANELS = 4
MAX_NAME_LENGTH = 24


def confusion_matrix(counts: ArrayLike, names: Sequence[object]) -> "Figure":
    """Draw counts (C, C), rows = true class, columns = predicted class; colour = share of the row."""
    cells = np.asarray(counts)
    C = len(cells)
    side = min(max(4.2, 1.8 + 0.45 * C), 14.0)
    figure = _figure(side + 0.6, side)
    axes = figure.subplots()
    share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    _name_classes(axes, [_short(name) for name in names])
    correct = int(np.trace(cells))
    axes.set(xlabel="predicted", ylabel="true", title=f"{correct:,} of {int(cells.sum()):,} correct")
    if C <= MAX_CLASSES_WITH_COUNTS:
        _write_counts(axes, cells, share, size=9 if C <= 12 else 7)
    return figure


def predicted_against_true(y: ArrayLike, prediction: ArrayLike, names: Sequence[str] = ()) -> "Figure":
    """Draw a dot per row and the line of exact predictions, one panel for each of the first four outputs."""
    y, prediction = (np.asarray(a, dtype=np.float64).reshape(len(np.asarray(a)), -1) for a in (y, prediction))
    panels = min(y.shape[1], MAX_OUTPUT_PANELS)
    figure = _figure(4.4 * panels, 4.2)
    alpha = min(0.8, max(0.1, 200 / len(y)))
    for k, axes in enumerate(figure.subplots(1, panels, squeeze=False)[0]):
        low, high = min(y[:, k].min(), prediction[:, k].min()), max(y[:, k].max(), prediction[:, k].max())
        margin = 0.04 * (high - low) or 1.0
        ends = [low - margin, high + margin]
        axes.plot(ends, ends, color=GREY, linewidth=1, zorder=1, label="exact")
        axes.scatter(y[:, k], prediction[:, k], s=16, color=BLUE, alpha=alpha, linewidths=0, zorder=2)
        axes.set(xlabel="true", ylabel="predicted", xlim=ends, ylim=ends, aspect="equal")
        axes.set_title(_short(names[k]) if k < len(names) else "Predicted against true")
        axes.legend(frameon=False, loc="upper left")
        axes.grid(alpha=0.25)
    return figure


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _name_classes(axes: "Axes", names: list[str]) -> None:
    every = math.ceil(len(names) / MAX_CLASS_NAMES)
    places, shown = range(0, len(names), every), names[::every]
    axes.set_xticks(places, shown)
    axes.set_yticks(places, shown)
    if len(shown) * max(map(len, shown), default=0) > MAX_LETTERS_IN_A_ROW:
        for label in axes.get_xticklabels():
            label.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")
    if len(names) > 20:
        axes.tick_params(labelsize=7)


def _write_counts(axes: "Axes", cells: HostArray, share: HostArray, size: int) -> None:
    for (row, column), count in np.ndenumerate(cells):
        if count:
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count}", ha="center", va="center", fontsize=size, color=color)


def _short(name: object) -> str:
    text = str(name).replace("$", r"\$")  # matplotlib would read $…$ as mathematics
    return text if len(text) <= MAX_NAME_LENGTH else f"{text[: MAX_NAME_LENGTH - 1]}…"
