"""Which model is trained, and which settings belong to which value of `model`.

One list of settings serves both: a setting of one network is refused for an ensemble, and with
model = 'auto' it decides for one network.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import msgspec

from ffnn_gpu.data.readers import Dataset
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.durations import seconds_of
from ffnn_gpu.estimators.settings import FIELDS, TrainConfig
from ffnn_gpu.estimators.split import Split, split_rows
from ffnn_gpu.estimators.tabular.recipes import PRESETS, rows_in_full
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.tables.roles import Roles

AUTO, NETWORK, ENSEMBLE = "auto", "mlp", "tabular"
KINDS = {NETWORK: "one network", ENSEMBLE: "an ensemble of networks"}
OF_ENSEMBLES = ("preset", "metric", "time_limit")
# settings of one network, which the recipes of an ensemble decide
OF_ONE_NETWORK = (
    "validation", "standardize", "hidden", "activation", "dropout", "normalization", "loss",
    "label_smoothing", "optimizer", "lr", "weight_decay", "l1", "l2", "clip_norm", "ema", "schedule",
    "epochs", "batch_size", "accumulate", "shard_optimizer", "batch_statistics", "early_stopping",
)  # fmt: skip
DTYPES = ("float32", "float64")
MAX_LISTED_NAMES = 3


class Choice(NamedTuple):
    """The model that is trained, "mlp" or "tabular", and the reason as a clause."""

    model: str
    reason: str

    def __str__(self) -> str:
        return f"model {self.model}, {KINDS[self.model]}: {self.reason}"


def decided(
    config: TrainConfig, given: Collection[str], is_table: bool, processes: int = 1, rows: int = 0
) -> Choice:
    """Return the model of a training run, and the reason.

    Args:
        given: names of settings that count as given although they have their default value.
        is_table: the data have columns of kinds, and are not an array.
        rows: the number of training rows, 0 before they are counted.

    Raises ConfigurationError if settings of one network and of an ensemble are given.
    """
    if config.model != AUTO:
        return Choice(config.model, f"model = {config.model!r} is set")
    network, ensemble = (
        [name for name in names if name in given or _is_changed(config, name)]
        for names in (OF_ONE_NETWORK, OF_ENSEMBLES)
    )
    if network and ensemble:
        raise ConfigurationError(
            f"{_listed(network)} is for one network, and {_listed(ensemble)} for an ensemble; leave out one "
            "or the other"
        )
    if network:
        return Choice(NETWORK, _belong(network, "one network"))
    if ensemble:
        return Choice(ENSEMBLE, _belong(ensemble, "an ensemble"))
    if processes > 1:
        return Choice(NETWORK, f"an ensemble trains in one process, and there are {processes}")
    if config.dtype not in DTYPES:
        return Choice(NETWORK, f"an ensemble does not compute in {config.dtype}")
    if not is_table:
        return Choice(NETWORK, "the data are an array and no table")
    if rows > (most := rows_in_full(PRESETS[config.preset])):
        return Choice(NETWORK, f"there are {rows:,} training rows, more than {most:,}")
    return Choice(ENSEMBLE, "the data are a table")


def split_as_decided(
    config: TrainConfig, choose: Callable[[int], Choice], data: Dataset, task: Task, roles: Roles
) -> tuple[TrainConfig, Choice, Split]:
    """Split the rows and decide by the number of training rows; return the settings with that model.

    An ensemble has no validation rows, so the rows of a table that is too large for one are split again.
    """
    choice = choose(0)
    config = with_model(config, choice)
    split = split_rows(data, task, config, roles)
    final = choose(len(split.train.y))
    if final.model != choice.model:
        config = with_model(config, final)
        split = split_rows(data, task, config, roles)
    return config, final, split


def with_model(config: TrainConfig, choice: Choice) -> TrainConfig:
    """Return the settings with the model that was decided."""
    return msgspec.structs.replace(config, model=choice.model)


def unused_settings(model: str) -> tuple[str, ...]:
    """Return the names of the settings that have no meaning for this model; () for "auto"."""
    return {ENSEMBLE: OF_ONE_NETWORK, NETWORK: OF_ENSEMBLES}.get(model, ())


def require_fitting(config: TrainConfig, processes: int = 1) -> None:
    """Raise ConfigurationError for a setting that has no meaning for the model.

    A setting counts as given if it differs from its default, because a config.toml holds all of them.
    """
    is_ensemble = config.model == ENSEMBLE
    given = ", ".join(name for name in unused_settings(config.model) if _is_changed(config, name))
    if given and is_ensemble:
        raise ConfigurationError(
            f"the recipes of model = 'tabular' decide {given}; leave that out, or use model = 'mlp'"
        )
    if given:
        raise ConfigurationError(f"model = 'mlp' has no {given}; leave that out, or use model = 'tabular'")
    if is_ensemble and config.dtype not in DTYPES:
        raise ConfigurationError(
            f"model = 'tabular' computes in {' or '.join(DTYPES)}, not in {config.dtype}"
        )
    if is_ensemble and processes > 1:
        raise ConfigurationError(
            f"model = 'tabular' trains in one process, not in {processes}; start it without mpiexec"
        )
    if config.time_limit is not None:
        seconds_of(config.time_limit, "time_limit")


def one_network(config: TrainConfig) -> TrainConfig:
    """Return the settings with model = 'mlp' for a search. Raises ConfigurationError for an ensemble."""
    if config.model == ENSEMBLE:
        raise ConfigurationError(
            "a search tunes the settings of one network; model = 'tabular' has none of them. "
            "Use model = 'mlp'"
        )
    config = msgspec.structs.replace(config, model=NETWORK)
    require_fitting(config)
    return config


def without_ensemble(config: TrainConfig, given: Collection[str]) -> tuple[TrainConfig, list[str]]:
    """Return the settings with those of an ensemble at their defaults, and the names that were changed.

    given: names of settings that stay as they are.
    """
    left = [name for name in OF_ENSEMBLES if name not in given and _is_changed(config, name)]
    defaults = {name: FIELDS[name].default for name in left}
    if config.model == ENSEMBLE and "model" not in given:
        defaults["model"] = NETWORK
    return msgspec.structs.replace(config, **defaults), [*defaults]


def _is_changed(config: TrainConfig, name: str) -> bool:
    return bool(getattr(config, name) != FIELDS[name].default)


def _belong(names: Sequence[str], owner: str) -> str:
    return f"{_listed(names)} {'are settings' if names[1:] else 'is a setting'} of {owner}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_LISTED_NAMES]) + ", …" * (len(names) > MAX_LISTED_NAMES)
