"""A data set, read, split and encoded once, and the network of any settings on it.

Networks are compared on the validation rows only. The test rows are encoded with the others, but no network
reads them before the search has ended.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from ffnn_gpu.backends import Backend
from ffnn_gpu.distributed import Single
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.model import Model, weighted
from ffnn_gpu.estimators.model_choice import one_network
from ffnn_gpu.estimators.recipe import (
    Encoded,
    dropout_of,
    encode,
    fit_model,
    network_of,
    optimizer_of,
    prepare,
    require_trainable,
    rule_for,
)
from ffnn_gpu.estimators.settings import TrainConfig
from ffnn_gpu.estimators.split import Split, require_known_labels, split_rows
from ffnn_gpu.estimators.task import DEFAULT_METRICS, TASK_METRICS, Task
from ffnn_gpu.estimators.training_data import Training
from ffnn_gpu.evaluation.evaluate import evaluate
from ffnn_gpu.evaluation.metrics import LOWER_IS_BETTER, SHORT_NAMES, full_name
from ffnn_gpu.training.callbacks import Callback
from ffnn_gpu.training.data_fingerprint import fingerprints
from ffnn_gpu.training.history import History

LOSS = "loss"


@dataclass(frozen=True, eq=False)
class Problem:
    """What every trial shares.

    Attributes:
        config: the settings that the search begins with; `metrics` holds the metric to compare by.
        model: untrained, with the encoding that was fitted on the training rows.
        metric: "loss" or a metric of the task, of the validation rows.
    """

    config: TrainConfig
    training: Training
    split: Split
    model: Model
    rows: Encoded
    metric: str

    @classmethod
    def of(cls, training: Training, config: TrainConfig, metric: str | None, backend: Backend) -> "Problem":
        """Split and encode the rows.

        Raises:
            DataError, ConfigurationError: what `train` would refuse, no validation rows, an unknown metric.
        """
        if not config.validation:
            raise ConfigurationError(
                "a search compares networks on the validation rows, and validation = 0 leaves none; "
                "use a fraction such as 0.1"
            )
        config = one_network(config)
        optimizer_of(config)
        task = Task.of(training.data.y, config.task, config.loss, config.label_smoothing)
        metric, names = _metrics(task, config, metric)
        config = msgspec.structs.replace(config, metrics=names)
        split = split_rows(training.data, task, config, training.roles)
        require_known_labels(task, split)
        model = prepare(config, training.data, training.columns, split.train, task, backend)
        require_trainable(config, model, split, Single(config.device))
        return cls(config, training, split, model, encode(model, split), metric)

    @property
    def direction(self) -> str:
        """Whether lower or higher values of the metric are better, in Optuna's words."""
        return "minimize" if self.metric == LOSS or self.metric in LOWER_IS_BETTER else "maximize"

    @functools.cached_property
    def start(self) -> dict[str, Any]:
        """The value of each setting that can be searched, also where the configuration leaves it open."""
        rule = rule_for(self.config, optimizer_of(self.config), self.model)
        found = {
            "lr": rule.lr,
            "weight_decay": rule.weight_decay,
            "dropout": dropout_of(self.config, self.model.task),
        }
        names = ("hidden", "activation", "normalization", "batch_size")
        return {name: getattr(self.config, name) for name in names} | found

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """JSON values that are equal for two searches of the same data with the same settings."""
        settings = msgspec.to_builtins(self.config)
        ignored = ("out", "device", "data", "query", "separator", "decimal", "encoding", "header")
        rows = fingerprints(self.model.network.backend, _given(self.rows.train), _given(self.rows.validation))
        kept = {name: value for name, value in settings.items() if name not in ignored}
        return {"metric": self.metric, "settings": kept, "rows": rows}

    def settings(self, changes: Mapping[str, Any]) -> TrainConfig:
        """Return the settings of the search with these changes."""
        return msgspec.structs.replace(self.config, **changes)

    def train(self, config: TrainConfig, callbacks: Sequence[Callback] = ()) -> tuple[Model, History]:
        """Train the network of these settings as `train` does."""
        model, base = self.model, self.model.network
        network = network_of(config, model.task, base.n_in, model.encoding, base.backend)
        model = replace(model, network=network)
        require_trainable(
            config, model, replace(self.split, validation=None, test=None), Single(config.device)
        )
        rule, ranks = optimizer_of(config), Single(config.device)
        return model, fit_model(config, model, self.rows, rule, ranks, 0, callbacks=callbacks)

    def score(self, model: Model) -> float:
        """Return the metric of a trained model on the validation rows, with their weights."""
        rows = self.rows.validation or ()
        metrics = [] if self.metric == LOSS else model.task.metrics(self.metric)
        chosen = weighted(metrics, rows[2] if len(rows) > 2 else None)
        with np.errstate(over="ignore", invalid="ignore"):
            found: float = evaluate(model.network, model.task.loss, rows, metrics=chosen)[self.metric]
        return found


def _metrics(task: Task, config: TrainConfig, metric: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the metric to compare by, and the metrics of every run, that one among them."""
    task.metrics(config.metrics)
    names = tuple(map(full_name, config.metrics)) or DEFAULT_METRICS[task.kind]
    metric = (metric or names[0]).strip().lower()
    if metric == LOSS:
        return metric, config.metrics
    if (metric := SHORT_NAMES.get(metric, metric)) not in TASK_METRICS[task.kind]:
        known = (LOSS, *TASK_METRICS[task.kind])
        raise ConfigurationError(
            f"metric {metric!r} cannot compare networks of a {task.kind} task; choose from {', '.join(known)}"
        )
    return metric, config.metrics if metric in names else (*names, metric)


def _given(rows: tuple[Any, ...] | None) -> tuple[Any, Any, Any]:
    x, y, *weight = rows or ()
    return x, y, weight[0] if weight else None
