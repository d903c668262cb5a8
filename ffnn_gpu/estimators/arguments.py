"""What a Python caller passes → settings and a table, and warnings in the words of Python.

`train_table` and `tune_table` share it.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, cast

from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators.settings import TrainConfig, checked
from ffnn_gpu.estimators.split import Split
from ffnn_gpu.estimators.task import doubt
from ffnn_gpu.estimators.training_data import Training, names_table, read_known, stem, training_of
from ffnn_gpu.estimators.wording import in_python
from ffnn_gpu.tables.concerns import warnings_of
from ffnn_gpu.tables.frames import is_named, table_of
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Table

OF_THE_COMMAND = ("out", "shard_optimizer", "batch_statistics")  # settings without a meaning here


def config_of(data: Any, target: str | int | None, settings: Mapping[str, Any]) -> TrainConfig:
    """Return the settings of a call. Raises ConfigurationError."""
    if unfit := [name for name in settings if name in OF_THE_COMMAND]:
        raise ConfigurationError(
            f"{unfit[0]} is a setting of the command only; no files are written here: use model.save(path)"
        )
    given = {name: settings[name] for name in given_in(settings)}
    if isinstance(data, (str, os.PathLike)):
        given["data"] = os.fspath(data)
    if target is not None:
        given["target"] = target
    return TrainConfig(**checked(given, ""))


def given_in(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings that a call gives; None leaves one open."""
    return [name for name, value in settings.items() if value is not None]


def read_data(data: Any, config: TrainConfig) -> Training:
    """Read a frame, a path or a query. Raises DataError."""
    if config.query or config.data:
        if data is not None and not config.data:
            raise DataError("data and query are both given; pass None as data with a query")
        if not (config.query or names_table(config.data)):
            raise DataError(f"{config.data} is no table; give one such as a .csv or .parquet file")
        return training_of(read_known(config), config, stem(config.data))
    if data is None or not is_named(data):
        raise DataError(
            f"data is {type(data).__name__}; pass a data frame, a dict of columns, a list of dicts or a path"
        )
    return training_of(table_of(data), config, "frame")


def left_out(training: Training) -> dict[str, str]:
    """Return {column: reason} of the columns that the network does not read."""
    return {column.name: column.reason for column in training.columns if not column.is_used}


def warnings_in_python(training: Training, split: Split, config: TrainConfig) -> Iterator[str]:
    """Yield what may go wrong with a table and what was decided without evidence."""
    table, (x, y) = cast(Table, training.table), split.train[:2]
    yield from map(in_python, table.remarks)
    if decided := doubt(training.data.y, config.task):
        yield in_python(decided)
    spelling, targets = Spelling(table.decimal, config.missing), [table.names[place] for place in x.skip]
    for concern in warnings_of(table, training.columns, spelling, targets, y, x.index):
        yield in_python(concern.text)
