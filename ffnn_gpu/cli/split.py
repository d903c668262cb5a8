"""Split the rows of a data set into training, validation and test set.

Why the validation set is split off here and not by `fit`: the standardizer must see neither its rows nor the
test rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.data.readers import Dataset
from ffnn_gpu.data.splits import train_test_split
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.tables.rows import TableRows

Pair = tuple[Any, HostArray]  # raw x, an array or TableRows, and y of the same rows


@dataclass(frozen=True, eq=False)
class Split:
    """The three sets of rows; validation and test are None if their fraction is 0."""

    train: Pair
    validation: Pair | None
    test: Pair | None

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each set."""
        return {name: len(pair[0]) if pair else 0 for name, pair in vars(self).items()}


def split_rows(data: Dataset, task: Task, config: TrainConfig) -> Split:
    """Split at random, stratified by class. If the data set has its own test set, use that.

    Raises:
        DataError: a class has too few rows.
    """
    train, test = (data.x, data.y), None
    if data.x_test is not None and data.y_test is not None:
        test = data.x_test, data.y_test
    elif config.test:
        train, test = _hold_out(train, config.test, task, config.seed)
    if not config.validation:
        return Split(train, None, test)
    train, validation = _hold_out(train, config.validation, task, config.seed)
    return Split(train, validation, test)


def require_known_labels(task: Task, split: Split) -> None:
    """Raise DataError if a held-out row has a label that the task lacks."""
    for pair in (split.validation, split.test):
        if pair is not None:
            task.encode(pair[1])


def _hold_out(pair: Pair, fraction: float, task: Task, seed: int) -> tuple[Pair, Pair]:
    """Return the rest and the held-out rows, each in the order of the source."""
    x, y = pair
    classes = task.labels is not None
    rest, chosen = train_test_split(y.ravel() if classes else len(y), fraction, seed, stratify=classes)
    first, second = np.sort(rest), np.sort(chosen)
    return (_rows(x, first), y[first]), (_rows(x, second), y[second])


def _rows(x: Any, index: HostArray) -> Any:
    if isinstance(x, TableRows):
        return x[index]
    rows = rows_of(x)
    return rows.select(index) if rows.stays_in_files else x[index]
