"""Outputs of the network → labels and probabilities, or numbers in the units of the target, as ONNX nodes.

binary, multiclass   label (rows,), in the type of the classes; probabilities (rows, C) float64
multilabel           label (rows, K) of 0 and 1; probabilities (rows, K)
regression           prediction (rows,) or (rows, K) float64
a bare network       output (rows, n_out)
"""

from typing import Any

import numpy as np

from ffnn_gpu.data.labels import LabelMap
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.export.exported import Task
from ffnn_gpu.export.to_onnx import formulas
from ffnn_gpu.export.to_onnx.graph import TEXT, Graph
from ffnn_gpu.nn.activations import sigmoid
from ffnn_gpu.nn.losses import PointwiseLoss

TYPES = {str: TEXT, int: np.dtype(np.int64), bool: np.dtype(bool), float: np.dtype(np.float64)}


def names(task: Task | None) -> tuple[str, ...]:
    """Return the names of the outputs."""
    if task is None:
        return ("output",)
    return ("prediction",) if task.kind == "regression" else ("label", "probabilities")


def write(graph: Graph, task: Task, z: str, width: int, outputs: tuple[str, ...]) -> None:
    """Declare the outputs of the graph. z: (rows, width) the outputs of the network.

    outputs: what they are called, in the order of `names`.

    Raises ConfigurationError if the classes are not of one type.
    """
    wide = graph.cast(z, np.float64)
    if task.kind == "regression":
        _numbers(graph, task, wide, width, *outputs)
        return
    label, probabilities = outputs
    if task.labels is None:
        graph.output(label, graph.cast(_is_above(graph, task, z), np.int64), np.int64, width)
        graph.output(probabilities, _sigmoid(graph, task, wide), np.float64, width)
        return
    classes = _classes(task.labels)
    if task.kind == "binary":
        index = graph.node("Squeeze", graph.cast(_is_above(graph, task, z), np.int64), _one(graph))
        p = _sigmoid(graph, task, wide)
        p = graph.node("Concat", graph.node("Sub", graph.constant(1, np.float64), p), p, axis=1)
    else:
        index = graph.node("ArgMax", z, axis=1, keepdims=0)
        p = wide if task.outputs_are_probabilities else graph.node("Softmax", wide, axis=1)
    chosen = graph.node("Gather", graph.constant(classes, classes.dtype), index, axis=0)
    graph.output(label, chosen, classes.dtype)
    graph.output(probabilities, p, np.float64, len(classes))


def _numbers(graph: Graph, task: Task, z: str, width: int, output: str) -> None:
    if task.units is not None:
        scaled = graph.node("Mul", z, graph.constant(task.units.scale, np.float64))
        z = graph.node("Add", scaled, graph.constant(task.units.mean, np.float64))
    if task.limits is not None:
        low, high = (graph.constant(ends, np.float64) for ends in task.limits)
        z = graph.node("Min", graph.node("Max", z, low), high)
    if width == 1:
        graph.output(output, graph.node("Squeeze", z, _one(graph)), np.float64)
    else:
        graph.output(output, z, np.float64, width)


def _is_above(graph: Graph, task: Task, z: str) -> str:
    loss = task.loss
    if not isinstance(loss, PointwiseLoss) or loss.threshold is None:
        raise ConfigurationError(f"the loss {loss!r} does not decide between 0 and 1")
    return graph.node("Greater", graph.cast(z, np.float64), graph.constant(loss.threshold, np.float64))


def _sigmoid(graph: Graph, task: Task, z: str) -> str:
    if task.outputs_are_probabilities:
        return z
    return formulas.apply(graph, sigmoid.value, z, np.float64, "the sigmoid of the task")


def _one(graph: Graph) -> str:
    return graph.constant([1], np.int64)


def _classes(labels: LabelMap) -> Any:
    """Return the classes as an array of one type. Raises ConfigurationError."""
    types = {*map(type, labels.classes)}
    dtype = TYPES.get(types.pop()) if len(types) == 1 else None
    if dtype is None:
        raise ConfigurationError(
            f"the classes {', '.join(map(repr, labels.classes[:5]))} are not all texts, all whole numbers, "
            "all numbers or all booleans; ONNX outputs have one type. Train on labels of one type"
        )
    try:
        return np.array(labels.classes, dtype)
    except OverflowError as error:
        raise ConfigurationError(
            f"a class is a whole number beyond 64 bits, which ONNX lacks: {error}"
        ) from error
