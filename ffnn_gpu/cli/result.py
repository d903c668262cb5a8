"""Write the result of a run: result.json and the plots."""

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

import numpy as np

import ffnn_gpu
from ffnn_gpu.checkpoints import atomic_file
from ffnn_gpu.cli import plots, run_folder
from ffnn_gpu.cli.exit_codes import Announce
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.cli.split import Part, Split
from ffnn_gpu.estimators.model import Model, true_and_predicted
from ffnn_gpu.evaluation import metrics
from ffnn_gpu.training.history import History


@dataclass(frozen=True, eq=False)
class Result:
    """The folder of a finished run, its model, its history and the content of its result.json."""

    folder: Path
    model: Model
    history: History
    report: dict[str, Any]


def build_report(
    config: TrainConfig,
    model: Model,
    split: Split,
    test: dict[str, float] | None,
    history: History,
    seconds: float,
    ranks: int,
) -> dict[str, Any]:
    """Return the content of result.json; `test` holds loss and metrics of the test set, None without one."""
    signal = history.interrupted
    return {
        "data": model.data,
        "task": model.task.kind,
        "loss": model.task.loss_name,
        "test": test,
        "epochs": len(history),
        "epochs_asked": config.epochs,
        "best_epoch": history.best_epoch() if config.early_stopping and len(history) else None,
        "schedule": config.schedule,
        "interrupted": signal and Signals(signal).name,
        "rows": split.counts(),
        "features": model.network.n_in,
        "seed": config.seed,
        "seconds": round(seconds, 3),
        "ranks": ranks,
        "backend": model.network.backend.name,
        "reason": model.network.backend.reason,
        "versions": {
            "ffnn_gpu": ffnn_gpu.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
    }


def write_report(done: Result, test: Part | None, announce: Announce) -> None:
    """Write result.json and the plots. Without matplotlib, announce that there are no plots."""
    text = json.dumps(done.report, indent=2, ensure_ascii=False)
    atomic_file.write(done.folder / run_folder.RESULT, f"{text}\n".encode())
    try:
        _draw_plots(done, test)
    except ImportError as error:
        announce(f'no plots: matplotlib is not installed ({error}); pip install "ffnn_gpu[plot]"')


def _draw_plots(done: Result, test: Part | None) -> None:
    folder, model, history = done.folder, done.model, done.history
    if len(history):
        history.plot(folder / run_folder.LEARNING_CURVE)
    if test is None or (model.task.kind != "regression" and model.task.labels is None):
        return
    y, prediction = true_and_predicted(model, test.x, test.y)
    if model.task.labels is None:
        names = [model.target_name] if model.target_name and model.task.outputs == 1 else []
        figure, file = plots.predicted_against_true(y, prediction, names), run_folder.AGAINST_TRUE
    else:
        names = [model.task.columns[k] for k in np.union1d(y, prediction)]
        counts = metrics.confusion_matrix(y, prediction)
        figure, file = plots.confusion_matrix(counts, names), run_folder.CONFUSION_MATRIX
    figure.savefig(folder / file, dpi=plots.DPI)
