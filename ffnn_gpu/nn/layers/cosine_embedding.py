"""Embedding of columns of numbers by waves that are silent at the start."""

from dataclasses import dataclass

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.checks import require_positive, require_positive_int
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers.periodic_embedding import require_columns
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.workspace import Buffers

FARTHEST = 3.0  # standard deviations of a frequency


@dataclass(frozen=True, repr=False)
class CosineEmbedding(Layer):
    """a = (e_1, …, e_F, x_{F+1}, …)      e_f = gain_f ⊙ (x_f, cos 2π(w_f x_f + b_f)) + bias_f

    x (B, I)   a (B, F width + I − F)   gain (F, width)   bias (F width,)
    w (F, width − 1)   b (F (width − 1),)

    The first F columns of x are replaced by `width` numbers each. The others are passed on, so this layer may
    stand behind an Embedding. gain, bias and b are 0 at the start: the embedding grows as it is learnt.

    Args:
        columns: F.
        width: numbers per column, at least 2.
        spread: w ~ N(0, spread²), cut at 3 spread. Larger values suit targets that change fast with x.

    Reference: the numeric embeddings of TabPack (2026).
    """

    columns: int
    width: int = 16
    spread: float = 1.0

    def __post_init__(self) -> None:
        for name in ("columns", "width"):
            require_positive_int(f"{name} of CosineEmbedding", getattr(self, name))
        if self.width == 1:
            raise ConfigurationError("width of CosineEmbedding must be at least 2: one number is x itself")
        require_positive("spread of CosineEmbedding", self.spread)

    def output_width(self, I: int) -> int:
        require_columns(self, self.columns, I)
        return self.columns * (self.width - 1) + I

    def parameter_shapes(self, I: int) -> Shapes:
        F, D = self.columns, self.width
        return {"w": (F, D - 1), "b": (F * (D - 1),), "gain": (F, D), "bias": (F * D,)}

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, np.ndarray]:
        zeros = {name: np.zeros(shape) for name, shape in self.parameter_shapes(I).items()}
        w = rng.standard_normal(zeros["w"].shape)
        while (far := abs(w) > FARTHEST).any():
            w[far] = rng.standard_normal(np.count_nonzero(far))
        return zeros | {"w": self.spread * w}

    def flops(self, I: int) -> int:
        return self.columns * (4 * (self.width - 1) + 2 * self.width)  # product, sum, its range, cosine

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        buf.x = x  # backward computes the waves again
        return backend.cosines(x, p.w, p.b, p.gain, p.bias, out=buf.a)

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        gradients = {"dw": p.dw, "db": p.db, "dgain": p.dgain, "dbias": p.dbias}
        return backend.cosines_backward(da, buf.x, p.w, p.b, p.gain, **gradients, dx=buf.dx)
