"""What a run says of itself when it is over: result.json, and the pictures."""

import platform
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import Any

import numpy as np

import ffnn_gpu
from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.cli import plots, run_folder
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.cli.split import Split
from ffnn_gpu.estimators.model import Model, true_and_predicted
from ffnn_gpu.evaluation import metrics
from ffnn_gpu.training.history import History

Announce = Callable[[str], None]


def build_report(
    config: TrainConfig,
    model: Model,
    split: Split,
    test: dict[str, float] | None,
    history: History,
    seconds: float,
    ranks: int,
) -> dict[str, Any]:
    """What result.json holds; test: loss and metrics of the test part, None where there is none."""
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


def write_report(
    folder: Path,
    report: dict[str, Any],
    model: Model,
    test: tuple[HostArray, HostArray] | None,
    history: History,
    announce: Announce,
) -> None:
    """Write result.json, then the pictures; `announce` gets a line where there is nothing to draw them with."""
    run_folder.write_json(folder / run_folder.RESULT, report)
    _draw_plots(folder, model, test, history, announce)


def _draw_plots(
    folder: Path, model: Model, test: tuple[HostArray, HostArray] | None, history: History, announce: Announce
) -> None:
    try:
        if len(history):
            history.plot(folder / run_folder.LEARNING_CURVE)
        if test is not None and model.task.kind == "regression":
            names = [model.target_name] if model.target_name and model.task.outputs == 1 else []
            plots.predicted_against_true(
                *true_and_predicted(model, *test), names, folder / run_folder.AGAINST_TRUE
            )
        if test is not None and model.task.labels is not None:
            y, prediction = true_and_predicted(model, *test)
            names = [model.task.columns[k] for k in np.union1d(y, prediction)]
            plots.confusion_matrix(
                metrics.confusion_matrix(y, prediction), names, folder / run_folder.CONFUSION_MATRIX
            )
    except ImportError as error:
        announce(f'no pictures, because matplotlib is not installed ({error}); pip install "ffnn_gpu[plot]"')
