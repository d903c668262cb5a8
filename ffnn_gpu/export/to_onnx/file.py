"""The whole graph: raw rows in, answers out.

Inputs are float64 where numbers are scaled inside, because the scaling is computed in float64 and rounded
once, as by `predict`. A bare network reads its own type.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ffnn_gpu.checkpoints import atomic_file
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.export.exported import Exported, exported
from ffnn_gpu.export.to_onnx import answers, columns
from ffnn_gpu.export.to_onnx.graph import Graph
from ffnn_gpu.export.to_onnx.layers import Layers

MATRIX = "x"


def export_onnx(model: Any, path: str | Path) -> None:
    """Write a network or a model to one ONNX file (opset 17, IR 8); an old file is replaced in one step.

    model: a `Model`, a fitted estimator of this package, or a `Network`.

    With a model, the file reads raw columns and returns labels and probabilities, or numbers in the units of
    the target. With a network it reads x and returns `output`. docs/export.md lists inputs and outputs.

    Raises:
        ConfigurationError: onnx is not installed, a layer or an activation has no ONNX form, or the classes
            are not of one type. Nothing is written then.
    """
    atomic_file.write(Path(path), onnx_bytes(model))


def onnx_bytes(model: Any) -> bytes:
    """Return the content of the file that `export_onnx` writes."""
    given = exported(model)
    inputs = given.encoding.read if given.encoding is not None else (MATRIX,)
    if "" in inputs:
        raise ConfigurationError("a column has an empty name, and ONNX inputs need names; rename the column")
    outputs = tuple(_free(name, inputs) for name in answers.names(given.task))
    graph = Graph((*inputs, *outputs))
    network = given.network
    x = _matrix(graph, given)
    weights = network.params.to_host()
    layers = Layers(graph, weights, network.dtype, network.backend.parts_of_sum)
    z = layers.stack(network.layers, x, network.n_in)
    width = network.widths[-1]
    if given.task is None:
        graph.output(outputs[0], z, network.dtype, width)
    else:
        answers.write(graph, given.task, z, width, outputs)
    return graph.file("ffnn_gpu", _metadata(given))


def _matrix(graph: Graph, given: Exported) -> str:
    """Declare the inputs; return the matrix that the network reads."""
    dtype, width = given.network.dtype, given.network.n_in
    if given.encoding is not None:
        return columns.encoded(graph, given.encoding, dtype)
    if given.standardizer is None:
        return graph.input(MATRIX, dtype, width)
    scaling = given.standardizer
    mean, scale = (graph.constant(each, np.float64) for each in (scaling.mean, scaling.scale))
    x = graph.node("Div", graph.node("Sub", graph.input(MATRIX, np.float64, width), mean), scale)
    x = graph.cast(x, dtype)
    if scaling.constant:  # the network learnt nothing from a constant column
        constant = np.isin(np.arange(width), scaling.constant)
        x = graph.node("Where", graph.constant(constant, bool), graph.constant(0, dtype), x)
    if given.limit is not None:
        x = graph.node("Clip", x, *(graph.constant(sign * given.limit, dtype) for sign in (-1, 1)))
    return x


def _metadata(given: Exported) -> dict[str, str]:
    """Return what the graph does not say, as JSON."""
    found: dict[str, Any] = {}
    if given.encoding is not None:
        found["columns"] = columns.kinds(given.encoding)
        found["missing"] = [*given.encoding.missing]
    elif given.feature_names is not None:
        found["features"] = [*given.feature_names]
    if given.task is not None:
        found["task"] = given.task.kind
        if given.task.labels is not None:
            found["classes"] = given.task.labels.to_json()["classes"]
    return {name: json.dumps(value, ensure_ascii=False) for name, value in found.items()}


def _free(name: str, taken: tuple[str, ...]) -> str:
    """Return the name of an output; a column may have the same."""
    while name in taken:
        name += "_"
    return name
