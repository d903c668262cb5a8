"""The settings of a training run with model = 'tabular' → an ensemble in the place of a prepared network."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.estimators.durations import seconds_of
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.settings import TrainConfig
from ffnn_gpu.estimators.split import Part
from ffnn_gpu.estimators.tabular.criterion import Objective
from ffnn_gpu.estimators.tabular.fit_ensemble import Ensemble
from ffnn_gpu.estimators.tabular.folds import number_of_folds
from ffnn_gpu.estimators.tabular.members import Member, Rows
from ffnn_gpu.estimators.tabular.recipes import PRESETS
from ffnn_gpu.estimators.tabular.train_ensemble import train_ensemble
from ffnn_gpu.evaluation.samples import Samples, balanced


def folds_for(config: TrainConfig, training: Part) -> int:
    """Return the number of folds of the training rows, 0 for one network.

    Rows of weight 0 do not count. Raises DataError if there is one row or group for an ensemble.
    """
    if config.model != "tabular":
        return 0
    used = _used(training)
    group = None if training.group is None else training.group[used]
    return number_of_folds(PRESETS[config.preset].folds, len(used), group)


def fit_tabular(
    config: TrainConfig,
    model: Model,
    training: Part,
    verbose: int,
    folder: Path | None = None,
    done: Callable[[Member], None] = lambda member: None,
) -> tuple[Model, Ensemble]:
    """Train an ensemble on the training rows; return the model with the joined network, and the ensemble.

    Args:
        model: as `prepare` returns it, with the encoding or standardizer of the rows.
        verbose, folder, done: as in `train_ensemble`.
    """
    limit, began = config.time_limit, time.monotonic()
    deadline = None if limit is None else began + seconds_of(limit, "time_limit")
    task = model.task.with_limits_of(training.y[_used(training)])
    rows = Rows(np.asarray(model.features(training.x)), np.asarray(task.encode(training.y)))
    rows = rows._replace(weight=_weights(config, rows, task.outputs, training.weight))
    objective = Objective.of(config.metric, task)
    ensemble = train_ensemble(
        rows, task, model.encoding.code_levels if model.encoding else (), PRESETS[config.preset],
        model.network.backend, config.dtype, config.seed, groups=training.group, deadline=deadline,
        verbose=verbose, folder=folder, done=done, objective=objective,
    )  # fmt: skip
    return replace(model, network=ensemble.network, task=ensemble.task), ensemble


def _used(training: Part) -> HostArray:
    """Return the places of the rows that have a weight."""
    return np.arange(len(training.y)) if training.weight is None else np.flatnonzero(training.weight)


def _weights(config: TrainConfig, rows: Rows, outputs: int, weight: HostArray | None) -> HostArray | None:
    if config.class_weight is None:
        return weight
    samples = Samples(rows_of(rows.x), rows.y, weight)
    return balanced(samples, config.class_weight, outputs, np.float64).weight
