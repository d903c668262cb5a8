"""What the command line says about data, results and what to do next."""

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffnn_gpu.backends.choice import Backend, probe
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.data.readers import BUNDLED, Dataset, leaves_target_open
from ffnn_gpu.distributed import Communicator
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.task import Task

MAX_LISTED_NAMES = 5  # that one line lists
IN_ORDER = "the header does not have all columns of the training by name; the columns are taken in order"


def data_line(data: Dataset, task: Task, config: TrainConfig) -> str:
    """1,797 rows × 64 features, 10 classes → multiclass classification, softmax_cross_entropy on 10 outputs"""
    if task.labels is not None:
        values = f"{len(task.labels.classes):,} classes"
    elif task.kind == "multilabel":
        values = f"{task.outputs:,} labels"
    else:
        values = f"values from {data.y.min():.6g} to {data.y.max():.6g}"
    n, features = data.x.shape
    return (
        f"{n:,} rows × {features:,} feature{'s' * (features != 1)}, {_target(data, config)}{values} → {task}"
    )


def _target(data: Dataset, config: TrainConfig) -> str:
    """Which column is the target, where the source leaves the choice."""
    if not leaves_target_open(config.data):
        return ""
    index = data.x.shape[1] if config.target is None else config.target
    name = repr(data.target_name) if data.target_name else f"column {index}"
    return f"target {name}{' (the last column; --target changes it)' * (config.target is None)}, "


def split_line(rows: Mapping[str, int], backend: Backend) -> str:
    """How many rows each part has, and which device computes."""
    counts = f"{rows['train']:,} rows to train, {rows['validation']:,} to validate, {rows['test']:,} to test"
    return f"{counts}; backend {backend.name} ({_why(backend)})"


def ranks_line(ranks: Communicator, config: TrainConfig) -> str:
    """4 ranks, MPI between 4 processes (MPICH Version: 5.0.1); of each batch of 64 rows a rank has 16"""
    most = -(-config.batch_size // ranks.size)
    rows = f"{most}" if config.batch_size % ranks.size == 0 else f"{most - 1} or {most}"
    return f"{ranks.size} ranks, {ranks.reason}; of each batch of {config.batch_size} rows a rank has {rows}"


def _why(backend: Backend) -> str:
    if backend.memory() is not None or "auto" not in backend.reason:
        return backend.reason
    error = probe(0).error  # of the look that made auto choose NumPy
    if "No module named 'cupy'" in error:
        return 'no CuPy: pip install "ffnn_gpu[cuda12x]" where there is a GPU'
    return f"no GPU: {textwrap.shorten(error.rsplit(': ', 1)[-1], 80, placeholder=' …')}; ffnn-gpu info says more"


def metric_lines(row: Mapping[str, float], prefix: str = "") -> list[str]:
    """One "accuracy 0.9750" per metric."""
    return [f"{prefix}{name.replace('_', ' ')} {_number(value)}" for name, value in row.items()]


def evaluation_line(model: Model, data: Dataset, rows: int) -> str:
    """On which rows a model is evaluated; a warning where it knows some of them."""
    if data.x_test is not None:
        return f"{rows:,} rows, the test part of {data.name}"
    known = data.name == model.data
    return (
        f"{rows:,} rows of {data.name}"
        + "; the model was trained on most of them: see result.json for the rest" * known
    )


def held_out_line(model: Model, rows: int) -> str:
    """What `evaluate` without DATA reads."""
    return f"{rows:,} rows, the test part that the run held out of {model.data}"


def cut_line(values: int, limit: float | None) -> str:
    """3 values beyond 5 deviations of the training rows were cut"""
    some = "1 value" if values == 1 else f"{values:,} values"
    return f"{some} beyond {limit:g} deviations of the training rows {'was' if values == 1 else 'were'} cut"


def constant_line(model: Model) -> str | None:
    """Which columns carry nothing because they do not vary in the training rows."""
    constant = model.standardizer.constant if model.standardizer else ()
    names = [repr(model.feature_names[k]) if model.feature_names else str(k) for k in constant]
    if not names:
        return None
    if len(names) == 1:
        return f"column {names[0]} is constant in the training rows and carries nothing"
    listed = ", ".join(names[:MAX_LISTED_NAMES]) + f", … ({len(names)} in all)" * (
        len(names) > MAX_LISTED_NAMES
    )
    return f"columns {listed} are constant in the training rows and carry nothing"


def result_lines(folder: Path, report: Mapping[str, Any], brief: bool = False) -> list[str]:
    """Test metrics, the run folder, and, unless brief, commands to go on with."""
    lines = metric_lines(report["test"] or {}, "test ") or ["no test part: test is 0"]
    run, program, started = shlex.quote(str(folder)), _program(), _starts(report["ranks"])
    epochs, asked = report["epochs"], report["epochs_asked"]
    early = epochs < asked and not report["interrupted"]
    done = f"stopped early after epoch {epochs}" if early else f"{epochs} of {asked} epochs"
    best = f", best epoch {report['best_epoch']}," if report["best_epoch"] else ""
    lines.append(f"{done}{best} in {report['seconds']:.1f} s; run folder {folder}")
    if report["interrupted"]:
        return [
            *lines,
            f"interrupted by {report['interrupted']}; to go on:",
            f"  {started} train --resume --out {run}",
        ]
    if brief:
        return lines
    source = report["data"] if report["data"] in BUNDLED else "NEW_ROWS.csv"
    lines += [
        "next:",
        f"  {program} predict {run} {source} --output predictions.csv",
        f"  {started} train --config {run}/config.toml --seed {report['seed'] + 1}",
    ]
    if report["schedule"] == "constant" and not early:  # others have come down to a rate of almost nothing
        lines.append(f"  {started} train --resume --out {run} --epochs {2 * asked}")
    return lines


def _number(value: float) -> str:
    return f"{value:.4f}" if 1e-3 <= abs(value) < 10 or value == 0 else f"{value:.5g}"


def _program() -> str:
    """What to type to get this program: its name if the shell finds it, else this Python."""
    found = shutil.which("ffnn-gpu")
    if found and Path(found).parent == Path(sys.executable).parent:
        return "ffnn-gpu"
    return f"{_python()} -m ffnn_gpu"


def _python() -> str:
    here = os.path.relpath(sys.executable)
    return shlex.quote(sys.executable if here.startswith("..") else here)


def _starts(ranks: int) -> str:
    """The program on as many processes."""
    return _program() if ranks == 1 else f"mpiexec -n {ranks} {_python()} -m mpi4py -m ffnn_gpu"
