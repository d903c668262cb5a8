"""Train on a table in Python, as `ffnn-gpu train` does: read, type, split, encode, fit and test."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from ffnn_gpu.backends import get_backend
from ffnn_gpu.distributed import Single
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.recipe import evaluated, fit_model, optimizer_of, prepare, require_trainable
from ffnn_gpu.estimators.settings import FIELDS, TrainConfig, checked
from ffnn_gpu.estimators.split import Split, require_known_labels, split_rows
from ffnn_gpu.estimators.task import Task, doubt
from ffnn_gpu.estimators.training_data import Training, read_known, stem, training_of
from ffnn_gpu.tables.concerns import warnings_of
from ffnn_gpu.tables.frames import is_named, table_of
from ffnn_gpu.tables.sources import is_table
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Table
from ffnn_gpu.training.history import History

OF_THE_COMMAND = ("out", "shard_optimizer", "batch_statistics")  # settings without a meaning here
# options in messages → what a Python caller writes
ARGUMENTS = {f"--{name.replace('_', '-')}": name for name in FIELDS}
ARGUMENTS |= {"--day-first": "day_first=True", "--month-first": "day_first=False"}
OPTION = re.compile(rf"(?<![\w'])({'|'.join(map(re.escape, ARGUMENTS))})(?![\w'-])")


@dataclass(frozen=True, eq=False)
class TrainedTable:
    """A model and how it came about.

    Attributes:
        test: {metric: value, …, "loss": value} of the test rows; None without test rows.
        rows: {"train": n, "validation": n, "test": n}.
        rows_without_target: the number of rows that were left out, because they lack a target.
        left_out: {column: reason} of the columns that the network does not read.
        warnings: what may go wrong and what was decided without evidence, as the command prints it.
    """

    model: Model
    history: History
    test: dict[str, float] | None
    rows: dict[str, int]
    rows_without_target: int
    left_out: dict[str, str]
    warnings: list[str]


def train_table(
    data: Any, target: str | int | None = None, *, verbose: int = 1, **settings: Any
) -> TrainedTable:
    """Train on a table with the settings and defaults of `ffnn-gpu train`.

    Args:
        data: a data frame (pandas, Polars, PyArrow, …), a dict of columns, a list of dicts, or a path that
            `ffnn-gpu train` takes as a table; None with query=….
        target: the column to predict; "a,b" for several; None for the last one.
        verbose: as in `fit`.
        settings: those of the command, such as categorical=["district"], weight="w", hidden=(64,), epochs=20.

    Raises:
        DataError: the table cannot be read, or has columns that are not clear.
        ConfigurationError: a setting that does not exist, or a value that it does not accept.
    """
    config = _config(data, target, settings)
    rule, backend = optimizer_of(config), get_backend(config.device)
    try:
        training = _training(data, config)
        task = Task.of(training.data.y, config.task, config.loss, config.label_smoothing)
        split = split_rows(training.data, task, config, training.roles)
        require_known_labels(task, split)
        model = prepare(config, training.data, training.columns, split.train, task, backend)
        ranks = Single(config.device)
        require_trainable(config, model, split, ranks)
    except (ConfigurationError, DataError) as error:
        raise type(error)(_in_python(str(error))) from error
    history = fit_model(config, model, split, rule, ranks, verbose)
    test = evaluated(model, split.test) if split.test else None
    left_out = {column.name: column.reason for column in training.columns if not column.is_used}
    warnings = [*map(_in_python, _warnings(training, split, config))]
    return TrainedTable(model, history, test, split.counts(), training.lacking, left_out, warnings)


def _warnings(training: Training, split: Split, config: TrainConfig) -> Iterator[str]:
    table, (x, y, _) = cast(Table, training.table), split.train
    yield from table.remarks
    if decided := doubt(training.data.y, config.task):
        yield decided
    spelling, targets = Spelling(table.decimal, config.missing), [table.names[place] for place in x.skip]
    for concern in warnings_of(table, training.columns, spelling, targets, y, x.index):
        yield concern.text


def _in_python(message: str) -> str:
    """Return a message with arguments in place of the options of the command."""
    return OPTION.sub(lambda option: ARGUMENTS[option[0]], message)


def _config(data: Any, target: str | int | None, settings: dict[str, Any]) -> TrainConfig:
    if unfit := [name for name in settings if name in OF_THE_COMMAND]:
        raise ConfigurationError(
            f"{unfit[0]} is a setting of the command only; train_table writes no files: use model.save(path)"
        )
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(data, (str, os.PathLike)):
        given["data"] = os.fspath(data)
    if target is not None:
        given["target"] = target
    return TrainConfig(**checked(given, ""))


def _training(data: Any, config: TrainConfig) -> Training:
    """Read a frame, a path or a query."""
    if config.query or config.data:
        if data is not None and not config.data:
            raise DataError("data and query are both given; pass None as data with a query")
        if not (config.query or is_table(config.data)):
            raise DataError(f"{config.data} is no table; train_table reads tables such as .csv and .parquet")
        return training_of(read_known(config), config, stem(config.data))
    if data is None or not is_named(data):
        raise DataError(
            f"data is {type(data).__name__}; pass a data frame, a dict of columns, a list of dicts or a path"
        )
    return training_of(table_of(data), config, "frame")
