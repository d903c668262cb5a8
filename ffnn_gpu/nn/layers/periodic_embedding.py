"""Embedding of columns of numbers by waves and a linear map."""

import math
from dataclasses import dataclass

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.checks import require_positive, require_positive_int
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.rates import Rate
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class PeriodicEmbedding(Layer):
    """a = (e_1, …, e_F, x)      e_f = cos(2π w_f x_f + b_f) A_f + c_f

    x (B, I)   a (B, F (width − 1) + I)   w, b (F, K)   c (F, width − 1)
    A (F K, width − 1): the rows of A_1, then those of A_2, …

    The first F columns of x are embedded: `width` numbers each, one of which is x_f itself. The others are
    passed on. To embed numbers and categories, write [Embedding(…), PeriodicEmbedding(F), …]: an Embedding
    leaves the columns of numbers in front.

    Args:
        columns: F.
        frequencies: K.
        width: numbers per column, at least 2.
        spread: w ~ N(0, spread²). Larger values suit targets that change fast with x.
        lr_factor, decay_factor: factors on the optimizer's settings for all four; see `Rate`.

    Reference: PBLD in Holzmüller, Grinsztajn, Steinwart: Better by Default (2024), section 3; Gorishniy,
    Rubachev, Babenko: On Embeddings for Numerical Features (2022), eq. 2.
    """

    columns: int
    frequencies: int = 16
    width: int = 4
    spread: float = 0.1
    lr_factor: float = 1.0
    decay_factor: float | None = None

    def __post_init__(self) -> None:
        for name in ("columns", "frequencies", "width"):
            require_positive_int(f"{name} of PeriodicEmbedding", getattr(self, name))
        if self.width == 1:
            raise ConfigurationError("width of PeriodicEmbedding must be at least 2: one number is x itself")
        require_positive("spread of PeriodicEmbedding", self.spread)

    def output_width(self, I: int) -> int:
        require_columns(self, self.columns, I)
        return self.columns * (self.width - 1) + I

    def parameter_shapes(self, I: int) -> Shapes:
        F, K, D = self.columns, self.frequencies, self.width - 1
        return {"w": (F, K), "b": (F, K), "A": (F * K, D), "c": (F, D)}

    def rates(self) -> dict[str, Rate]:
        return dict.fromkeys(("w", "b", "A", "c"), Rate(self.lr_factor, self.decay_factor))

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, np.ndarray]:
        F, K, D = self.columns, self.frequencies, self.width - 1
        bound = 1 / math.sqrt(K)
        return {
            "w": rng.normal(0, self.spread, (F, K)),
            "b": rng.uniform(-math.pi, math.pi, (F, K)),
            "A": rng.uniform(-bound, bound, (F * K, D)),
            "c": rng.uniform(-bound, bound, (F, D)),
        }

    def flops(self, I: int) -> int:
        return self.columns * self.frequencies * (4 + 2 * (self.width - 1))  # product, sum, cosine, its range

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        buf.x = x  # backward computes the waves again
        return backend.periodic(x, p.w, p.b, p.A, p.c, out=buf.a)

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        gradients = {"dw": p.dw, "db": p.db, "dA": p.dA, "dc": p.dc}
        return backend.periodic_backward(da, buf.x, p.w, p.b, p.A, **gradients, dx=buf.dx)


def require_columns(layer: Layer, F: int, I: int) -> None:
    """Raise ShapeError unless x (B, I) has F columns to embed."""
    if F > I:
        raise ShapeError(f"x has {I} columns; {layer!r} embeds {F}")
