"""What DATA and INPUT name on the command line → rows, targets and names.

A table (a text file, standard input, …) is read by `tables`; arrays and bundled sets by `data`.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checks import nearest
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.data.array_files import npy_rows, read_npy
from ffnn_gpu.data.readers import BUNDLED, Dataset, leaves_target_open, read
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.training_data import (
    Training,
    decisions_of,
    dialect_of,
    names_in,
    names_table,
    places_of,
    read_known,
    stem,
    target_places,
    training_of,
)
from ffnn_gpu.tables.answers import kept_column
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.roles import weights_of
from ffnn_gpu.tables.rows import TableRows
from ffnn_gpu.tables.sources import ACCEPTED, read_table
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Table
from ffnn_gpu.tables.targets import read_as, read_target


class InputRows(NamedTuple):
    """Rows to predict and the names of the columns, None if they have none or are in a table."""

    x: Any
    names: tuple[str, ...] | None


def reads_table(config: TrainConfig) -> bool:
    """Return whether the data set to train on is a table."""
    return bool(config.query) or names_table(config.data)


def read_training(config: TrainConfig) -> Training:
    """Read the data set to train on. Raises DataError."""
    if not reads_table(config):
        _require_no_decisions(config.data, decisions_of(config))
        return Training(read(config.data, config.target), [])
    return training_of(read_known(config), config, stem(config.data))


def _require_no_decisions(source: str, decisions: Decisions) -> None:
    """Raise ConfigurationError for a decision about a column where columns have no kinds."""
    for setting in ("missing",) * bool(decisions.missing) + tuple(name for name, _ in decisions.named()):
        raise ConfigurationError(
            f"--{setting.replace('_', '-')} needs a table, such as a .csv file; {source} holds numbers only"
        )


def read_labelled(
    source: str, target: str | None, model: Model, how: Mapping[str, Any] = MappingProxyType({})
) -> tuple[Dataset, Any, HostArray]:
    """Return (data set, x, y) to evaluate a model on: the test set if the source has one, else every row.

    target: the target column of a table or .npy file; None for the one that the model was trained on.
    how: the settings OF_SOURCES.
    """
    chosen: str | int | None = model.target if target is None else target
    if not (how.get("query") or names_table(source)):
        data = read(source, chosen if leaves_target_open(source) else target)
        return (data, data.x_test, data.y_test) if data.x_test is not None else (data, data.x, data.y)  # type: ignore[return-value]
    table = _table_for(model, source, how)
    chosen = chosen if target is not None or not table.has_names else model.target_name or chosen
    if chosen is None and table.has_names and model.feature_names is not None:
        raise ConfigurationError(
            "the model does not know the name of its target, because it was trained on arrays in Python; "
            "give --target, the column to compare with"
        )
    places = target_places(table, chosen)
    spelling = Spelling(table.decimal, model.encoding.missing if model.encoding else ())
    classes: Sequence[Hashable] = model.task.labels.classes if model.task.labels else ()
    found = (
        read_as(table, places[0], spelling, classes)
        if classes
        else read_target(table, places, spelling, model.task.kind)
    )
    x = TableRows(table, found.rows, len(table.names) - len(places), tuple(places))
    return Dataset(x, found.y, None, None, stem(source)), x, found.y  # type: ignore[arg-type]


def weights_for(model: Model, x: Any) -> HostArray | None:
    """Return the weights of rows in the column that the training run read them from; None without one."""
    name = model.weight_name
    if name is None or not isinstance(x, TableRows) or name not in x.table.names:
        return None
    spelling = Spelling(x.table.decimal, model.encoding.missing if model.encoding else ())
    return weights_of(x.table, x.table.column(name, "--weight"), spelling, x.index)


def read_rows(source: str, model: Model, how: Mapping[str, Any] = MappingProxyType({})) -> InputRows:
    """Read the rows to predict: a table, a .npy matrix, a folder of .npy matrices or a bundled data set.

    how: the settings OF_SOURCES.

    Raises DataError: no such file, no matrix, or columns of the model are missing.
    """
    if how.get("query") or names_table(source):
        table = _table_for(model, source, how)
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


def kept_columns(
    x: Any, names: Sequence[str] | None, wanted: Sequence[str], source: str
) -> dict[str, HostArray]:
    """Return columns of the input as they were written, by name.

    wanted: names, indices, or several of them with commas. Raises DataError for an unknown one.
    """
    if isinstance(x, TableRows):
        places = [place for name in wanted for place in places_of(x.table, name, "--keep")]
        return {x.table.names[place]: kept_column(x.table, place) for place in places}
    known = tuple(names or map(str, range(x.shape[1])))
    chosen = [part.strip() for name in wanted for part in ([name] if name in known else name.split(","))]
    if unknown := [name for name in chosen if name not in known]:
        near = nearest(unknown[0], known)
        hint = f"did you mean {near!r}?" if near else f"the columns are {known[0]} … {known[-1]}"
        raise DataError(f"--keep: {source} has no column {unknown[0]!r}; {hint}")
    return {name: np.asarray(x[:])[:, known.index(name)] for name in chosen}


def side_by_side(kept: dict[str, HostArray], answers: dict[str, HostArray]) -> dict[str, HostArray]:
    """Return the kept columns, then the answers. Raises ConfigurationError if they share a name."""
    if twice := [name for name in kept if name in answers]:
        raise ConfigurationError(
            f"--keep: the predictions have a column {twice[0]!r} too; rename it in the input"
        )
    return kept | answers


def _table_for(model: Model, source: str, how: Mapping[str, Any]) -> Table:
    """Read a table whose header and decimal sign, where it leaves them open, are as the model knows them."""
    names = (*(model.feature_names or ()), *names_in(model.target_name))
    dialect = replace(dialect_of(how), usual=model.encoding.decimal if model.encoding else "")
    return read_table(source, dialect, names, how.get("query", ""))


def _matrix(x: Any, source: str) -> Any:
    if x.ndim != 2 or x.dtype.kind not in "biuf":
        raise DataError(f"{source} holds {x.dtype} of shape {x.shape}; numbers (rows, columns) are needed")
    return x
