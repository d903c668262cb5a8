"""The layers of a network as ONNX nodes, in the type in which the network stores its weights.

A 16-bit network computes in float32 here. Dropout is the identity.

Why neither LayerNormalization nor BatchNormalization: onnxruntime 1.32 takes the variance of a float32 row as
E[x²] − E[x]², and folds the running mean into the bias. For rows of N(1000, 1) the outputs differ from
`predict` by 1.5e-5 and 5e-6 of their largest value. Composed as in the reference backend, they are equal.

Why a long sum is several products: onnxruntime adds 256 products in a row, and CompiledBackend 128 with less
error. On digits the probabilities of both differed by 1.6e-6, of which 1.2e-6 was onnxruntime's error. In the
same parts they differ by 5e-7. A product of (1024, 784) (784, 512) takes 10 % longer so.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.export.exported import writer_of
from ffnn_gpu.export.to_onnx import formulas
from ffnn_gpu.export.to_onnx.graph import Graph
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import (
    Average,
    BatchNorm,
    CosineEmbedding,
    Dense,
    Dropout,
    Embedding,
    LayerNorm,
    LogSoftmax,
    NTKDense,
    ParametricActivation,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    Residual,
    Scale,
    Softmax,
    Stack,
)


class Layers:
    """Writes layers to a graph.

    weights: name → array, as `Parameters.to_host` returns them.
    dtype: float32 or float64.
    parts_of_sum: how the network's backend adds products, see `Backend.parts_of_sum`.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, HostArray],
        dtype: Any,
        parts_of_sum: Callable[[int], list[tuple[int, int]]],
    ) -> None:
        self.graph, self.weights, self.dtype = graph, weights, np.dtype(dtype)
        self.parts_of_sum = parts_of_sum

    def stack(self, layers: Sequence[Layer], x: str, width: int, prefix: str = "") -> str:
        """Return the name of the output of layers that follow each other.

        width: the number of columns of x.
        prefix: of the names of their weights.

        Raises ConfigurationError for an unknown layer, or an activation without a trace.
        """
        for k, layer in enumerate(layers):
            write = writer_of(layer, f"{prefix}{k}", WRITERS, "ONNX export knows")
            x = write(self, layer, f"{prefix}{k}", x, width)
            width = layer.output_width(width)
        return x

    def weight(self, name: str) -> str:
        """Return the constant that holds a weight."""
        return self.graph.constant(self.weights[name], self.dtype)


def _dense(to: Layers, layer: Dense, name: str, x: str, width: int) -> str:
    bias = (to.weight(f"{name}.b"),) if layer.bias else ()
    parts, W = to.parts_of_sum(width), to.weights[f"{name}.W"] * layer.factor(width)
    if len(parts) <= 1:  # why not Gemm's alpha: it is a float32
        s = to.graph.node("Gemm", x, to.graph.constant(W, to.dtype), *bias)
    else:
        s = _in_parts(to, W, x, parts)
        s = to.graph.node("Add", s, *bias) if bias else s
    what = f"the activation {layer.phi!r} of layer {name}"
    return s if layer.phi.name == "identity" else formulas.apply(to.graph, layer.phi.value, s, to.dtype, what)


def _parametric(to: Layers, layer: ParametricActivation, name: str, x: str, width: int) -> str:
    what = f"the activation {layer.phi!r} of layer {name}"
    a = formulas.apply(to.graph, layer.phi.value, x, to.dtype, what)
    bent = to.graph.node("Mul", to.graph.node("Sub", a, x), to.weight(f"{name}.alpha"))
    return to.graph.node("Add", x, bent)


def _in_parts(to: Layers, W: HostArray, x: str, parts: Sequence[tuple[int, int]]) -> str:
    """Return x W, the sum of the products of some columns of x and rows of W."""
    total: tuple[str, ...] = ()
    for start, stop in parts:
        ends = (to.graph.constant([k], np.int64) for k in (start, stop, 1))
        columns = to.graph.node("Slice", x, *ends)
        total = (to.graph.node("Gemm", columns, to.graph.constant(W[start:stop], to.dtype), *total),)
    return total[0]


