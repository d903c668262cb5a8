"""The layers of a network as lines of code, and the functions that they call.

A 16-bit network computes in float32 there. Dropout is the identity.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.export.exported import writer_of
from ffnn_gpu.export.to_numpy import formulas
from ffnn_gpu.nn.activations import ACTIVATIONS, Activation
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

LONGEST = 96  # letters of a line
FUNCTIONS = {
    "embedding": '''
def embedding(x, *tables):
    """Replace the codes in the last columns of x by rows of the tables."""
    numbers = x.shape[1] - len(tables)
    parts = [x[:, :numbers]]
    for codes, table in zip(x[:, numbers:].T, tables):
        if ((codes < 0) | (codes >= len(table)) | (codes != np.floor(codes))).any():
            raise ValueError(f"a code is none of the whole numbers 0 to {len(table) - 1}")
        parts.append(table[codes.astype(np.int64)])
    return np.hstack(parts)
''',
    "layer_norm": '''
def layer_norm(x, gain, bias, eps):
    """(x - mean) / sqrt(variance + eps) * gain + bias, with the statistics of each row."""
    centred = x - np.mean(x, axis=1, keepdims=True, dtype=np.float64)
    variance = np.mean(centred * centred, axis=1, keepdims=True)
    return (centred * (1 / np.sqrt(variance + eps))).astype(x.dtype) * gain + bias
''',
    "batch_norm": '''
def batch_norm(x, gain, bias, mean, variance, eps):
    """(x - mean) / sqrt(variance + eps) * gain + bias, with the statistics of the training."""
    return (x - mean) * (gain / np.sqrt(variance + eps)) + bias
''',
    "periodic": '''
def periodic(x, w, b, A, c):
    """Return cos(2 pi w x + b) A + c for each of the first columns, then all columns."""
    F, K = w.shape
    z = np.cos(x[:, :F, None] * (2 * np.pi * w) + b).transpose(1, 0, 2)
    e = np.matmul(z, A.reshape(F, K, -1)).transpose(1, 0, 2) + c
    return np.hstack([e.reshape(len(x), -1), x])
''',
    "cosines": '''
def cosines(x, w, b, gain, bias):
    """Return gain * (x, cos(2 pi (w x + b))) + bias for each of the first columns, then the other columns."""
    F, D = gain.shape
    z = np.cos(x[:, :F, None] * (2 * np.pi * w) + 2 * np.pi * b.reshape(w.shape))
    e = gain * np.concatenate([x[:, :F, None], z], axis=2) + bias.reshape(F, D)
    return np.hstack([e.reshape(len(x), -1), x[:, F:]])
''',
    "piecewise_linear": '''
def piecewise_linear(x, w, c, V, lower, inverse, low, high):
    """Return w x + c + p V for the first columns, p the parts of their bins below x; then the others."""
    F, T = lower.shape
    p = np.minimum(np.maximum((x[:, :F, None] - lower) * inverse, low), high)
    bent = np.matmul(p.transpose(1, 0, 2), V.reshape(F, T, -1)).transpose(1, 0, 2)
    e = x[:, :F, None] * w.reshape(F, -1) + c.reshape(F, -1) + bent
    return np.hstack([e.reshape(len(x), -1), x[:, F:]])
''',
    "softmax": '''
def softmax(z):
    """e^z / sum(e^z) in each row."""
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)
''',
    "log_softmax": '''
def log_softmax(z):
    """z - log(sum(e^z)) in each row."""
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))
''',
}


class Layers:
    """Collects the lines of a network, and the source of each function that they call.

    dtype: float32 or float64.

    Attributes:
        arrays: name → array that a line reads besides the weights.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.lines: list[str] = []
        self.functions: dict[str, str] = {}
        self.arrays: dict[str, HostArray] = {}

    def stack(self, layers: Sequence[Layer], prefix: str = "", x: str = "x") -> None:
        """Add the lines that apply layers to the variable x, one after the other.

        prefix: of the names of their weights.

        Raises ConfigurationError for an unknown layer, or an activation without a trace.
        """
        for k, layer in enumerate(layers):
            write = writer_of(layer, f"{prefix}{k}", WRITERS, "NumPy export knows")
            write(self, layer, f"{prefix}{k}", x)

    def add(self, x: str, value: str) -> None:
        """Add the line x = value."""
        self.lines.append(f"{x} = {value}")

    def call(self, name: str, x: str, *arguments: str) -> None:
        """Add the line x = name(x, …), and the source of a function of FUNCTIONS."""
        self.functions[name] = FUNCTIONS[name].strip("\n") + "\n"
        line = f"{x} = {name}({', '.join((x, *arguments))})"
        if len(line) > LONGEST:
            line = f"{x} = {name}(\n        " + ",\n        ".join((x, *arguments)) + "\n    )"
        self.lines.append(line)

    def activation(self, phi: Activation, layer: str) -> str:
        """Return the name of the function that computes an activation, whose source is added."""
        # no other function of the file is called like a built-in activation, or begins with "activation_"
        name = phi.name if phi.name in ACTIVATIONS else re.sub(r"\W", "_", f"activation_{phi.name}")
        what = f"the activation {phi!r} of layer {layer}"
        while True:
            found = formulas.functions(name, phi.value, self.dtype, what)
            if self.functions.get(name, found[name]) == found[name]:
                self.functions |= found
                return name
            name += "_"  # such as leaky_relu with another alpha


