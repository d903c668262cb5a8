"""The folder of one run and its files.

config.toml                            every setting, and why the model was chosen, for --resume;
                                       `train --config` repeats the run
metrics.jsonl, history.csv             one row per epoch or member, written during the training run
checkpoint/last.safetensors            for --resume
checkpoint/best.safetensors            the network of the best epoch
checkpoint/members/                    of an ensemble, in the place of both: its finished members
encoded.npy, encoded.json              a large table, encoded, for --resume
model.safetensors                      what `evaluate` and `predict` read
result.json                            test metrics, rows, seconds, backend, versions
learning_curve.png, confusion_matrix.png or predicted_against_true.png
report.html                            what `report` and `train --report` write

`tune` writes these for the best of its trials, without a checkpoint, and:
study.db                               Optuna's study, for --resume
start.toml                             the settings that the search began with
trials.csv                             a row for each trial
study_….png                            what the study shows
"""

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from ffnn_gpu import temporary
from ffnn_gpu.checkpoints import atomic_file, checkpoint
from ffnn_gpu.cli.settings import TrainConfig, differences, read_toml, resolve, write_toml
from ffnn_gpu.data.readers import BUNDLED
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.model_choice import AUTO
from ffnn_gpu.estimators.tuning.pictures import PICTURES
from ffnn_gpu.tables.databases import is_database
from ffnn_gpu.tables.encoded import MADE_OF, MATRIX
from ffnn_gpu.tables.many_files import is_pattern
from ffnn_gpu.training.callbacks import Callback, Run
from ffnn_gpu.training.resume import finished_epochs

CONFIG, METRICS_FILE, HISTORY_FILE, RESULT = "config.toml", "metrics.jsonl", "history.csv", "result.json"
CHECKPOINT, MEMBERS, MODEL, OLD_MODEL = "checkpoint", "members", "model.safetensors", "model"
LEARNING_CURVE, CONFUSION_MATRIX, AGAINST_TRUE = (
    "learning_curve.png", "confusion_matrix.png", "predicted_against_true.png",
)  # fmt: skip
REPORT = "report.html"
STUDY, START, TRIALS = "study.db", "start.toml", "trials.csv"
FILES = (
    STUDY,
    START,
    TRIALS,
    *PICTURES,
    MODEL,
    METRICS_FILE,
    HISTORY_FILE,
    RESULT,
    LEARNING_CURVE,
    CONFUSION_MATRIX,
    AGAINST_TRUE,
    REPORT,
    MATRIX,
    MADE_OF,
)
# settings in which a resumed run may differ from the run that it continues
MAY_CHANGE = ("epochs", "device", "out", "shard_optimizer", "time_limit")


def require_usable(config: TrainConfig, resume: bool, overwrite: bool) -> None:
    """Raise ConfigurationError unless the run may be written to `config.out`. Called before data are read."""
    require_one(resume, overwrite)
    if resume:
        _require_same(config)
        return
    if config.out is None or not (out := Path(config.out)).exists():
        return
    if out.is_dir() and {*out.iterdir()} <= {*atomic_file.leftovers(out / CONFIG)}:
        return  # the run was killed before it wrote anything else
    if not (out / CONFIG).is_file():
        raise ConfigurationError(f"{out} exists and is not a run folder; choose another --out")
    if not overwrite:
        raise ConfigurationError(f"{out} exists; use --resume, --overwrite or another --out")


def require_one(resume: bool, overwrite: bool) -> None:
    """Raise ConfigurationError if both are True."""
    if resume and overwrite:
        raise ConfigurationError("--resume continues a run and --overwrite replaces it; give one of them")


def config_to_resume(out: str | None) -> Path:
    """Return the config.toml of the run to resume. Raises ConfigurationError."""
    if out is None:
        raise ConfigurationError("--resume needs --out, the run folder to continue")
    if not (Path(out) / CONFIG).is_file():
        raise ConfigurationError(f"there is nothing to resume in {out}: it has no {CONFIG}")
    if (Path(out) / STUDY).is_file():
        raise ConfigurationError(f"{out} holds a search; continue it with `ffnn-gpu tune --resume`")
    return Path(out) / CONFIG


def study_to_resume(out: str | None) -> Path:
    """Return the folder of the search to resume. Raises ConfigurationError."""
    if out is None:
        raise ConfigurationError("--resume needs --out, the folder of the search to continue")
    if not ((Path(out) / STUDY).is_file() and (Path(out) / START).is_file()):
        raise ConfigurationError(f"there is nothing to resume in {out}: it has no {STUDY} and {START}")
    return Path(out)


