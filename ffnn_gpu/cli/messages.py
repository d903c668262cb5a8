"""The lines that the command prints about data, results and what to do next."""

import os
import shlex
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffnn_gpu.backends import Backend, probe
from ffnn_gpu.checks import counted
from ffnn_gpu.cli.reading import reads_table
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.data.readers import BUNDLED, Dataset, leaves_target_open
from ffnn_gpu.distributed import Communicator
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.split import Part
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.tables.columns import Column
from ffnn_gpu.tables.concerns import warnings_of
from ffnn_gpu.tables.rows import TableRows
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Table

MAX_LISTED_NAMES = 5
IN_ORDER = "the header lacks column names of the training data; the columns are taken in order"


def data_line(data: Dataset, task: Task, config: TrainConfig, columns: Sequence[Column] = ()) -> str:
    """1,797 rows × 64 features, 10 classes → multiclass classification, softmax_cross_entropy on …"""
    if task.labels is not None:
        values = counted(len(task.labels.classes), "class", "classes")
    elif task.kind == "multilabel":
        values = counted(task.outputs, "label")
    else:
        values = f"values from {data.y.min():.6g} to {data.y.max():.6g}"
    n, features = data.x.shape
    shape = f"{counted(n, 'row')} × {counted(features, 'feature')}{_kinds(columns)}"
    return f"{shape}, {_target(data, config)}{values} → {task}"


def _target(data: Dataset, config: TrainConfig) -> str:
    """Name the target column if the user may choose it, else return ""."""
    if not (reads_table(config) or leaves_target_open(config.data)):
        return ""
    index = data.x.shape[1] if config.target is None else config.target
    name = repr(data.target_name) if data.target_name else f"column {index}"
    return f"target {name}{' (the last column; --target changes it)' * (config.target is None)}, "


def _kinds(columns: Sequence[Column]) -> str:
    """Return how many columns are of each kind, "" if all are numbers."""
    counts = Counter(column.kind for column in columns if column.is_used)
    if {*counts} <= {"number"}:
        return ""
    several = {"number": "numbers", "category": "categories", "boolean": "booleans", "time": "times"}
    return f" ({', '.join(f'{n} {kind if n == 1 else several[kind]}' for kind, n in counts.most_common())})"


def table_lines(table: Table, columns: Sequence[Column], training: Part, config: TrainConfig) -> list[str]:
    """Return what was decided about a table, which columns are left out and why, and what may go wrong."""
    left_out = [f"{column.name!r} ({column.reason})" for column in columns if not column.is_used]
    names = [table.names[place] for place in training.x.skip]
    spelling = Spelling(table.decimal, config.missing)
    concerns = [
        each.text for each in warnings_of(table, columns, spelling, names, training.y, training.x.index)
    ]
    said = {"read": table.remarks, "left out": left_out, "warning": concerns}
    return [f"{what}: {_listed(texts)}" for what, texts in said.items() if texts]


def lacking_line(rows: int) -> str:
    """9 rows lack a target and are left out"""
    return (
        "1 row lacks a target and is left out"
        if rows == 1
        else f"{rows:,} rows lack a target and are left out"
    )


def _listed(texts: Sequence[str]) -> str:
    more = f"; … ({len(texts)} in all, see ffnn-gpu inspect)" if len(texts) > MAX_LISTED_NAMES else ""
    return "; ".join(texts[:MAX_LISTED_NAMES]) + more


def table_line(x: Any) -> str:
    """a.csv: cells separated by ';', decimal sign ',', the first row is the header; "" if x is no table"""
    if not isinstance(x, TableRows) or not x.table.remarks:
        return ""
    return f"{x.table.source}: {', '.join(x.table.remarks)}"


