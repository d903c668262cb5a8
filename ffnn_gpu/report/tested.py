"""A model and its test rows → what the page shows of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.split import Part
from ffnn_gpu.evaluation.reliability import reliability
from ffnn_gpu.report.confusion import confusion_of, label_counts_of
from ffnn_gpu.report.findings import Bin, Calibration, Tested
from ffnn_gpu.report.importance import importance_of
from ffnn_gpu.report.intervals import coverage_of, half_widths_of
from ffnn_gpu.report.predicted import Predicted, answers_of, predicted, target_names
from ffnn_gpu.report.residuals import residuals_of
from ffnn_gpu.report.worst import worst_of

MOST_TARGETS = 4


def findings_of_rows(model: Model, test: Part, validation: Part | None, result: Mapping[str, Any]) -> Tested:
    """Return what the test rows show of a model. result: the content of result.json."""
    found, task = predicted(model, test), model.task
    importance = importance_of(model, test, result)
    important = [column.name for column in importance.columns] if importance else []
    worst = worst_of(model, test.x, answers_of(model, found), important)
    plain = Tested(len(test.x), None, (), (), None, (), "", importance, worst)
    if task.kind == "regression":
        return _with_numbers(plain, model, found, validation, result)
    plain = replace(plain, calibration=calibration_of(model, found))
    if task.labels is None:
        return replace(plain, labels=label_counts_of(found.y, found.decided, target_names(model)))
    return replace(plain, confusion=confusion_of(found.y, found.decided, task.columns))


def _with_numbers(
    plain: Tested, model: Model, found: Predicted, validation: Part | None, result: Mapping[str, Any]
) -> Tested:
    """Return the same with the residuals and intervals of the first targets."""
    names = target_names(model)[:MOST_TARGETS]
    y, decided = found.y[:, : len(names)], found.decided[:, : len(names)]
    widths = half_widths_of(result, model, validation)
    return replace(
        plain,
        residuals=residuals_of(y, decided, names),
        coverage=coverage_of(y, decided, widths, names),
        coverage_source=widths.source if widths else "",
    )


def calibration_of(model: Model, found: Predicted) -> Calibration:
    """Return how often events come true that have a probability: a class, the predicted class, any label."""
    p, task = found.probabilities, model.task
    assert p is not None  # of a classification
    if task.labels is None:
        what, chance, event = "a label", p.ravel(), found.y.ravel() == 1
    elif task.kind == "binary":
        what, chance, event = f"the class {task.columns[1]}", p[:, 1], found.y == 1
    else:
        what, chance, event = "the predicted class", p.max(axis=1), found.y == p.argmax(axis=1)
    shown = reliability(np.clip(chance, 0.0, 1.0), event)
    columns = (shown.predicted.tolist(), shown.observed.tolist(), shown.rows.astype(int).tolist())
    return Calibration(what, tuple(Bin(*each) for each in zip(*columns, strict=True)), shown.error)
