"""Encoded rows, a task and a preset → an ensemble: what the estimators and `ffnn-gpu train` share."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends import Backend
from ffnn_gpu.estimators.tabular.criterion import Objective
from ffnn_gpu.estimators.tabular.fit_ensemble import Ensemble, fit_ensemble
from ffnn_gpu.estimators.tabular.folds import folds_of
from ffnn_gpu.estimators.tabular.member_files import MemberFiles
from ffnn_gpu.estimators.tabular.members import Member, Rows, Store
from ffnn_gpu.estimators.tabular.progress import Progress
from ffnn_gpu.estimators.tabular.recipes import Preset
from ffnn_gpu.estimators.task import Task


def train_ensemble(
    rows: Rows,
    task: Task,
    levels: Sequence[int],
    preset: Preset,
    backend: Backend,
    dtype: str,
    seed: int,
    *,
    groups: HostArray | None = None,
    deadline: float | None = None,
    verbose: int | str = 0,
    folder: Path | None = None,
    done: Callable[[Member], None] = lambda member: None,
    objective: Objective | None = None,
) -> Ensemble:
    """Deal the rows to folds, train the members of the preset, and join them.

    Args:
        levels: as in `fit_ensemble`.
        groups: (n,) rows of one group are held out together. None: each class is spread over all folds.
        deadline: in seconds of `time.monotonic`.
        verbose: 0 silent, 1 progress on standard error, "auto" for the expected time alone.
        folder: where finished members are kept. Those that it has of the same rows are not trained again.
        done: called with each member.
        objective: as in `fit_ensemble`.

    Raises:
        DataError: there is one row or one group, or a fold does not define the metric. The errors of
            `fit_ensemble`.
    """
    n = len(rows.y)
    classes = np.asarray(rows.y).ravel() if task.labels is not None else None
    folds = folds_of(n, preset.folds, seed, classes, groups, rows.weight)
    goal = Objective(task) if objective is None else objective
    goal.require_defined(rows.y, folds, rows.weight)
    store = Store() if folder is None else MemberFiles(folder, backend, rows, folds, goal.name)
    names = [recipe.name for recipe in preset.recipes]
    with Progress(names, int(folds.max()) + 1, verbose, backend.runs_at_once) as progress:

        def finished(member: Member) -> None:
            progress.done(member)
            done(member)

        return fit_ensemble(
            rows, folds, task, levels, preset.recipes, backend, dtype, seed, deadline=deadline,
            callback=progress.callbacks, done=finished, store=store, objective=goal,
        )  # fmt: skip
