"""Predictions for rows by members that were not trained on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.estimators.tabular.criterion import predictions_of
from ffnn_gpu.estimators.tabular.members import Member, Rows
from ffnn_gpu.estimators.task import Task


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The outputs of each recipe for the rows that its members held out.

    Attributes:
        index: the rows, ascending. All rows, unless members are missing (the time was over).
        outputs: name of a recipe → (len(index), O).
        y, weight: of these rows.
    """

    task: Task
    index: HostArray
    outputs: dict[str, HostArray]
    y: HostArray
    weight: HostArray | None

    @classmethod
    def of(cls, members: Sequence[Member], rows: Rows, folds: HostArray, task: Task) -> "OutOfFold":
        """Collect the outputs of the recipes for the folds that all of them have members for.

        If the training ended early, recipes lack folds. One that has none in common with those that have
        more is left out.
        """
        held = {
            name: {m.plan.fold: m.held_out for m in members if m.plan.recipe.name == name}
            for name in _names(members)
        }
        names = sorted(held, key=lambda name: -len(held[name]))
        covered = set(held[names[0]])
        for name in names:
            covered = covered & set(held[name]) or covered
        index = np.flatnonzero(np.isin(folds, [*covered]))
        outputs = {}
        for name in held:
            if covered <= held[name].keys():
                z = np.empty((len(folds), held[name][min(covered)].shape[1]))
                for fold in covered:
                    z[folds == fold] = held[name][fold]
                outputs[name] = z[index]
        return cls(task, index, outputs, rows.y[index], rows.weight_at(index))

    def predictions(self, name: str, T: float = 1.0) -> HostArray:
        """Return a recipe's probabilities (n, C) or (n, K) for logits divided by T, or its numbers (n, K)."""
        return predictions_of(self.task, self.outputs[name] / T)

    def mean(self, weights: Mapping[str, float], temperatures: Mapping[str, float]) -> HostArray:
        """Return the weighted mean of the predictions of recipes, each at its temperature."""
        terms = [weight * self.predictions(name, temperatures[name]) for name, weight in weights.items()]
        return np.asarray(np.sum(terms, axis=0))


def _names(members: Sequence[Member]) -> list[str]:
    return list(dict.fromkeys(member.plan.recipe.name for member in members))
