"""Targets and predictions of the test rows in one form, and the error of each row."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checks import counted
from ffnn_gpu.errors import DataError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.split import Part
from ffnn_gpu.report.worst import Answers

TINY = 1e-300  # a probability of 0 has a finite logarithm


class Predicted(NamedTuple):
    """y, decided: class indices (n,), 0/1 (n, K), or numbers in the units of the target (n, K).

    probabilities: (n, C), for multilabel (n, K); None for a regression.
    """

    y: HostArray
    decided: HostArray
    probabilities: HostArray | None


def predicted(model: Model, part: Part) -> Predicted:
    """Predict the rows of a part. Raises DataError if the error of a number is not finite."""
    task, outputs = model.task, model.outputs(part.x)
    decided = task.loss.decide(outputs)
    if task.kind == "regression":
        y = np.reshape(part.y, (len(part.y), -1)).astype(np.float64)
        found = Predicted(y, task.in_units(decided), None)
        _require_finite(found)
        return found
    decided = decided.reshape(len(outputs)) if task.labels else decided
    return Predicted(task.encode(part.y), decided, task.probabilities(outputs))


def _require_finite(found: Predicted) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        error = found.decided - found.y
    bad = np.flatnonzero(~np.isfinite(error).all(axis=1))
    if len(bad):
        rows = counted(len(bad), "row")
        raise DataError(f"predicted − true is not finite for {rows}; the first is test row {bad[0] + 1}")


def target_names(model: Model) -> tuple[str, ...]:
    """Return what the outputs of a regression, or the labels, are called."""
    count, name = model.task.outputs, model.target_name or "target"
    parts = name.split(",")
    if count == 1:
        return (name,)
    return tuple(parts) if len(parts) == count else tuple(f"{name} {k}" for k in range(count))


def answers_of(model: Model, found: Predicted) -> Answers:
    """Return the error of each row, and its truth and prediction as texts."""
    p = found.probabilities
    if p is None:
        units = model.task.units
        scale = 1.0 if units is None else units.scale
        error = np.max(np.abs(found.decided - found.y) / scale, axis=1)
        what = "error" if units is None else "error in standard deviations"
        return Answers(what, error, _numbers(found.y), _numbers(found.decided))
    if model.task.labels is None:
        right = np.where(found.y == 1, p, 1 - p)
        error = -np.log(np.maximum(right, TINY)).sum(axis=1)
        return Answers("log loss", error, _labels(found.y), _labels(found.decided))
    own = p[np.arange(len(p)), found.y]
    true, said = ([model.task.columns[k] for k in each.tolist()] for each in (found.y, found.decided))
    return Answers("1 − probability of the true class", 1 - own, true, said)


def _numbers(rows: HostArray) -> Sequence[str]:
    return [", ".join(f"{number:.6g}" for number in row) for row in rows.tolist()]


def _labels(rows: HostArray) -> Sequence[str]:
    return [", ".join(map(str, np.flatnonzero(row).tolist())) or "none" for row in rows]
