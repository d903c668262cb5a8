"""Write the result of a run: result.json and the plots."""

import functools
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any

import numpy as np

import ffnn_gpu
from ffnn_gpu.checkpoints import atomic_file
from ffnn_gpu.checkpoints.json_values import dumps
from ffnn_gpu.cli import plots, run_folder
from ffnn_gpu.cli.exit_codes import Announce
from ffnn_gpu.cli.fitting import Fitted
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.estimators.model import Model, true_and_predicted
from ffnn_gpu.estimators.model_choice import Choice
from ffnn_gpu.estimators.split import Part, Split
from ffnn_gpu.estimators.training_data import Training
from ffnn_gpu.evaluation import metrics
from ffnn_gpu.evaluation.metrics import READ_SCORES
from ffnn_gpu.tables.table import Table
from ffnn_gpu.training.history import History

ERRORS = ("rmse", "mae", "mse")  # metrics that are lower for a better network


@dataclass(frozen=True, eq=False)
class Result:
    """The folder of a finished run, its model, its history and the content of its result.json.

    training, split: the data and its parts, if they are still at hand.
    """

    folder: Path
    model: Model
    history: History
    report: dict[str, Any]
    training: Training | None = field(default=None, kw_only=True)
    split: Split | None = field(default=None, kw_only=True)


def build_report(
    config: TrainConfig,
    choice: Choice,
    fitted: Fitted,
    split: Split,
    training: Training,
    test: dict[str, float] | None,
    seconds: float,
    ranks: int,
) -> dict[str, Any]:
    """Return the content of result.json; `test` holds loss and metrics of the test set, None without one."""
    model, signal = fitted.model, fitted.history.interrupted
    return {
        "model": choice.model,
        "model_reason": choice.reason,
        "data": model.data,
        "task": model.task.kind,
        "loss": model.task.loss_name,
        "test": test,
        "baseline": test and baseline(model, split, test),
        **fitted.course,
        "interrupted": signal and Signals(signal).name,
        "rows": split.counts(),
        "rows_without_target": training.lacking,
        "table": checksum_of(training.table),
        "features": model.network.n_in,
        "seed": config.seed,
        "seconds": round(seconds, 3),
        "peak_bytes": peak_bytes(),
        "ranks": ranks,
        "backend": model.network.backend.name,
        "reason": model.network.backend.reason,
        "versions": {
            "ffnn_gpu": ffnn_gpu.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "platform": platform.platform(),
    }


def peak_bytes() -> int | None:
    """Return the largest memory that this process has used so far; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def checksum_of(table: Table | None) -> dict[str, str] | None:
    """Return a checksum of the cells in their order, and the version of DuckDB that computed it."""
    if table is None or table.connection is None:  # another rank has read it
        return None
    ((version,),) = table.ask("SELECT version()")
    return {"checksum": table.fingerprint(), "duckdb": version}


def baseline(model: Model, split: Split, test: Mapping[str, float]) -> dict[str, Any] | None:
    """Return what a constant prediction scores on the test set: the most frequent class, or the mean.

    Both are those of the training rows, with their weights. `better` is 1 − error / error of the constant,
    None if that is 0. The error of rmse, mae and mse is the metric itself, and of others 1 − metric.
    """
    if split.test is None:
        return None
    known, y = model.task.encode(split.train.y), model.task.encode(split.test.y)
    mean = functools.partial(np.average, axis=0, weights=split.train.weight)
    if model.task.kind == "regression":
        known, y = (np.reshape(a, (len(a), -1)) for a in (split.train.y, split.test.y))
        constant, says = mean(known), "the mean of the training rows"
    elif model.task.labels is not None:
        constant = np.bincount(known, split.train.weight).argmax()
        says = f"always {model.task.labels.classes[int(constant)]!r}"
    else:
        constant, says = ((mean(known) > 0.5).astype(known.dtype), "the more frequent value of each label")
    prediction = np.broadcast_to(constant, y.shape)
    names = [name for name in test if name != "loss" and name not in READ_SCORES and name in metrics.METRICS]
    weight = split.test.weight
    scores = {name: float(metrics.METRICS[name](y, prediction, sample_weight=weight)) for name in names}
    finite = {name: score for name, score in scores.items() if np.isfinite(score)}
    if not finite:
        return None
    name = next(iter(finite))
    error, least = (value if name in ERRORS else 1 - value for value in (test[name], finite[name]))
    return {"predicts": says, **finite, "metric": name, "better": 1 - error / least if least > 0 else None}


def write_report(done: Result, test: Part | None, announce: Announce) -> None:
    """Write result.json and the plots. Without matplotlib, announce that there are no plots."""
    text = dumps(done.report, indent=2, ensure_ascii=False)
    atomic_file.write(done.folder / run_folder.RESULT, f"{text}\n".encode())
    try:
        _draw_plots(done, test)
    except ImportError as error:
        announce(f'no plots: matplotlib is not installed ({error}); pip install "ffnn_gpu[plot]"')


def _draw_plots(done: Result, test: Part | None) -> None:
    folder, model, history = done.folder, done.model, done.history
    if "epoch" in history.columns:  # a history of members has none
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
