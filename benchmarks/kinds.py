"""The kinds of training step that `scripts/benchmark.py --kinds` measures, as data.

One kind is the base: 3 hidden layers of 64 with ReLU, softmax cross-entropy, Adam, float32, batches of 128.
Every other kind differs from it in what its name says. A test fails if an activation, a loss, a layer, an
optimizer, one of its settings or a number type of the package has no kind.

Why so small a network: the matrix products of a large one take so long that nothing else shows.
Why several minibatches: a user's loop passes other arrays at every step.
"""

import math
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul
from typing import Any

BATCHES = 4  # minibatches that the steps use in turn
LOSS_SCALE = 2.0**12  # of float16 in the other libraries; at ours, 2**16, a gradient in float16 overflows
QUIET, BUSY = "step", "busy-step"  # a group's kind: alone, or beside another program that computes


def hidden(activation="relu", width=64):
    return ("Dense", width, activation)


def output(width=10, activation="identity"):
    return ("Dense", width, activation)


@dataclass(frozen=True)
class Kind:
    """One kind of training step.

    Attributes:
        layers: ("Dense", width, activation), ("NTKDense", width, activation), ("Dropout", rate),
            ("Embedding", levels, widths), ("ParametricActivation", activation),
            ("PeriodicEmbedding", columns), ("CosineEmbedding", columns), ("PiecewiseLinearEmbedding", edges),
            (name, layers) for a layer of HOLDERS, or (name,). The layers of "Average" are "Stack"s.
        loss, optimizer: their names in ffnn_gpu.
        options: settings of the optimizer besides the learning rate.
        B: rows of a minibatch.
        precision: number type; 16-bit types compute with float32 weights.
    """

    name: str
    layers: tuple = (hidden(), hidden(), hidden(), output())
    loss: str = "softmax_cross_entropy"
    optimizer: str = "adam"
    options: dict = field(default_factory=dict)
    B: int = 128
    n_in: int = 64
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 1
    lr: float = 1e-7
    data: None = None
    kind: str = QUIET

    @property
    def title(self):
        return f"step {self.name}"

    @property
    def random(self):
        """Return whether the losses depend on random numbers, which every library draws in its own way."""
        return any(layer[0] == "Dropout" for layer in flat(self.layers))


# the parameters of layers for tables, in their order
TABLE_LAYERS = {
    "Scale": ("gain",), "NTKDense": ("W", "b"), "ParametricActivation": ("alpha",),
    "PeriodicEmbedding": ("w", "b", "A", "c"), "CosineEmbedding": ("w", "b", "gain", "bias"),
    "PiecewiseLinearEmbedding": ("w", "c", "V"),
}  # fmt: skip
HOLDERS = "Residual", "Stack", "Average"  # layers that hold layers


def flat(layers):
    """Return the layers with those inside others."""
    return [found for layer in layers for found in (layer, *(flat(layer[1]) if layer[0] in HOLDERS else ()))]


def from_json(found):
    """Return the Kind that `dataclasses.asdict` and JSON made a dict of lists."""
    return Kind(**found | {"layers": _tuples(found["layers"])})


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _activation(name):
    return Kind(name, (hidden(name), hidden(name), hidden(name), output()))


def _layer(name, *layer):
    """Put the layer after the first and the second hidden layer."""
    return Kind(name, (hidden(), layer, hidden(), layer, hidden(), output()))


TABLES = ("Embedding", (400, 400, 400), (16, 16, 16))
BLOCK = ("Residual", (hidden(), hidden("identity")))
MEMBERS = ("Average", (("Stack", (hidden(), hidden(), output())),) * 4)
COLUMNS, WIDTH, FREQUENCIES = 16, 16, 16  # that are embedded, and our defaults
EDGES = (tuple(k / 4 - 2 for k in range(17)),) * COLUMNS
ACTIVATIONS = (
    "identity", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "mish", "softplus", "softsign",
    "tanh", "sigmoid", "hard_sigmoid", "hard_tanh",
)  # fmt: skip
LOSSES = (
    "mean_squared_error", "mean_absolute_error", "huber", "poisson", "binary_cross_entropy_with_logits",
    "hinge",
)  # fmt: skip
MUON = {"adam_lr": 1e-7, "output_layer": True, "decay_schedule": "cosine"}  # 1 outside fit
KINDS = {
    kind.name: kind
    for kind in (
        Kind("base"),
        *map(_activation, ACTIVATIONS),
        *(Kind(name, loss=name) for name in LOSSES),
        Kind("binary_cross_entropy", (*[hidden()] * 3, output(10, "sigmoid")), "binary_cross_entropy"),
        Kind("cross_entropy", (*[hidden()] * 3, output(), ("Softmax",)), "cross_entropy"),
        Kind("LogSoftmax", (*[hidden()] * 3, output(), ("LogSoftmax",))),
        _layer("LayerNorm", "LayerNorm"),
        _layer("BatchNorm", "BatchNorm"),
        _layer("Dropout", "Dropout", 0.2),
        Kind("Residual", (hidden(), BLOCK, output())),
        Kind("Average", (MEMBERS,)),
        Kind(
            "RealMLP",
            (
                ("PeriodicEmbedding", COLUMNS),
                ("Scale",),
                *(("NTKDense", 64, "identity"), ("ParametricActivation", "mish")) * 3,
                ("NTKDense", 10, "identity"),
            ),
        ),
        Kind("CosineEmbedding", (("CosineEmbedding", COLUMNS), *[hidden()] * 3, output())),
        Kind("PiecewiseLinearEmbedding", (("PiecewiseLinearEmbedding", EDGES), *[hidden()] * 3, output())),
        Kind("Embedding", (TABLES, *[hidden()] * 3, output())),
        Kind("sgd", optimizer="sgd"),
        Kind("sgd with momentum", optimizer="sgd", options={"momentum": 0.9}),
        Kind("sgd with nesterov", optimizer="sgd", options={"momentum": 0.9, "nesterov": True}),
        *(Kind(name, optimizer=name) for name in ("rmsprop", "adagrad", "adamw", "nadam", "lion")),
        Kind("muon", optimizer="muon", options=MUON),
        Kind("clip_norm", options={"clip_norm": 1.0}),
        Kind("clip_value", options={"clip_value": 0.01}),
        Kind("l1 and l2", options={"l1": 1e-5, "l2": 1e-4}),
        Kind("ema", options={"ema": 0.999}),
        *(Kind(name, precision=name) for name in ("float64", "bfloat16", "float16")),
        Kind("one output", (*[hidden()] * 3, output(1)), "mean_squared_error"),
        *(Kind(f"batch {B}", B=B) for B in (1, 32, 4096)),
        *(
            Kind(f"{count} hidden layer{'s' * (count > 1)}", (*[hidden()] * count, output()))
            for count in (1, 8, 32)
        ),
    )
}  # 3 hidden layers are the base


