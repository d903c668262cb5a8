"""What the command line says about data, results and what to do next."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffnn_gpu.backend import Backend
from ffnn_gpu.model import Model
from ffnn_gpu.readers import BUNDLED, Dataset
from ffnn_gpu.tasks import Task

IN_ORDER = "the header does not have all columns of the training by name; the columns are taken in order"


def data_line(data: Dataset, task: Task) -> str:
    """1,797 rows × 64 features, 10 classes → multiclass classification, softmax_cross_entropy on 10 outputs"""
    if task.labels is not None: target = f"{len(task.labels.classes):,} classes"
    elif task.kind == "multilabel": target = f"{task.outputs:,} labels"
    else: target = f"target from {data.y.min():.6g} to {data.y.max():.6g}"
    n, features = data.x.shape
    return f"{n:,} rows × {features:,} feature{'s' * (features != 1)}, {target} → {task}"


def parts_line(rows: Mapping[str, int], backend: Backend) -> str:
    """How many rows each part has, and which device computes."""
    counts = f"{rows['train']:,} rows to train, {rows['validation']:,} to validate, {rows['test']:,} to test"
    return f"{counts}; backend {backend.name}: {backend.reason}"


def metric_lines(row: Mapping[str, float], prefix: str = "") -> list[str]:
    """One "accuracy 0.9750" per metric."""
    return [f"{prefix}{name.replace('_', ' ')} {_number(value)}" for name, value in row.items()]


def evaluation_line(model: Model, data: Dataset, rows: int) -> str:
    """On which rows a model is evaluated; a warning where it knows some of them."""
    if data.x_test is not None:
        return f"{rows:,} rows, the test part of {data.name}"
    known = data.name == model.data
    return f"{rows:,} rows of {data.name}" + "; the model was trained on most of them: see result.json for the rest" * known


def result_lines(folder: Path, report: Mapping[str, Any]) -> list[str]:
    """Test metrics, the run folder, and commands to go on with."""
    lines = metric_lines(report["test"] or {}, "test ") or ["no test part: test is 0"]
    run, program = shlex.quote(str(folder)), _program()
    lines.append(f"{report['epochs']} of {report['epochs_asked']} epochs in {report['seconds']:.1f} s; run folder {folder}")
    if report["interrupted"]:
        return [*lines, f"interrupted by {report['interrupted']}; to go on:", f"  {program} train --resume --out {run}"]
    source = report["data"] if report["data"] in BUNDLED else "NEW_ROWS.csv"
    return [
        *lines, "next:",
        f"  {program} predict {run} {source} --output predictions.csv",
        f"  {program} train --config {run}/config.toml --seed {report['seed'] + 1}",
        f"  {program} train --resume --out {run} --epochs {2 * report['epochs_asked']}",
    ]  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.4f}" if 1e-3 <= abs(value) < 10 or value == 0 else f"{value:.5g}"


def _program() -> str:
    """What to type to get this program: its name if the shell finds it, else this Python."""
    found = shutil.which("ffnn-gpu")
    if found and Path(found).parent == Path(sys.executable).parent:
        return "ffnn-gpu"
    here = os.path.relpath(sys.executable)
    return f"{shlex.quote(sys.executable if here.startswith('..') else here)} -m ffnn_gpu"
