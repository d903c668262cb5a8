"""Columns that steer a training run and are not learnt from: weights, groups and the order of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.cells import number_of, time_of
from ffnn_gpu.tables.columns import Column
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.embedded_database import literal
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import CELLS, Codes, Floats, Table

SPACES = "".join(filter(str.isspace, map(chr, range(0x3001))))  # what str.strip removes
APART = ("drop", "id", "weight", "group", "split_by")  # decisions that cannot name a target


@dataclass(frozen=True, eq=False)
class Roles:
    """The weight, the group and the place in the order of time of each row (n,); None where not asked for."""

    weight: Floats | None = None
    group: Codes | None = None
    order: Floats | None = None


def read_roles(
    table: Table, columns: Sequence[Column], decisions: Decisions, spelling: Spelling, rows: Codes
) -> Roles:
    """Read the columns that the decisions name, for these rows.

    Raises DataError, with the line: a weight is missing or negative, a cell of split_by no number or time.
    """
    weight = order = group = None
    if decisions.weight is not None:
        weight = weights_of(table, table.column(decisions.weight, "--weight"), spelling, rows)
    if decisions.group is not None:
        group = _groups(table, table.column(decisions.group, "--group"))[rows]
    if decisions.split_by is not None:
        place = table.column(decisions.split_by, "--split-by")
        order = _order(table, next(column for column in columns if column.place == place), spelling, rows)
    return Roles(weight, group, order)


def require_apart(table: Table, decisions: Decisions, targets: Sequence[int]) -> None:
    """Raise DataError if a decision about inputs names a target."""
    for setting, name in decisions.named():
        option = f"--{setting.replace('_', '-')}"
        if setting in APART and table.column(name, option) in targets:
            raise DataError(
                f"column {name!r} is the target; {option} cannot name it too. --target chooses another"
            )


def weights_of(table: Table, place: int, spelling: Spelling, rows: Codes) -> Floats:
    """Return the weights of these rows. Raises DataError, with the line: one is missing or negative."""
    weights = table.numbers(number_of(table, place, spelling))[rows]
    _require(table, place, rows, weights >= 0, "--weight", "a weight is a number of at least 0")
    return weights


def _groups(table: Table, place: int) -> Codes:
    """Return a number for each group; blanks around its name do not count, rows without one are together."""
    return table.integers(f"hash(trim(coalesce({table.text(place)}, ''), {literal(SPACES)})) >> 1")


def _order(table: Table, column: Column, spelling: Spelling, rows: Codes) -> Floats:
    if column.kind == "time":
        value, what = time_of(table, column.place, column.written, spelling), "time"
    elif column.kind in ("number", "id"):
        value, what = number_of(table, column.place, spelling), "number"
    else:
        raise DataError(
            f"{table.source}: --split-by needs a column of numbers or times; {column.name!r} is not one: "
            f"{column.kind}, {column.reason}"
        )
    order = table.numbers(value)[rows]
    _require(table, column.place, rows, ~np.isnan(order), "--split-by", f"every row needs a {what}")
    return order


def _require(table: Table, place: int, rows: Codes, fits: Any, option: str, rule: str) -> None:
    bad = rows[~fits]
    if len(bad):
        cell = table.ask(f"SELECT {table.text(place)} FROM {CELLS} WHERE rowid = {bad[0]}")[0][0]
        holds = "is empty" if cell is None or not cell.strip() else f"holds {cell!r}"
        more = f" ({len(bad):,} such rows in all)" if len(bad) > 1 else ""
        name = table.names[place]
        raise DataError(
            f"{table.source}, column {name!r} of {option}: {table.place(int(bad[0]))} {holds}{more}; {rule}"
        )