def _layer_norm(to: Layers, layer: LayerNorm, name: str, x: str, width: int) -> str:
    do, wide = to.graph.node, to.graph.cast(x, np.float64)
    centred = do("Sub", wide, do("ReduceMean", wide, axes=[1]))
    variance = do("ReduceMean", do("Mul", centred, centred), axes=[1])
    deviation = do("Sqrt", do("Add", variance, to.graph.constant(layer.eps, np.float64)))
    xhat = to.graph.cast(do("Div", centred, deviation), to.dtype)
    return do("Add", do("Mul", xhat, to.weight(f"{name}.gain")), to.weight(f"{name}.bias"))


def _batch_norm(to: Layers, layer: BatchNorm, name: str, x: str, width: int) -> str:
    parts = ("gain", "bias", "running_mean", "running_variance")
    gain, bias, mean, variance = (to.weights[f"{name}.{part}"] for part in parts)
    names = [to.graph.constant(each, to.dtype) for each in (mean, gain / np.sqrt(variance + layer.eps), bias)]
    return to.graph.node("Add", to.graph.node("Mul", to.graph.node("Sub", x, names[0]), names[1]), names[2])


def _residual(to: Layers, layer: Residual, name: str, x: str, width: int) -> str:
    return to.graph.node("Add", x, to.stack(layer.layers, x, width, f"{name}.layers."))


def _stack(to: Layers, layer: Stack, name: str, x: str, width: int) -> str:
    return to.stack(layer.layers, x, width, f"{name}.layers.")


def _average(to: Layers, layer: Average, name: str, x: str, width: int) -> str:
    members = [_stack(to, f, f"{name}.layers.{r}", x, width) for r, f in enumerate(layer.layers)]
    terms = [
        to.graph.node("Mul", f, to.graph.constant(w, to.dtype))
        for f, w in zip(members, layer.shares, strict=True)
    ]
    return functools.reduce(lambda total, term: to.graph.node("Add", total, term), terms)


def _embedding(to: Layers, layer: Embedding, name: str, x: str, width: int) -> str:
    """Look up the codes in the last columns; a number that is no code is an error of the runtime."""
    graph, N = to.graph, width - len(layer.levels)
    parts = [graph.node("Gather", x, graph.constant(range(N), np.int64), axis=1)]
    for column, table in enumerate(layer.tables(to.weights[f"{name}.E"]), N):
        code = graph.node("Gather", x, graph.constant(column, np.int64), axis=1)
        whole = graph.node("Abs", graph.node("Floor", code))
        beyond = graph.constant(len(table), to.dtype)  # no row of the table, as −1 would be
        row = graph.node("Where", graph.node("Equal", code, whole), code, beyond)
        rows = graph.constant(table, to.dtype)
        parts.append(graph.node("Gather", rows, graph.cast(row, np.int64), axis=0))
    return graph.node("Concat", *parts, axis=1)


def _waves(to: Layers, w: HostArray, b: HostArray, x: str) -> str:
    """Return cos(2π w x + b) of the first columns, (rows, F K)."""
    do = to.graph.node
    columns = np.repeat(np.arange(len(w)), w.shape[1])
    repeated = do("Gather", x, to.graph.constant(columns, np.int64), axis=1)
    turned = do("Mul", repeated, to.graph.constant(2 * np.pi * w.ravel(), to.dtype))
    return formulas.cosine(to.graph, do("Add", turned, to.graph.constant(b.ravel(), to.dtype)), to.dtype)


