"""The commands that repeat a run, continue it, and evaluate it."""

import shlex
from typing import Any

import msgspec

from ffnn_gpu.estimators.model_choice import unused_settings
from ffnn_gpu.estimators.settings import FIELDS, OPPOSITES, TrainConfig
from ffnn_gpu.report.findings import Setting
from ffnn_gpu.report.record import Record
from ffnn_gpu.tables.cells import quoted

WITHOUT_FLAG = ("data", "out")


def settings_of(config: TrainConfig) -> tuple[Setting, ...]:
    """Return every setting that has a meaning for the model of a run, as text."""
    found, unused = [], {"out", *unused_settings(config.model)}
    for name, field in FIELDS.items():
        value = getattr(config, name)
        if name not in unused:
            found.append(Setting(name, _shown(value), value == field.default))
    return tuple(found)


def commands_of(record: Record) -> tuple[tuple[str, str], ...]:
    """Return (what it does, the command)."""
    run, ranks = shlex.quote(record.name), record.result.get("ranks", 1)
    program = "ffnn-gpu" if ranks == 1 else f"mpiexec -n {ranks} python -m mpi4py -m ffnn_gpu"
    found = [
        ("Repeat the run in a new folder", f"{program} train --config {run}/config.toml"),
        ("The same without the run folder", f"{program} {shlex.join(train_words(record.config))}"),
        ("Evaluate the model on the test rows", f"ffnn-gpu evaluate {run}"),
    ]
    if not record.result or record.result.get("interrupted"):
        found.insert(0, ("Continue the run", f"{program} train --resume --out {run}"))
    return tuple(found)


def train_words(config: TrainConfig) -> list[str]:
    """Return the words of a command with these settings: `train`, a flag for each other value, and DATA."""
    words = ["train"]
    for name, field in FIELDS.items():
        value = getattr(config, name)
        if name not in WITHOUT_FLAG and value != field.default:
            words += _flag(name, value)
    is_like_a_flag = config.data.startswith("-") and len(config.data) > 1
    return [*words, *["--"] * is_like_a_flag, *[config.data] * bool(config.data)]


def _flag(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else OPPOSITES.get(name, f"--no-{flag[2:]}")]
    return [flag, _parts(value) if isinstance(value, tuple) else str(value)]


def _parts(values: tuple[Any, ...]) -> str:
    """Join values by commas, as an option takes them."""
    return ",".join(quoted(str(value)) for value in values)


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _parts(value) if isinstance(value, tuple) else str(msgspec.to_builtins(value))