def real(kind):
    """Return the name of the type of weights, targets and losses."""
    return "float64" if kind.precision == "float64" else "float32"


def weights(kind):
    """Return the initial values, equal in every process: a list with one entry per layer.

    [W, b] for Dense, [gain, bias] for LayerNorm and BatchNorm, [E] for Embedding, those of TABLE_LAYERS, such
    a list for a layer of HOLDERS, else []. W (I, O) is drawn from N(0, 2/I), and E, the tables one after the
    other, from N(0, 1).
    """
    import numpy as np

    rng = np.random.default_rng(2)
    return _weights(kind.layers, kind.n_in, rng, real(kind))[0]


def _weights(layers, I, rng, dtype):
    import numpy as np

    found: list[Any] = []
    for name, *arguments in layers:
        if name == "Dense":
            W = rng.standard_normal((I, arguments[0])) * math.sqrt(2 / I)
            I = arguments[0]
            found.append([W.astype(dtype), np.zeros(I, dtype)])
        elif name == "Embedding":
            levels, widths = arguments
            found.append([rng.standard_normal(sum(map(mul, levels, widths))).astype(dtype)])
            I += sum(widths) - len(widths)
        elif name in TABLE_LAYERS:
            values, I = _of_table(name, arguments, I, rng)
            found.append([value.astype(dtype) for value in values])
        elif name == "Average":
            members = [_weights([member], I, rng, dtype) for member in arguments[0]]
            found.append([values[0] for values, _ in members])
            I = members[0][1]
        elif name in HOLDERS:
            inside, I = _weights(arguments[0], I, rng, dtype)
            found.append(inside)
        else:
            found.append([np.ones(I, dtype), np.zeros(I, dtype)] if name.endswith("Norm") else [])
    return found, I


def _of_table(name, arguments, I, rng):
    """Return the initial values of a layer of TABLE_LAYERS, and its output width."""
    normal, F, K, D = rng.standard_normal, COLUMNS, FREQUENCIES, WIDTH
    if name == "NTKDense":
        return [normal((I, arguments[0])), normal(arguments[0])], arguments[0]
    if name in ("Scale", "ParametricActivation"):
        return [1 + 0.1 * normal(I)], I
    if name == "PeriodicEmbedding":
        shapes = (F, K), (F, K), (F * K, 3), (F, 3)
        return [0.2 * normal(shape) for shape in shapes], I + 3 * F
    if name == "CosineEmbedding":
        shapes = (F, D - 1), F * (D - 1), (F, D), F * D
    else:
        shapes = F * D, F * D, (F * (len(EDGES[0]) - 1), D)
    return [0.2 * normal(shape) for shape in shapes], I + F * (D - 1)


def tables(E, levels, widths):
    """Return the tables (levels, width) that E has one after the other."""
    sizes = list(map(mul, levels, widths))
    ends = zip(accumulate(sizes), sizes, levels, strict=True)
    return [E[end - size : end].reshape(n, -1) for end, size, n in ends]


def minibatches(kind):
    """Return [(x, y), …], equal in every process: x (B, n_in) from N(0, 1), y class indices or (B, O).

    The last columns of x are codes if the first layer is an Embedding.
    """
    import numpy as np

    rng, O = (
        np.random.default_rng(1),
        next(layer[1] for layer in flat(kind.layers)[::-1] if layer[0].endswith("Dense")),
    )

    def targets():
        if "entropy" in kind.loss and "binary" not in kind.loss:
            return rng.integers(0, O, kind.B)
        if kind.loss == "poisson":
            return rng.poisson(2.0, (kind.B, O)).astype(real(kind))
        if "binary" in kind.loss or kind.loss == "hinge":
            bits = rng.integers(0, 2, (kind.B, O)).astype(real(kind))
            return 2 * bits - 1 if kind.loss == "hinge" else bits
        return rng.standard_normal((kind.B, O)).astype(real(kind))

    def rows():
        x = rng.standard_normal((kind.B, kind.n_in)).astype(real(kind))
        if kind.layers[0][0] == "Embedding":
            levels = kind.layers[0][1]
            x[:, -len(levels) :] = rng.integers(0, levels, (kind.B, len(levels)))
        return x

    return [(rows(), targets()) for _ in range(BATCHES)]