def _periodic(to: Layers, layer: PeriodicEmbedding, name: str, x: str, width: int) -> str:
    do, (F, K, D) = to.graph.node, (layer.columns, layer.frequencies, layer.width - 1)
    w, b = (to.weights[f"{name}.{part}"] for part in "wb")
    apart, flat = (to.graph.constant(shape, np.int64) for shape in ((0, F, K), (0, F * D)))  # 0: all rows
    z = do("Transpose", do("Reshape", _waves(to, w, b, x), apart), perm=[1, 0, 2])
    A = to.graph.constant(to.weights[f"{name}.A"].reshape(F, K, D), to.dtype)
    e = do("Add", do("Transpose", do("MatMul", z, A), perm=[1, 0, 2]), to.weight(f"{name}.c"))
    return do("Concat", do("Reshape", e, flat), x, axis=1)


def _cosines(to: Layers, layer: CosineEmbedding, name: str, x: str, width: int) -> str:
    """Write the columns x_1, …, x_F, their waves, and the others; then bring them into the layer's order."""
    do, F, K = to.graph.node, layer.columns, layer.width - 1
    w, b, gain, bias = (to.weights[f"{name}.{part}"] for part in ("w", "b", "gain", "bias"))
    apart = do("Concat", x, _waves(to, w, 2 * np.pi * b, x), axis=1)
    places = [[f, *range(width + f * K, width + (f + 1) * K)] for f in range(F)]
    v = do("Gather", apart, to.graph.constant(np.ravel(places), np.int64), axis=1)
    scaled = do("Mul", v, to.graph.constant(gain.ravel(), to.dtype))
    e = do("Add", scaled, to.graph.constant(bias, to.dtype))
    return do("Concat", e, do("Gather", x, to.graph.constant(np.arange(F, width), np.int64), axis=1), axis=1)


def _piecewise_linear(to: Layers, layer: PiecewiseLinearEmbedding, name: str, x: str, width: int) -> str:
    do, F, D, graph = to.graph.node, len(layer.edges), layer.width, to.graph
    columns = do("Gather", x, graph.constant(np.arange(F), np.int64), axis=1)
    apart, flat = (graph.constant(shape, np.int64) for shape in ((0, F, 1), (0, F * D)))  # 0: all rows
    lower, inverse, low, high = (
        graph.constant(np.reshape(values, (F, layer.bins)), to.dtype) for values in layer.tables()
    )
    parts = do("Mul", do("Sub", do("Reshape", columns, apart), lower), inverse)
    p = do("Transpose", do("Min", do("Max", parts, low), high), perm=[1, 0, 2])
    w, c, V = (to.weights[f"{name}.{part}"] for part in ("w", "c", "V"))
    linear = do("Mul", do("Reshape", columns, apart), graph.constant(w.reshape(F, D), to.dtype))
    linear = do("Add", linear, graph.constant(c.reshape(F, D), to.dtype))
    bent = do("MatMul", p, graph.constant(V.reshape(F, layer.bins, D), to.dtype))
    e = do("Reshape", do("Add", linear, do("Transpose", bent, perm=[1, 0, 2])), flat)
    rest = graph.constant(np.arange(F, width), np.int64)
    return do("Concat", e, do("Gather", x, rest, axis=1), axis=1)


WRITERS: dict[type[Layer], Callable[..., str]] = {
    Dense: _dense,
    Dropout: lambda to, layer, name, x, width: x,
    LayerNorm: _layer_norm,
    BatchNorm: _batch_norm,
    Residual: _residual,
    Stack: _stack,
    Average: _average,
    Scale: lambda to, layer, name, x, width: to.graph.node("Mul", x, to.weight(f"{name}.gain")),
    Softmax: lambda to, layer, name, x, width: to.graph.node("Softmax", x, axis=1),
    LogSoftmax: lambda to, layer, name, x, width: to.graph.node("LogSoftmax", x, axis=1),
    Embedding: _embedding,
    PeriodicEmbedding: _periodic,
    PiecewiseLinearEmbedding: _piecewise_linear,
    NTKDense: _dense,
    ParametricActivation: _parametric,
    CosineEmbedding: _cosines,
}