def weight(name: str) -> str:
    """Return the code that reads a weight."""
    return f'WEIGHTS["{name}"]'


def _dense(to: Layers, layer: Dense, name: str, x: str) -> None:
    s = f"np.dot({x}, {weight(name + '.W')})" + f" + {weight(name + '.b')}" * layer.bias
    _activated(to, layer, name, x, s)


def _ntk_dense(to: Layers, layer: NTKDense, name: str, x: str) -> None:
    W = weight(f"{name}.W")
    s = f"np.dot({x}, {W}) * (1 / math.sqrt(len({W})))" + f" + {weight(name + '.b')}" * layer.bias
    _activated(to, layer, name, x, s)


def _activated(to: Layers, layer: Dense, name: str, x: str, s: str) -> None:
    to.add(x, s if layer.phi.name == "identity" else f"{to.activation(layer.phi, name)}({s})")


def _parametric(to: Layers, layer: ParametricActivation, name: str, x: str) -> None:
    to.add(x, f"{x} + {weight(name + '.alpha')} * ({to.activation(layer.phi, name)}({x}) - {x})")


def _layer_norm(to: Layers, layer: LayerNorm, name: str, x: str) -> None:
    to.call("layer_norm", x, weight(f"{name}.gain"), weight(f"{name}.bias"), repr(layer.eps))


def _batch_norm(to: Layers, layer: BatchNorm, name: str, x: str) -> None:
    parts = ("gain", "bias", "running_mean", "running_variance")
    to.call("batch_norm", x, *(weight(f"{name}.{part}") for part in parts), repr(layer.eps))


def _residual(to: Layers, layer: Residual, name: str, x: str) -> None:
    inside = f"{x}_{name.rpartition('.')[2]}"
    to.add(inside, x)
    to.stack(layer.layers, f"{name}.layers.", inside)
    to.add(x, f"{x} + {inside}")


def _stack(to: Layers, layer: Stack, name: str, x: str) -> None:
    to.stack(layer.layers, f"{name}.layers.", x)


def _average(to: Layers, layer: Average, name: str, x: str) -> None:
    """Write x_k = x, the layers of a member, and mean_k += w x_k for each; the last line is x = mean_k."""
    k = name.rpartition(".")[2]
    inside, mean = f"{x}_{k}", f"mean_{x}_{k}"
    for r, (member, w) in enumerate(zip(layer.layers, layer.shares, strict=True)):
        to.add(inside, x)
        _stack(to, member, f"{name}.layers.{r}", inside)
        term = f"({inside} * np.float64({w!r})).astype({inside}.dtype)"
        to.add(mean, f"{mean} + {term}" if r else term)
    to.add(x, mean)


def _embedding(to: Layers, layer: Embedding, name: str, x: str) -> None:
    to.call("embedding", x, *(weight(f"{name}.E{k}") for k in range(len(layer.levels))))


def _periodic(to: Layers, layer: PeriodicEmbedding, name: str, x: str) -> None:
    to.call("periodic", x, *(weight(f"{name}.{part}") for part in "wbAc"))


def _cosines(to: Layers, layer: CosineEmbedding, name: str, x: str) -> None:
    to.call("cosines", x, *(weight(f"{name}.{part}") for part in ("w", "b", "gain", "bias")))


def _piecewise_linear(to: Layers, layer: PiecewiseLinearEmbedding, name: str, x: str) -> None:
    parts = ("w", "c", "V", "lower", "inverse", "low", "high")
    to.call("piecewise_linear", x, *(weight(f"{name}.{part}") for part in parts))
    shape = len(layer.edges), layer.bins
    for part, values in zip(parts[3:], layer.tables(), strict=True):
        to.arrays[f"{name}.{part}"] = np.array(values, to.dtype).reshape(shape)


WRITERS: dict[type[Layer], Callable[..., None]] = {
    Dense: _dense,
    Dropout: lambda to, layer, name, x: None,
    LayerNorm: _layer_norm,
    BatchNorm: _batch_norm,
    Residual: _residual,
    Stack: _stack,
    Average: _average,
    Scale: lambda to, layer, name, x: to.add(x, f"{x} * {weight(name + '.gain')}"),
    Softmax: lambda to, layer, name, x: to.call("softmax", x),
    LogSoftmax: lambda to, layer, name, x: to.call("log_softmax", x),
    Embedding: _embedding,
    PeriodicEmbedding: _periodic,
    PiecewiseLinearEmbedding: _piecewise_linear,
    NTKDense: _ntk_dense,
    ParametricActivation: _parametric,
    CosineEmbedding: _cosines,
}
