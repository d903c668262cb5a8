"""Fit an ensemble: train members on folds, choose among them out of fold, calibrate, join."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends import Backend
from ffnn_gpu.checks import counted
from ffnn_gpu.estimators.tabular import calibration
from ffnn_gpu.estimators.tabular.criterion import Objective
from ffnn_gpu.estimators.tabular.held_out_rows import HeldOutRows
from ffnn_gpu.estimators.tabular.joined import joined, task_of_means
from ffnn_gpu.estimators.tabular.members import Member, Plan, Rows, train_members
from ffnn_gpu.estimators.tabular.out_of_fold import OutOfFold
from ffnn_gpu.estimators.tabular.recipe import Recipe
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
        errors: name of each recipe → its error out of fold, lower for a better one: the log loss, or the root
            mean squared error in standard deviations of the target; with a metric, that or 1 − metric.
        error: of the weighted mean.
        objective: gives both.
        scores, score: as errors and error, but the metric itself.
        temperatures: name of each chosen recipe → T, by which its logits are divided; 1 for a regression.
        index: the rows that `out_of_fold` is for, ascending.
        out_of_fold: probabilities or numbers for these rows, by members that were not trained on them.
        residuals: of a regression, |y − ŷ| (n, K) out of fold, sorted, in standard deviations; else None.
        sample: some of these rows, encoded, for importances.
        signal: the signal that ended the training early, or None.
    """

    network: Network
    task: Task
    members: list[Member]
    weights: dict[str, float]
    errors: dict[str, float]
    error: float
    objective: Objective
    scores: dict[str, float]
    score: float
    temperatures: dict[str, float]
    index: HostArray
    out_of_fold: HostArray
    residuals: HostArray | None
    sample: HeldOutRows
    signal: int | None

    def __repr__(self) -> str:
        members = counted(len(self.members), "member")
        return f"<Ensemble: {members}, {self.objective.measured} {self.score:.4f} out of fold>"


def fit_ensemble(
    rows: Rows,
    folds: HostArray,
    task: Task,
    levels: Sequence[int],
    recipes: Sequence[Recipe],
    backend: Backend,
    dtype: str = "float32",
    seed: int = 0,
    objective: Objective | None = None,
    **training: Any,
) -> Ensemble:
    """Train each recipe once without each fold, and return the best weighted mean of the recipes.

    Args:
        folds: (n,) the fold of each row, or −1 for a row that no member reads.
        levels: the numbers of categories of the codes in the last columns of x.
        objective: what decides about epochs and recipes; None for the losses of the task. Temperatures
            are chosen by the log loss in every case.
        training: deadline, callback, done and store of `train_members`.

    Raises:
        DivergedError: the loss of every member became infinite.
        Interrupted: a signal came before the first epoch of any member was over.
    """
    count = int(folds.max()) + 1
    plans = [
        Plan(recipe, fold, SEEDS * seed + count * place + fold)
        for fold in range(count)  # first: if time runs out, each recipe has members
        for place, recipe in enumerate(recipes)
    ]
    goal = Objective(task) if objective is None else objective
    members, signal = train_members(
        plans, rows, folds, task, levels, backend, dtype, objective=goal, **training
    )
    if not members and signal is not None:
        raise Interrupted(signal, "the training before any member was trained")
    held = OutOfFold.of(members, rows, folds, task)
    # Why before the choice: a recipe with label smoothing has a large log loss until it is calibrated.
    own = {name: _temperature({name: 1.0}, held, {name: 1.0}, goal) for name in held.outputs}
    predictions = {name: held.predictions(name, own[name]) for name in held.outputs}
    errors, scores = (
        {name: measure(held.y, p, held.weight) for name, p in predictions.items()}
        for measure in (goal.error, goal.score)
    )
    weights = greedy(predictions, lambda p: goal.error(held.y, p, held.weight))
    T = _temperature(weights, held, own, goal)
    temperatures = {name: T * own[name] for name in weights}
    mean = held.mean(weights, temperatures)
    regression = task.kind == "regression"
    residuals = calibration.ordered(held.y - mean, held.weight) if regression else None
    network = joined(members, weights, task, temperatures, backend)
    error, score = (measure(held.y, mean, held.weight) for measure in (goal.error, goal.score))
    sample = HeldOutRows.of(rows, folds, held.index, seed)
    return Ensemble(
        network, task_of_means(task), members, weights, errors, error, goal, scores, score, temperatures,
        held.index, mean, residuals, sample, signal,
    )  # fmt: skip


def _temperature(
    weights: Mapping[str, float], held: OutOfFold, own: Mapping[str, float], goal: Objective
) -> float:
    """Return T for which the log loss of the weighted mean is least if logits are divided by T and own."""
    if goal.task.kind == "regression":
        return 1.0

    def loss(T: float) -> float:
        p = held.mean(weights, {name: T * own[name] for name in weights})
        return goal.loss(held.y, p, held.weight)

    return calibration.temperature(loss)
