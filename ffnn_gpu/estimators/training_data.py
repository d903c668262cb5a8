"""A table and the settings of a training run → its targets, the kinds of its columns, and their roles."""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from ffnn_gpu.data.readers import BUNDLED, Dataset
from ffnn_gpu.errors import DataError
from ffnn_gpu.estimators.settings import OF_SOURCES, TrainConfig
from ffnn_gpu.tables.columns import Column
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.dialects import Dialect
from ffnn_gpu.tables.frames import require_distinct
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.roles import Roles, read_roles, require_apart
from ffnn_gpu.tables.rows import TableRows
from ffnn_gpu.tables.sources import is_table, read_table
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Table
from ffnn_gpu.tables.targets import read_target


class Training(NamedTuple):
    """A data set and, if it is a table, its columns but the targets, and what steers the training run."""

    data: Dataset
    columns: list[Column]
    roles: Roles = Roles()
    table: Table | None = None

    @property
    def lacking(self) -> int:
        """The number of rows that are left out, because they lack a target."""
        return 0 if self.table is None else len(self.table) - len(self.data.y)


def names_table(source: str) -> bool:
    """Return whether a source is a table; the name of a bundled set is none, also if a folder has it."""
    return source not in BUNDLED and is_table(source)


def training_of(table: Table, config: TrainConfig, name: str) -> Training:
    """Return what to train on. Raises DataError.

    name: of the data set.
    """
    decisions = decisions_of(config)
    require_distinct(table.names, table.source)
    places = target_places(table, config.target)
    spelling = Spelling(table.decimal, decisions.missing, day_first=decisions.day_first)
    require_apart(table, decisions, places)
    names = tuple(table.names[place] for place in places)
    target = read_target(table, places, spelling, config.task, decisions.categorical)
    columns = columns_of(table, decisions, spelling, names)
    roles = read_roles(table, columns, decisions, spelling, target.rows)
    width = sum(column.is_used for column in columns)
    x = TableRows(table, target.rows, width, tuple(places))
    features = tuple(column.name for column in columns if column.is_used)
    data = Dataset(x, target.y, features, ",".join(names), name)  # type: ignore[arg-type]
    return Training(data, columns, roles, table)


def read_known(config: TrainConfig) -> Table:
    """Read the table that the settings name; a first row with a column that they name is a header."""
    decided = [name for _, name in decisions_of(config).named() if not name.isdecimal()]
    known = [*names_in(config.target), *decided]
    return read_table(config.data, dialect_of(config), known, config.query)


def dialect_of(how: Mapping[str, Any] | TrainConfig) -> Dialect:
    """Return what the settings say about text files."""
    found = {name: getattr(how, name) for name in OF_SOURCES} if isinstance(how, TrainConfig) else dict(how)
    found.pop("query", None)
    return Dialect(**found | {"decimal": found.get("decimal", "auto").replace("auto", "")})


def decisions_of(config: TrainConfig) -> Decisions:
    """Return what the settings say about columns."""
    return Decisions(**{each.name: getattr(config, each.name) for each in fields(Decisions)})


def target_places(table: Table, target: str | int | None) -> list[int]:
    """Return the indices of the target columns: names or indices separated by commas; None for the last."""
    places = [len(table.names) - 1] if target is None else places_of(table, str(target), "--target")
    if len({*places}) < len(places):
        raise DataError(f"--target {target} names a column twice")
    return places


def places_of(table: Table, name: str, option: str) -> list[int]:
    """Return the indices of the columns that a name, an index, or several with commas say."""
    several = name not in table.names and "," in name
    return (
        [table.column(part.strip(), option) for part in name.split(",")]
        if several
        else [table.column(name, option)]
    )


def names_in(target: str | int | None) -> tuple[str, ...]:
    """Return the names in a target; digits alone may be an index."""
    names = () if target is None else (str(target), *(part.strip() for part in str(target).split(",")))
    return tuple(name for name in names if name and not name.isdecimal())


def stem(source: str) -> str:
    """Return a name for the data that a folder can have: the file's, without endings and special signs."""
    return re.sub(r"[^\w -]", "", Path(source).name.lstrip(".").split(".")[0]).strip() or "table"