def claim(config: TrainConfig, name: str, resume: bool, choice: str = "") -> Path:
    """Create or empty the run folder, write its config.toml with the choice of a model, and return its path.

    If `out` is not set, the folder is runs/NAME-N with the first free N. `temporary.remove` removes the
    files of a new run until its training begins, also if a signal ends the process. Temporary files of killed
    runs are removed, because this run may have nothing left to write.
    """
    folder = _first_free(name) if config.out is None else Path(config.out)
    if not resume and config.out is not None:
        temporary.add(folder, partial(_discard, made=_missing(folder)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        if not resume:
            _empty(folder)
        write_toml(located(config), folder / CONFIG, choice)
    except BaseException:
        temporary.remove(folder)
        raise
    return folder


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed runs left in a run folder."""
    checkpoints = folder / CHECKPOINT
    atomic_file.sweep(folder, checkpoints, checkpoints / MEMBERS)


def _missing(path: Path) -> list[Path]:
    """Return the folders that have to be made for this one, the innermost first."""
    return [each for each in (path, *path.parents) if not each.exists()]


def _discard(folder: Path, made: Sequence[Path]) -> None:
    """Remove the files of a run whose training never began, and the folders in `made` that are then empty."""
    _empty(folder)
    (folder / CONFIG).unlink(missing_ok=True)
    _remove_empty(folder, made)


def _remove_empty(folder: Path, made: Sequence[Path]) -> None:
    for each in made:
        with suppress(OSError):
            each.rmdir()


class HistoryFiles(Callback):
    """Write metrics.jsonl after every epoch, so a running training can be watched; history.csv at the end.

    From the beginning of the training on, the run folder stays.
    """

    first_rank_only = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, run: Run) -> None:
        temporary.discard(self.folder)

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        run.history.to_jsonl(self.folder / METRICS_FILE)

    def finish(self, run: Run) -> None:
        run.history.to_jsonl(self.folder / METRICS_FILE)
        run.history.to_csv(self.folder / HISTORY_FILE)


def located(config: TrainConfig) -> TrainConfig:
    """Make the path of the data absolute, so the run can be resumed from another folder."""
    data = config.data
    is_place = data and (Path(data).exists() or is_pattern(data) or is_database(data))
    if data in BUNDLED or not is_place:
        return config
    return msgspec.structs.replace(config, data=os.path.abspath(data))


def model_to_resume(config: TrainConfig) -> str:
    """Return what the run to resume trains; "auto" if it is older than this setting."""
    return _saved_config(config).model


def reason_to_resume(config: TrainConfig) -> str | None:
    """Return why the run to resume has its model; None if it is older than this note."""
    text = config_to_resume(config.out).read_text("utf-8", "replace")
    found = re.search(r"^# model \w+, [^:\n]*: (.*)$", text, re.MULTILINE)
    return found and found[1]


def _saved_config(config: TrainConfig) -> TrainConfig:
    return located(resolve(read_toml(config_to_resume(config.out)), environment={}))


def _require_same(config: TrainConfig) -> None:
    saved = _saved_config(config)
    changes = (*MAY_CHANGE, "model") if saved.model == AUTO else MAY_CHANGE  # a run older than this setting
    changed = [*differences(saved, located(config), changes)]
    if changed:
        raise ConfigurationError(
            f"{config.out} cannot be resumed with other settings: {', '.join(changed)}; "
            "only epochs, device, shard_optimizer and time_limit may change. Start a new run without --resume"
        )
    last = Path(config.out or "") / CHECKPOINT / "last"
    finished = finished_epochs(last) if checkpoint.find(last) else 0
    if finished > config.epochs:
        raise ConfigurationError(
            f"{config.out} has {finished} finished epochs; --epochs {config.epochs} must not be fewer"
        )


def _first_free(name: str) -> Path:
    n = 1
    while True:
        folder = Path("runs") / f"{name}-{n}"
        made = [folder, *_missing(folder.parent)]
        temporary.add(folder, partial(_remove_empty, made=made))  # it may be another run's
        try:
            folder.mkdir(parents=True)
            temporary.add(folder, partial(_discard, made=made))
            return folder
        except FileExistsError:
            temporary.discard(folder)
            n += 1


def _empty(folder: Path) -> None:
    """Remove the files that an earlier run wrote, and nothing else."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for name in (CHECKPOINT, OLD_MODEL):
        shutil.rmtree(folder / name, ignore_errors=True)