def split_line(rows: Mapping[str, int], backend: Backend, folds: int = 0) -> str:
    """86 rows to train, 10 to validate, 24 to test; backend numpy (FFNN_GPU_DEVICE=numpy)

    folds: of an ensemble, which has no rows for validation alone.
    """
    validation = f", {rows['validation']:,} to validate"
    if folds:
        validation = f" in {folds} folds (each validates the members trained on the others)"
    parts = f"{counted(rows['train'], 'row')} to train{validation}, {rows['test']:,} to test"
    return f"{parts}; backend {backend.name} ({_why(backend)})"


def ranks_line(ranks: Communicator, config: TrainConfig) -> str:
    """4 ranks, MPI between 4 processes (MPICH 5.0.1); each computes 16 of the 64 rows of a batch"""
    most = -(-config.batch_size // ranks.size)
    rows = f"{most}" if config.batch_size % ranks.size == 0 else f"{most - 1} or {most}"
    part = f"{rows} of the {counted(config.batch_size, 'row')} of a batch"
    return f"{ranks.size} ranks, {ranks.reason}; each computes {part}"


def _why(backend: Backend) -> str:
    if backend.memory() is not None or "auto" not in backend.reason:
        return backend.reason
    error = probe(0).error  # the reason why auto chose NumPy
    if "No module named 'cupy'" in error:
        return 'CuPy is not installed; on a machine with a GPU: pip install "ffnn_gpu[cuda12x]"'
    return f"no GPU: {textwrap.shorten(error.rsplit(': ', 1)[-1], 80, placeholder=' …')}; see ffnn-gpu info"


def metric_lines(row: Mapping[str, float], prefix: str = "") -> list[str]:
    """Format each metric as "accuracy 0.9750"."""
    return [f"{prefix}{name.replace('_', ' ')} {_number(value)}" for name, value in row.items()]


def evaluation_line(model: Model, data: Dataset, x: Any) -> str:
    """Name the rows that `evaluate` uses; warn if the model was trained on them."""
    if data.x_test is not None:
        return f"{counted(len(x), 'row')}, the test set of {data.name}"
    lacking = len(x.table) - len(x) if isinstance(x, TableRows) else 0
    left_out = f"; {lacking_line(lacking)}" if lacking else ""
    warning = "; the model was trained on most of them, result.json has the metrics of its test set"
    return f"{counted(len(x), 'row')} of {data.name}{left_out}" + warning * (data.name == model.data)


def unfamiliar_lines(model: Model, x: Any) -> list[str]:
    """column 'district': 3 of 400 cells with a level that no training row has: 'West'"""
    found = model.unfamiliar(x)
    more = len(found) - MAX_LISTED_NAMES
    return found[:MAX_LISTED_NAMES] + [f"… and {counted(more, 'more such column')}"] * (more > 0)


def weight_line(model: Model, part: Part, unweighted: bool) -> str:
    """Say whether rows have the weights that the model was trained with; "" if it was trained without."""
    name = model.weight_name
    if name is None:
        return ""
    if part.weight is not None:
        return f"rows are weighted by {name!r}, as in the training run; --unweighted leaves the weights out"
    return f"every row weighs the same: {'--unweighted' if unweighted else f'there is no column {name!r}'}"


def cut_line(values: int, limit: float | None) -> str:
    """3 values more than 5 standard deviations from the mean … were clipped to that limit"""
    far = f"more than {limit:g} standard deviations from the mean of the training rows"
    return f"{counted(values, 'value')} {far} {'was' if values == 1 else 'were'} clipped to that limit"


def constant_line(model: Model) -> str | None:
    """Name the columns that are ignored because they are constant in the training rows."""
    constant = model.standardizer.constant if model.standardizer else ()
    names = [repr(model.feature_names[k]) if model.feature_names else str(k) for k in constant]
    if not names:
        return None
    if len(names) == 1:
        return f"column {names[0]} is constant in the training rows and is ignored"
    more = f", … ({len(names)} in all)" if len(names) > MAX_LISTED_NAMES else ""
    listed = ", ".join(names[:MAX_LISTED_NAMES])
    return f"columns {listed}{more} are constant in the training rows and are ignored"


def result_lines(folder: Path, report: Mapping[str, Any], brief: bool = False) -> list[str]:
    """Format the test metrics, the run folder and, unless brief, the commands to continue with."""
    lines = metric_lines(report["test"] or {}, "test ") or ["no test set: test is 0"]
    if report.get("baseline") and not brief:
        lines.append(baseline_line(report["baseline"]))
    run, this, started = shlex.quote(str(folder)), program(), _program_on(report["ranks"])
    if report.get("ensemble") and not brief:
        lines += report["ensemble"]["explanation"]
    lines.append(f"{_course(report)} in {report['seconds']:.1f} s; run folder {folder}")
    if report["interrupted"]:
        resume = f"  {started} train --resume --out {run}"
        return [*lines, f"interrupted by {report['interrupted']}; to continue:", resume]
    if brief:
        return lines
    source = report["data"] if report["data"] in BUNDLED else "NEW_ROWS.csv"
    lines += [
        "next:",
        f"  {this} predict {run} {source} --output predictions.csv",
        f"  {started} train --config {run}/config.toml --seed {report['seed'] + 1}",
    ]
    if _lacks_members(report):
        lines.append(f"  {started} train --resume --out {run}")
    if report.get("schedule") == "constant" and report["epochs"] == report["epochs_asked"]:
        # other schedules end with a rate near 0
        lines.append(f"  {started} train --resume --out {run} --epochs {2 * report['epochs_asked']}")
    return lines


def _lacks_members(report: Mapping[str, Any]) -> bool:
    """Return whether the time was over before every member of an ensemble was trained to its end."""
    found = report.get("ensemble")
    return bool(found and (found["stopped_early"] or len(found["members"]) < found["members_asked"]))


def _course(report: Mapping[str, Any]) -> str:
    """20 of 30 epochs, best epoch 12,"""
    if found := report.get("ensemble"):
        count = f"{len(found['members'])} of {counted(found['members_asked'], 'member')}"
        return count + f", {found['stopped_early']} of them stopped early," * bool(found["stopped_early"])
    epochs, asked = report["epochs"], report["epochs_asked"]
    ended = epochs < asked and not report["interrupted"]
    done = f"stopped early after epoch {epochs}" if ended else f"{epochs} of {counted(asked, 'epoch')}"
    return done + (f", best epoch {report['best_epoch']}," if report["best_epoch"] else "")


def baseline_line(baseline: Mapping[str, Any]) -> str:
    """baseline accuracy 0.5300 (always 'ripe'): the network makes 94% fewer errors"""
    name, better = baseline["metric"], baseline["better"]
    start = f"baseline {metric_lines({name: baseline[name]})[0]} ({baseline['predicts']})"
    if better is None or better <= 0:
        return f"{start}: the network is no better"
    if name in ("rmse", "mae", "mse"):
        return f"{start}: the network's is {better:.0%} lower"
    return f"{start}: the network makes {better:.0%} fewer errors" if name == "accuracy" else start


def _number(value: float) -> str:
    return f"{value:.4f}" if 1e-3 <= abs(value) < 10 or value == 0 else f"{value:.5g}"


def program() -> str:
    """Return what starts this program in a shell: its name if it is on the PATH, else this Python."""
    found = shutil.which("ffnn-gpu")
    if found and Path(found).parent == Path(sys.executable).parent:
        return "ffnn-gpu"
    return f"{_python()} -m ffnn_gpu"


def _python() -> str:
    here = os.path.relpath(sys.executable)
    return shlex.quote(sys.executable if here.startswith("..") else here)


def _program_on(ranks: int) -> str:
    """Return what starts this program on this number of processes."""
    return program() if ranks == 1 else f"mpiexec -n {ranks} {_python()} -m mpi4py -m ffnn_gpu"
