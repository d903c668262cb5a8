"""The SQLite file of a study: made, or continued if it is of the same data, settings and ranges."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffnn_gpu.checkpoints.json_values import dumps
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.tuning.optuna_package import optuna
from ffnn_gpu.estimators.tuning.space import OF_HIDDEN
from ffnn_gpu.estimators.tuning.study import Study, quiet
from ffnn_gpu.training.data_fingerprint import agree

NAME, IDENTITY = "ffnn-gpu", "ffnn_gpu"  # of the study in its file, and its attribute
UNPRUNED_TRIALS = 5  # that must be complete before one is pruned
# No trial is pruned in the first half of its epochs: while the learning rate is high, its error says little
# about the end. Best validation RMSE of 30 trials of 12 epochs on 4,000 diamonds with two seeds, and epochs
# that were trained: pruned from a quarter on 622, 591 (238, 284); from the half on 589, 566 (307, 324);
# never 589, 574 (360, 360).
SHARE_UNPRUNED = 2


@dataclass(frozen=True)
class Earlier:
    """What a study in a file was asked for."""

    metric: str
    searched: tuple[str, ...]


def earlier(file: Path) -> Earlier:
    """Return what the study in a file was asked for. Raises ConfigurationError."""
    with quiet(), _readable(file):
        known = optuna().load_study(study_name=NAME, storage=_address(file)).user_attrs
        asked = json.loads(known[IDENTITY])
    names = ("hidden" if name in OF_HIDDEN else name for name in asked["space"])
    return Earlier(asked["metric"], tuple(dict.fromkeys(names)))


def open_study(
    file: Path | None,
    identity: Mapping[str, Any],
    space: Mapping[str, Any],
    begin: Mapping[str, Any],
    direction: str,
) -> Study:
    """Make a study in an SQLite file, or in memory for None; continue the one that is there.

    identity: of Problem; space: the distributions of the parameters; begin: those of the first trial.

    Raises ConfigurationError: the study there is of other data or settings, or the file is none.
    """
    library, settings, stored = optuna(), identity["settings"], None
    written = {name: library.distributions.distribution_to_json(each) for name, each in space.items()}
    pruner = library.pruners.MedianPruner(
        UNPRUNED_TRIALS, n_warmup_steps=settings["epochs"] // SHARE_UNPRUNED + 1
    )
    asked = dumps({**identity, "space": written})
    with quiet():
        study = library.create_study(pruner=pruner, direction=direction, study_name=NAME)
    if file is not None:
        with quiet(), _readable(file):
            stored = library.create_study(
                storage=_address(file), study_name=NAME, direction=direction, load_if_exists=True
            )
            known = stored.user_attrs.get(IDENTITY)
            if known is None:
                stored.set_user_attr(IDENTITY, asked)
        if known is not None:
            _require_same(file, json.loads(known), json.loads(asked))
        study.add_trials(trial for trial in stored.get_trials(deepcopy=False) if trial.state.is_finished())
    return Study(study, stored, space, begin, settings["seed"])


def _address(file: Path) -> str:
    if "?" in str(file.absolute()):
        raise ConfigurationError(
            f"{file}: SQLAlchemy cannot open a path with a question mark; choose another"
        )
    return f"sqlite:///{file.absolute()}"


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """While entered, an error of the database is a ConfigurationError that names the file."""
    try:
        yield
    except Exception as error:  # of SQLAlchemy and Alembic, which need not be named here
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"{file} cannot be used as the SQLite file of a study: {type(error).__name__}: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _require_same(file: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if a study was asked for other settings or data."""
    # The setting of the same name belongs to ensembles.
    old, new = ({**each["settings"], "metric": each["metric"]} for each in (then, now))
    changed = [f"{name} {old.get(name)!r} → {new[name]!r}" for name in new if old.get(name) != new[name]]
    if not changed and then["space"] != now["space"]:
        spaces = then["space"], now["space"]
        names = [name for name in {**spaces[0], **spaces[1]} if len({each.get(name) for each in spaces}) > 1]
        changed = [f"the search of {', '.join(names)}"]
    if not changed:
        differ = [name for name, rows in now["rows"].items() if not agree(name, rows, then["rows"].get(name))]
        changed = [f"the data: other {name}" for name in differ[:1]]
    if changed:
        raise ConfigurationError(
            f"{file} holds a search that differs: {', '.join(changed)}. Continue it with its own data and "
            "settings, or begin another one elsewhere"
        )
