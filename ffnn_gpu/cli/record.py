"""A run folder → what `ffnn-gpu report` knows of the run; what cannot be read is left out with a reason."""

import json
import math
from pathlib import Path
from typing import Any

from ffnn_gpu.checkpoints import checkpoint, tensor_file
from ffnn_gpu.checks import is_number, shortened
from ffnn_gpu.cli import run_folder
from ffnn_gpu.cli.reading import reads_table
from ffnn_gpu.cli.saved_result import saved_report
from ffnn_gpu.cli.settings import TrainConfig, resolve
from ffnn_gpu.cli.train import read_again
from ffnn_gpu.errors import CheckpointError, ConfigurationError, DataError, FfnnGpuError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.split import Split
from ffnn_gpu.estimators.training_data import Training
from ffnn_gpu.report.findings import Omission
from ffnn_gpu.report.record import MemberCourse, Record
from ffnn_gpu.tables.sources import STDIN, is_pipe
from ffnn_gpu.training.history import History

ABOUT_DATA = "why columns are what they are, and everything about test rows"


def record_of(run: str, device: str = "auto") -> Record:
    """Read a run folder.

    Raises:
        ConfigurationError: it is no run folder, or its config.toml cannot be read.
        DataError: result.json or metrics.jsonl is damaged.
    """
    folder = Path(run)
    config = _config(run, folder)
    saved, history = saved_report(folder), history_of(folder)
    omitted: list[Omission] = []
    model = _model(folder, device, omitted)
    data = None if model is None else _data(folder, config, model, omitted)
    training, split = data or (None, None)
    courses, size = courses_of(folder, history, omitted), size_of(folder)
    return Record(run, config, saved, history, courses, model, training, split, size, tuple(omitted))


def unfinished_record(run: str) -> Record:
    """Read what the files of a run that is under way tell, without its model and its data."""
    folder, omitted = Path(run), [Omission("everything that the model answers", "the run is under way")]
    config, history = _config(run, folder), history_of(folder)
    return Record(run, config, {}, history, courses_of(folder, history, omitted), omitted=tuple(omitted))


def _config(run: str, folder: Path) -> TrainConfig:
    if not (folder / run_folder.CONFIG).is_file():
        what = "is not a run folder: it has no config.toml" if folder.exists() else "does not exist"
        raise ConfigurationError(f"{run} {what}; give the run folder of `ffnn-gpu train`")
    return resolve({}, file=folder / run_folder.CONFIG, environment={})


def history_of(folder: Path) -> History:
    """Return the rows of metrics.jsonl, none without the file. A last line that is cut is left out."""
    file = folder / run_folder.METRICS_FILE
    lines = _lines(file) if file.is_file() else []
    rows: list[dict[str, Any]] = []
    for k, line in enumerate(lines):
        try:
            rows.append(_row(json.loads(line)))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            if k == len(lines) - 1:
                break  # the run was killed while it wrote
            raise DataError(f"{file}, line {k + 1}, is damaged: {error}") from error
    return History(rows)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is damaged: it is no UTF-8 text ({error})") from error


def _row(found: Any) -> dict[str, Any]:
    """Return a row with NaN for null.

    Raises ValueError, TypeError or OverflowError for a row that no training run writes.
    """
    row = {name: math.nan if value is None else value for name, value in dict(found).items()}
    for name, value in row.items():
        if name == "recipe":
            continue
        if not is_number(value):
            raise ValueError(f"{name} is {shortened(repr(value))}")
        float(value)  # raises OverflowError for an integer that is too large
    return row


def courses_of(folder: Path, history: History, omitted: list[Omission]) -> tuple[MemberCourse, ...]:
    """Return the epochs of the members of an ensemble whose files are in the folder."""
    members, found = folder / run_folder.CHECKPOINT / run_folder.MEMBERS, []
    for row in history.rows:
        recipe, fold = str(row.get("recipe", "")), row.get("fold")
        path = members / f"{recipe.replace(' ', '_')}-{fold}{checkpoint.SUFFIX}"
        if not recipe or not path.is_file():
            continue
        try:
            rows = tensor_file.read(path)[1]["state"]["extras"]["history"]
        except (CheckpointError, KeyError, TypeError) as error:
            omitted.append(Omission(f"the epochs of member {recipe}, fold {fold}", str(error)))
            continue
        found.append(MemberCourse(recipe, History([dict(each) for each in rows])))
    return tuple(found)


def size_of(folder: Path) -> int | None:
    """Return the size of the model file in bytes; None without one."""
    file = folder / run_folder.MODEL
    return file.stat().st_size if file.is_file() else None


def _model(folder: Path, device: str, omitted: list[Omission]) -> Model | None:
    try:
        return Model.load(folder, device)
    except (CheckpointError, DataError) as error:
        omitted.append(Omission("everything that the model answers", str(error)))
        return None


def _data(
    folder: Path, config: TrainConfig, model: Model, omitted: list[Omission]
) -> tuple[Training, Split] | None:
    if reads_table(config) and (config.data == STDIN or is_pipe(config.data)):
        omitted.append(Omission(ABOUT_DATA, f"the data came from {config.data}, which can be read only once"))
        return None
    try:
        return read_again(folder, config, model)
    except (FfnnGpuError, OSError) as error:
        omitted.append(Omission(ABOUT_DATA, f"the data cannot be read: {error}"))
        return None
