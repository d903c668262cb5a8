"""What DATA and INPUT name on the command line → rows, targets and names.

A table (a text file, standard input, …) is read by `tables`; arrays and bundled sets by `data`.
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.cli.settings import OF_SOURCES, TrainConfig
from ffnn_gpu.data.array_files import npy_rows, read_npy
from ffnn_gpu.data.readers import BUNDLED, Dataset, leaves_target_open, read
from ffnn_gpu.errors import DataError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.tables.dialects import Dialect
from ffnn_gpu.tables.kinds import Column, Decisions, columns_of
from ffnn_gpu.tables.rows import TableRows
from ffnn_gpu.tables.sources import ACCEPTED, is_table, read_table
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Table
from ffnn_gpu.tables.targets import read_as, read_target


class Training(NamedTuple):
    """A data set and, if it is a table, its columns but the targets."""

    data: Dataset
    columns: list[Column]


class InputRows(NamedTuple):
    """Rows to predict and the names of the columns, None if they have none or are in a table."""

    x: Any
    names: tuple[str, ...] | None


def read_training(config: TrainConfig) -> Training:
    """Read the data set to train on. Raises DataError."""
    if not (config.query or is_table(config.data)):
        return Training(read(config.data, config.target), [])
    table = read_table(config.data, dialect_of(config), _known(config.target), config.query)
    places = target_places(table, config.target)
    decisions = decisions_of(config)
    spelling = Spelling(table.decimal, decisions.missing)
    _require_distinct(table)
    target = read_target(table, places, spelling, config.task)
    names = tuple(table.names[place] for place in places)
    columns = columns_of(table, decisions, spelling, names)
    x = TableRows(table, target.rows, sum(column.is_used for column in columns))
    features = tuple(column.name for column in columns if column.is_used)
    return Training(Dataset(x, target.y, features, ",".join(names), _stem(config.data)), columns)  # type: ignore[arg-type]


def read_labelled(
    source: str, target: str | None, model: Model, how: Mapping[str, Any] = MappingProxyType({})
) -> tuple[Dataset, Any, HostArray]:
    """Return (data set, x, y) to evaluate a model on: the test set if the source has one, else every row.

    target: the target column of a table or .npy file; None for the one that the model was trained on.
    how: the settings OF_SOURCES.
    """
    chosen: str | int | None = model.target if target is None else target
    if not (how.get("query") or is_table(source)):
        data = read(source, chosen if leaves_target_open(source) else target)
        return (data, data.x_test, data.y_test) if data.x_test is not None else (data, data.x, data.y)  # type: ignore[return-value]
    names = [*(model.feature_names or ()), *(_known(model.target_name))]
    table = read_table(source, dialect_of(how), names, how.get("query", ""))
    chosen = chosen if target is not None or not table.has_names else model.target_name or chosen
    places = target_places(table, chosen)
    spelling = Spelling(table.decimal, model.encoding.missing if model.encoding else ())
    classes: Sequence[Hashable] = model.task.labels.classes if model.task.labels else ()
    found = (
        read_as(table, places[0], spelling, classes)
        if classes
        else read_target(table, places, spelling, "regression")
    )
    x = TableRows(table, found.rows, len(table.names) - len(places), tuple(places))
    return Dataset(x, found.y, None, None, _stem(source)), x, found.y  # type: ignore[arg-type]


def read_rows(source: str, model: Model, how: Mapping[str, Any] = MappingProxyType({})) -> InputRows:
    """Read the rows to predict: a table, a .npy matrix, a folder of .npy matrices or a bundled data set.

    how: the settings OF_SOURCES.

    Raises DataError: no such file, no matrix, or columns of the model are missing.
    """
    if how.get("query") or is_table(source):
        table = read_table(source, dialect_of(how), model.feature_names or (), how.get("query", ""))
        return InputRows(TableRows(table, np.arange(len(table)), len(table.names)), None)
    if source in BUNDLED:
        data = read(source)
        return InputRows(data.x, data.feature_names)
    if Path(source).is_dir():
        return InputRows(_matrix(npy_rows(source), source), None)
    if source.lower().endswith(".npy"):
        return InputRows(_matrix(read_npy(source), source), None)
    raise DataError(
        f"{source} is not an existing table, .npy file or folder of .npy files; give one of these, - for "
        f"standard input, or a bundled set ({', '.join(BUNDLED)}). Tables end with {ACCEPTED}"
    )


def dialect_of(how: Mapping[str, Any] | TrainConfig) -> Dialect:
    """Return what the settings say about text files."""
    found = {name: getattr(how, name) for name in OF_SOURCES} if isinstance(how, TrainConfig) else dict(how)
    found.pop("query", None)
    return Dialect(**found | {"decimal": found.get("decimal", "auto").replace("auto", "")})


def decisions_of(config: TrainConfig) -> Decisions:
    """Return what the settings say about columns."""
    return Decisions(config.categorical, config.number, config.drop, config.missing)


def target_places(table: Table, target: str | int | None) -> list[int]:
    """Return the indices of the target columns: names or indices separated by commas; None for the last."""
    if target is None:
        return [len(table.names) - 1]
    if str(target) in table.names or "," not in str(target):
        return [table.column(str(target), "--target")]
    return [table.column(name.strip(), "--target") for name in str(target).split(",")]


def _known(target: str | int | None) -> tuple[str, ...]:
    """Return the names in a target; digits alone may be an index."""
    names = () if target is None else (str(target), *(part.strip() for part in str(target).split(",")))
    return tuple(name for name in names if name and not name.isdecimal())


def _require_distinct(table: Table) -> None:
    twice = sorted({name for name in table.names if table.names.count(name) > 1})
    if twice:
        raise DataError(
            f"{table.source}: several columns are called {', '.join(map(repr, twice))}; each column needs a "
            "name of its own"
        )


def _matrix(x: Any, source: str) -> Any:
    if x.ndim != 2 or x.dtype.kind not in "biuf":
        raise DataError(f"{source} holds {x.dtype} of shape {x.shape}; numbers (rows, columns) are needed")
    return x


def _stem(source: str) -> str:
    """Return a name for the data that a folder can have: the file's, without endings and special signs."""
    return re.sub(r"[^\w -]", "", Path(source).name.lstrip(".").split(".")[0]).strip() or "table"
