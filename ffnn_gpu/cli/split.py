"""Which rows of a data set a run trains on, which it watches, and which it is tested on.

Why the validation rows are split off here and not by `fit`: the standardizer must not see them, nor the test rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.file_rows import some_of, stays_in_files
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.data.readers import Dataset
from ffnn_gpu.data.standardizer import train_test_split
from ffnn_gpu.estimators.task import Task


@dataclass(frozen=True, eq=False)
class Split:
    """Raw rows and targets of the three parts; validation and test are None where they were set to 0."""

    train: tuple[HostArray, HostArray]
    validation: tuple[HostArray, HostArray] | None
    test: tuple[HostArray, HostArray] | None

    def counts(self) -> dict[str, int]:
        """How many rows each part has."""
        return {name: len(part[0]) if part else 0 for name, part in vars(self).items()}


def split_rows(data: Dataset, task: Task, config: TrainConfig) -> Split:
    """Shuffled parts, stratified by class; the source's own test part where it has one. Raises DataError."""
    x, y, test = data.x, data.y, None
    if data.x_test is not None and data.y_test is not None:
        test = data.x_test, data.y_test
    elif config.test:
        (x, y), test = _hold_out(x, y, config.test, task, config.seed)
    if not config.validation:
        return Split((x, y), None, test)
    training, validation = _hold_out(x, y, config.validation, task, config.seed)
    return Split(training, validation, test)


def require_known_labels(task: Task, split: Split) -> None:
    """Before the training: every held-out target is one the task has. Raises DataError."""
    for part in (split.validation, split.test):
        if part is not None:
            task.encode(part[1])


def _hold_out(
    x: HostArray, y: HostArray, fraction: float, task: Task, seed: int
) -> tuple[tuple[HostArray, HostArray], tuple[HostArray, HostArray]]:
    classes = task.labels is not None
    rest, chosen = train_test_split(y.ravel() if classes else len(y), fraction, seed, stratify=classes)
    first, second = np.sort(rest), np.sort(chosen)
    return (_rows(x, first), y[first]), (_rows(x, second), y[second])


def _rows(x: Any, index: HostArray) -> Any:
    return some_of(x, index) if stays_in_files(x) else x[index]
