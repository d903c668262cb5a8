"""Train on a table in Python, as `ffnn-gpu train` does: read, type, split, encode, fit and test."""

import functools
from dataclasses import dataclass
from typing import Any

from ffnn_gpu.backends import get_backend
from ffnn_gpu.distributed import Single
from ffnn_gpu.estimators.arguments import config_of, given_in, left_out, read_data, warnings_in_python
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.model_choice import (
    AUTO,
    ENSEMBLE,
    Choice,
    decided,
    require_fitting,
    split_as_decided,
    with_model,
)
from ffnn_gpu.estimators.recipe import encode, evaluated, fit_model, optimizer_of, prepare, require_trainable
from ffnn_gpu.estimators.split import require_known_labels
from ffnn_gpu.estimators.tabular.fit_ensemble import Ensemble
from ffnn_gpu.estimators.tabular.from_settings import fit_tabular, folds_for
from ffnn_gpu.estimators.tabular.report import members_history
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.estimators.wording import errors_in, in_python
from ffnn_gpu.standard_error import write_line
from ffnn_gpu.training.history import History


@dataclass(frozen=True, eq=False)
class TrainedTable:
    """A model and how it came about.

    Attributes:
        history: a row per epoch; of an ensemble a row per member.
        test: {metric: value, …, "loss": value} of the test rows; None without test rows.
        rows: {"train": n, "validation": n, "test": n}.
        rows_without_target: the number of rows that were left out, because they lack a target.
        left_out: {column: reason} of the columns that the network does not read.
        warnings: what may go wrong and what was decided without evidence, as the command prints it.
        choice: what was trained, "mlp" (one network) or "tabular" (an ensemble), and the reason.
        ensemble: of an ensemble, the members, their errors out of fold and their weights; else None.
    """

    model: Model
    history: History
    test: dict[str, float] | None
    rows: dict[str, int]
    rows_without_target: int
    left_out: dict[str, str]
    warnings: list[str]
    choice: Choice
    ensemble: Ensemble | None = None

    def __repr__(self) -> str:
        test = ", ".join(f"{name} {value:.4g}" for name, value in (self.test or {}).items())
        return f"<TrainedTable: {self.choice.model}, test {test or 'without rows'}; {self.model!r}>"


def train_table(
    data: Any, target: str | int | None = None, *, verbose: int = 1, **settings: Any
) -> TrainedTable:
    """Train on a table with the settings and defaults of `ffnn-gpu train`.

    Args:
        data: a data frame (pandas, Polars, PyArrow, …), a dict of columns, a list of dicts, or a path that
            `ffnn-gpu train` takes as a table; None with query=….
        target: the column to predict; "a,b" for several; None for the last one.
        verbose: as in `fit`.
        settings: those of the command, such as categorical=["district"], weight="w" or preset="fast". One of
            one network, such as hidden=(64,) or epochs=20, trains one network instead of an ensemble.

    Raises:
        DataError: the table cannot be read, or has columns that are not clear.
        ConfigurationError: a setting that does not exist, or a value that it does not accept.
    """
    config = config_of(data, target, settings)
    choose = functools.partial(decided, config, given_in(settings), True, 1)
    is_open, config = config.model == AUTO, with_model(config, choose())
    require_fitting(config)
    rule, backend = optimizer_of(config), get_backend(config.device)
    with errors_in(in_python):
        training = read_data(data, config)
        task = Task.of(training.data.y, config.task, config.loss, config.label_smoothing)
        config, choice, split = split_as_decided(config, choose, training.data, task, training.roles)
        require_known_labels(task, split)
        model = prepare(config, training.data, training.columns, split.train, task, backend)
        ranks = Single(config.device)
        require_trainable(config, model, split, ranks)
        folds_for(config, split.train)
    if verbose and is_open:
        write_line(str(choice))
    ensemble = None
    if config.model == ENSEMBLE:
        model, ensemble = fit_tabular(config, model, split.train, verbose)
        history = members_history(ensemble)
    else:
        history = fit_model(config, model, encode(model, split), rule, ranks, verbose)
    test = evaluated(model, split.test) if split.test else None
    return TrainedTable(
        model, history, test, split.counts(), training.lacking, left_out(training),
        [*warnings_in_python(training, split, config)], choice, ensemble,
    )  # fmt: skip
