"""Outputs of the network → the functions `predict` and `probabilities` of the file."""

from typing import Any

import numpy as np

from ffnn_gpu.data.labels import LabelMap
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.export.exported import Task
from ffnn_gpu.export.to_numpy import formulas
from ffnn_gpu.export.to_numpy.layers import FUNCTIONS
from ffnn_gpu.nn.activations import sigmoid
from ffnn_gpu.nn.losses import PointwiseLoss

NETWORK = '''
def predict(rows):
    """Return the outputs of the network (n, {width})."""
    return outputs(rows)
'''
NUMBERS = '''
def predict(rows):
    """Return the predicted numbers {shape}, in the units of the target."""
    return {value}
'''
LABELS = '''
def predict(rows):
    """Return the predicted labels {shape}."""
    return {value}


def probabilities(rows):
    """Return the probability of each {what} (n, {count})."""
    p = {p}
    return {chances}
'''


def sources(task: Task | None, width: int) -> dict[str, str]:
    """Return the source of the functions that give answers, and of those that they call, by name.

    width: the number of outputs of the network.
    """
    if task is None:
        return {"predict": NETWORK.format(width=width)}
    if task.kind == "regression":
        z = "outputs(rows)" if task.units is None else "outputs(rows) * UNITS[1] + UNITS[0]"
        z = z if task.limits is None else f"np.clip({z}, *LIMITS)"
        value = z if width > 1 else f"({z})[:, 0]"
        return {"predict": NUMBERS.format(value=value, shape=f"(n, {width})" if width > 1 else "(n,)")}
    found: dict[str, str] = {}
    p = "outputs(rows).astype(np.float64)"
    if not task.outputs_are_probabilities:
        if task.kind == "multiclass":
            found["softmax"], p = FUNCTIONS["softmax"], f"softmax({p})"
        else:
            found |= formulas.functions("sigmoid", sigmoid.value, np.float64, "the sigmoid of the task")
            p = f"sigmoid({p})"
    chances = "np.hstack([1 - p, p])" if task.kind == "binary" else "p"
    labels = task.labels
    parts = {
        "shape": f"(n, {width}): 0 or 1" if labels is None else "(n,)",
        "value": _label(task, labels),
        "what": "label" if labels is None else "class, in the order of CLASSES",
        "count": width if labels is None else len(labels.classes),
    }
    return found | {"predict": LABELS.format(p=p, chances=chances, **parts)}


def constants(task: Task | None) -> list[str]:
    """Return the lines that define the classes or the units."""
    if task is None:
        return []
    if task.labels is not None:
        classes = [*task.labels.classes]
        is_array = isinstance(task.labels.decode([0]), np.ndarray)
        return [f"CLASSES = np.array({classes!r})" if is_array else f"CLASSES = {classes!r}"]
    found = []
    if task.units is not None:
        mean, scale = task.units.mean.tolist(), task.units.scale.tolist()
        found.append(f"UNITS = np.array([{mean!r}, {scale!r}])  # mean and scale of the target")
    if task.limits is not None:
        found.append(f"LIMITS = np.array({[*map(list, task.limits)]!r})  # lowest and highest answer")
    return found


def _label(task: Task, labels: LabelMap | None) -> str:
    if task.kind == "multiclass":
        decisions = "outputs(rows).argmax(axis=1)"
    else:
        loss: Any = task.loss
        if not isinstance(loss, PointwiseLoss) or loss.threshold is None:
            raise ConfigurationError(f"the loss {loss!r} does not decide between 0 and 1")
        above = f"outputs(rows) > {loss.threshold!r}"
        decisions = f"({above}).astype(np.int64)" if labels is None else f"({above})[:, 0].astype(np.int64)"
    if labels is None:
        return decisions
    if isinstance(labels.decode([0]), np.ndarray):
        return f"CLASSES[{decisions}]"
    return f"np.asarray([CLASSES[k] for k in {decisions}])"
