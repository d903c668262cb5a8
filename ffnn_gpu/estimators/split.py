"""Split the rows of a data set into training, validation and test set.

At random and stratified by class, or so that no group is in two sets, or in order: the latest rows are the
test set, and the latest of the others the validation set. Why the validation set is split off here and not by
`fit`: the standardizer must see neither its rows nor the test rows.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.data.readers import Dataset
from ffnn_gpu.data.splits import group_split, order_split, train_test_split
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.settings import TrainConfig
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.tables.roles import Roles
from ffnn_gpu.tables.rows import TableRows


class Part(NamedTuple):
    """Raw x, an array or TableRows, and what belongs to the same rows.

    weight: None if all weigh the same. group: equal numbers for rows of one group; None without groups.
    """

    x: Any
    y: HostArray
    weight: HostArray | None = None
    group: HostArray | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """The three sets of rows; validation and test are None if their fraction is 0."""

    train: Part
    validation: Part | None
    test: Part | None

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each set."""
        return {name: len(part.x) if part else 0 for name, part in vars(self).items()}


def split_rows(data: Dataset, task: Task, config: TrainConfig, roles: Roles = Roles()) -> Split:
    """Split as the roles say, else at random. If the data set has its own test set, use that.

    An ensemble has no validation rows: each of its members holds out a fold of the training rows.

    Raises:
        DataError: a class has too few rows.
        ConfigurationError: the roles contradict each other.
    """
    if roles.group is not None and roles.order is not None:
        raise ConfigurationError("--group and --split-by each decide the split; give one of them")
    whole = Part(data.x, data.y, roles.weight, roles.group)
    rows, test, validation = np.arange(len(data.y)), None, None
    if data.x_test is not None and data.y_test is not None:
        test = Part(data.x_test, data.y_test)
    elif config.test:
        rows, held_out = _hold_out(rows, config.test, data.y, roles, task, config.seed)
        test = part_of(whole, held_out)
    if config.validation and config.model != "tabular":
        rows, held_out = _hold_out(rows, config.validation, data.y, roles, task, config.seed)
        validation = part_of(whole, held_out)
    return Split(part_of(whole, rows), validation, test)


def require_known_labels(task: Task, split: Split) -> None:
    """Raise DataError if a held-out row has a label that the task lacks."""
    for part in (split.validation, split.test):
        if part is not None:
            task.encode(part.y)


def _hold_out(
    rows: HostArray, fraction: float, y: HostArray, roles: Roles, task: Task, seed: int
) -> tuple[HostArray, HostArray]:
    """Return the rest of the rows and the held-out rows, each in the order of the source."""
    labels = y[rows].ravel() if task.labels is not None else None
    if roles.order is not None:
        rest, chosen = order_split(roles.order[rows], fraction)
    elif roles.group is not None:
        rest, chosen = group_split(roles.group[rows], fraction, seed, labels)
    else:
        rest, chosen = train_test_split(
            len(rows) if labels is None else labels, fraction, seed, stratify=labels is not None
        )
    return rows[np.sort(rest)], rows[np.sort(chosen)]


def part_of(whole: Part, rows: HostArray) -> Part:
    """Return these rows of a part, in their order; `whole` itself if they are as many."""
    if len(rows) == len(whole.y):
        return whole
    roles = (None if role is None else role[rows] for role in (whole.weight, whole.group))
    return Part(_rows(whole.x, rows), whole.y[rows], *roles)


def _rows(x: Any, index: HostArray) -> Any:
    if isinstance(x, TableRows):
        return x[index]
    rows = rows_of(x)
    return rows.select(index) if rows.stays_in_files else x[index]
