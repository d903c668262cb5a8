"""The folder of one run, and what stands in it.

config.toml                            every setting; `train --config` repeats the run
metrics.jsonl, history.csv             one row per epoch, written while the training goes on
checkpoint/last, checkpoint/best       to resume from; the network of the best epoch
model                                  what `evaluate` and `predict` read
result.json                            test metrics, rows, seconds, backend, versions
learning_curve.png, confusion_matrix.png or predicted_against_true.png
"""

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from ffnn_gpu.checkpoints import atomic_file
from ffnn_gpu.cli.settings import TrainConfig, differences, read_toml, resolve, write_toml
from ffnn_gpu.data.readers import BUNDLED
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.training.callbacks import Callback

CONFIG, METRICS, HISTORY, RESULT = "config.toml", "metrics.jsonl", "history.csv", "result.json"
CHECKPOINT, MODEL = "checkpoint", "model"
LEARNING_CURVE, CONFUSION_MATRIX, AGAINST_TRUE = (
    "learning_curve.png", "confusion_matrix.png", "predicted_against_true.png",
)  # fmt: skip
FILES = (METRICS, HISTORY, RESULT, LEARNING_CURVE, CONFUSION_MATRIX, AGAINST_TRUE)
MAY_GROW = (
    "epochs",
    "device",
    "out",
    "shard_optimizer",
)  # what a resumed run may have otherwise than the run it continues


def require_usable(config: TrainConfig, resume: bool, overwrite: bool) -> None:
    """Before anything is read: whether the run may go to `config.out`. Raises ConfigurationError."""
    if resume and overwrite:
        raise ConfigurationError("--resume goes on with a run and --overwrite replaces it; give one of them")
    if resume:
        return _require_same(config)
    out = None if config.out is None else Path(config.out)
    begun = atomic_file.half_of(Path(CONFIG)).name  # all there is where the run was killed at once
    if out is None or not out.exists() or (out.is_dir() and {*os.listdir(out)} <= {begun}):
        return None
    if not (out / CONFIG).is_file():
        raise ConfigurationError(f"{out} exists and is not a run folder; choose another --out")
    if not overwrite:
        raise ConfigurationError(f"{out} exists; use --resume, --overwrite or another --out")
    return None


def config_to_resume(out: str | None) -> Path:
    """The config.toml of the run to go on with. Raises ConfigurationError."""
    if out is None:
        raise ConfigurationError("--resume needs --out, the run folder to go on with")
    if not (Path(out) / CONFIG).is_file():
        raise ConfigurationError(f"there is nothing to resume in {out}: it has no {CONFIG}")
    return Path(out) / CONFIG


def claim(config: TrainConfig, name: str, resume: bool) -> Path:
    """The run folder, made or emptied, with its config.toml; runs/NAME-N with the first free N if `out` is not set."""
    folder = _first_free(name) if config.out is None else Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        _empty(folder)
    write_toml(_located(config), folder / CONFIG)
    return folder


def write_json(path: Path, value: Any) -> None:
    """One JSON object, whole or not at all."""
    atomic_file.write(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; {} where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


class HistoryFiles(Callback):
    """metrics.jsonl after every epoch, so that a run under way can be watched; history.csv on every exit."""

    first_rank_only = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def after_epoch(self, run: Any, row: dict[str, float]) -> None:
        run.history.to_jsonl(self.folder / METRICS)

    def finish(self, run: Any) -> None:
        run.history.to_jsonl(self.folder / METRICS)
        run.history.to_csv(self.folder / HISTORY)


def _located(config: TrainConfig) -> TrainConfig:
    """The configuration with the path of its data absolute, so that a run can go on from another folder."""
    if config.data in BUNDLED or not Path(config.data).exists():
        return config
    return msgspec.structs.replace(config, data=os.path.abspath(config.data))


def _require_same(config: TrainConfig) -> None:
    saved = _located(resolve(read_toml(config_to_resume(config.out)), environment={}))
    changed = [*differences(saved, _located(config), MAY_GROW)]
    if changed:
        raise ConfigurationError(
            f"{config.out} cannot go on with other settings: {', '.join(changed)}; "
            "only epochs, device and shard_optimizer may change. Start a new run without --resume"
        )


def _first_free(name: str) -> Path:
    for n in itertools.count(1):
        folder = Path("runs") / f"{name}-{n}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable: there are always more numbers")


def _empty(folder: Path) -> None:
    """Remove what a run before this one wrote, and nothing else."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for name in (CHECKPOINT, MODEL):
        shutil.rmtree(folder / name, ignore_errors=True)
