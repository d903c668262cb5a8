"""Fit an ensemble: train members on folds, choose among them out of fold, calibrate, join."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends import Backend
from ffnn_gpu.estimators.tabular import calibration
from ffnn_gpu.estimators.tabular.joined import joined, task_of_means
from ffnn_gpu.estimators.tabular.members import Member, Plan, Rows, train_members
from ffnn_gpu.estimators.tabular.out_of_fold import OutOfFold
from ffnn_gpu.estimators.tabular.recipes import Recipe
from ffnn_gpu.estimators.tabular.selection import greedy
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.nn.network import Network
from ffnn_gpu.training.interrupt import Interrupted

SEEDS = 1000  # members of one ensemble at most: those of two ensembles with the seeds 0 and 1 differ


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A fitted ensemble.

    Attributes:
        network: the Average of the chosen members; it returns probabilities, or numbers in units of the task.
        task: of that network.
        members: all trained members.
        weights: name of each chosen recipe → its share.
        errors: name of each recipe → its error out of fold: the log loss, or the root mean squared error in
            standard deviations of the target.
        error: of the weighted mean.
        temperature: T, by which the logits are divided; 1 for a regression.
        index: the rows that `out_of_fold` is for, ascending.
        out_of_fold: probabilities or numbers for these rows, by members that were not trained on them.
        residuals: of a regression, |y − ŷ| (n, K) out of fold, sorted, in standard deviations; else None.
        signal: the signal that ended the training early, or None.
    """

    network: Network
    task: Task
    members: list[Member]
    weights: dict[str, float]
    errors: dict[str, float]
    error: float
    temperature: float
    index: HostArray
    out_of_fold: HostArray
    residuals: HostArray | None
    signal: int | None


def fit_ensemble(
    rows: Rows,
    folds: HostArray,
    task: Task,
    levels: Sequence[int],
    recipes: Sequence[Recipe],
    backend: Backend,
    dtype: str = "float32",
    seed: int = 0,
    **training: Any,
) -> Ensemble:
    """Train each recipe once without each fold, and return the best weighted mean of the recipes.

    Args:
        folds: (n,) the fold of each row, or −1 for a row that no member reads.
        levels: the numbers of categories of the codes in the last columns of x.
        training: deadline, callback, done and store of `train_members`.

    Raises:
        DivergedError: the loss of every member became infinite.
        Interrupted: a signal came before the first epoch of any member was over.
    """
    count = int(folds.max()) + 1
    plans = [
        Plan(recipe, fold, SEEDS * seed + count * place + fold)
        for place, recipe in enumerate(recipes)
        for fold in range(count)
    ]
    members, signal = train_members(plans, rows, folds, task, levels, backend, dtype, **training)
    if not members and signal is not None:
        raise Interrupted(signal, "the training before any member was trained")
    held = OutOfFold.of(members, rows, folds, task)
    predictions = {name: held.predictions(name) for name in held.outputs}
    errors = {name: held.error(p) for name, p in predictions.items()}
    weights = greedy(predictions, held.error)

    def mean_at(T: float) -> HostArray:
        terms = [w * held.predictions(name, T) for name, w in weights.items()]
        return np.asarray(np.sum(terms, axis=0))

    regression = task.kind == "regression"
    T = 1.0 if regression else calibration.temperature(lambda T: held.error(mean_at(T)))
    mean = mean_at(T)
    residuals = calibration.thinned(held.y - mean, held.weight) if regression else None
    network = joined(members, weights, task, T, backend)
    return Ensemble(
        network, task_of_means(task), members, weights, errors, held.error(mean), T, held.index, mean,
        residuals, signal,
    )  # fmt: skip
