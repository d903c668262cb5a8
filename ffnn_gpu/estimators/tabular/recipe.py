"""A recipe: how one kind of member of an ensemble is built and trained."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.optimizers import Optimizer

LEAST_BATCH, BATCHES = 32, 16  # a batch of a small table: at least 32 rows, at most one 16th of the table
MOST_PASSES = 400  # over a small table, to make the least number of updates
MOST_UPDATES = 30_000  # on a large table, unless one pass makes more
SAMPLE = 4000  # training rows that layers and initial values depend on


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """One kind of member.

    Args:
        name: for messages; each recipe of a preset has another.
        epochs: passes over the training rows, if these are `steps` updates or more.
        steps: the smallest number of updates; a small table gets more epochs, up to MOST_PASSES. A large one
            gets fewer, so that there are at most MOST_UPDATES.
        batch_size: rows of a minibatch, fewer on a small table.
        schedule: of the learning rate.
    """

    name: str
    epochs: int = 30
    steps: int = 1500
    batch_size: int = 64
    schedule: str = "one_cycle"

    @abstractmethod
    def layers(self, levels: Sequence[int], x: HostArray, task: Task) -> list[Layer]:
        """Return the layers, with those of the task's head at the end.

        levels: the categories of the codes, which the last columns of x are. x: some training rows.
        """

    @abstractmethod
    def optimizer(self, regression: bool) -> Optimizer:
        """Return the rule with this recipe's settings."""

    def task(self, task: Task) -> Task:
        """Return the task with the loss that members of this kind are trained with."""
        return task

    def targets(self, y: HostArray, task: Task) -> HostArray:
        """Return the targets that members of this kind are trained with."""
        return y

    def initialize(self, network: Network, x: HostArray, seed: int) -> None:  # noqa: B027
        """Overwrite initial values by some that depend on training rows x. Here they stay as they are."""

    def batch(self, rows: int) -> int:
        """Return the rows of a minibatch of a table with so many training rows."""
        return min(self.batch_size, max(LEAST_BATCH, rows // BATCHES), rows)

    def passes(self, rows: int) -> int:
        """Return the number of epochs on a table with so many training rows."""
        updates = math.ceil(rows / self.batch(rows))  # of one pass
        wanted = max(self.epochs, min(MOST_PASSES, math.ceil(self.steps / updates)))
        return min(wanted, max(1, MOST_UPDATES // updates))
