"""Embedding of categorical columns."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import mul
from typing import Any, cast

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.backends.reference.embedding import tables
from ffnn_gpu.checks import require_positive_int
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.initializers import Initializer, Normal
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.workspace import Buffers

WIDEST = 16  # of the default widths
STANDARD = Normal(1.0)


@dataclass(frozen=True, repr=False)
class Embedding(Layer):
    """a_b = (x_b1, …, x_bN, E_1[x_b,N+1], …, E_K[x_b,N+K])        x (B, N + K)   a (B, N + Σ d_k)

    The last K columns of x are codes of categories: whole numbers in [0, n_k), in x's type. So this is the
    first layer of a network. dE_k[j] = Σ_b [x_bk = j] da_b. Codes are not differentiable; their dx is 0.

    E is one vector with the tables E_k (n_k, d_k), row by row. Weight decay and penalties leave it alone:
    they would shrink the row of a rare category at every step, with or without a gradient.

    Args:
        levels: n_1, …, n_K.
        widths: d_1, …, d_K, or one number for all; min(16, round(1.6 n^0.56)) if None.
        weights: initializer of each E_k. The default N(0, 1) gives outputs the variance of standardized
            numbers.

    Reference: Guo, Berkhahn: Entity Embeddings of Categorical Variables (2016). Widths: `emb_sz_rule` of
    fastai, with a smaller maximum. No decay: the feature tokenizer in Gorishniy et al.: Revisiting Deep
    Learning Models for Tabular Data (2021).
    """

    levels: tuple[int, ...]
    widths: tuple[int, ...] | int | None = None
    weights: Initializer = STANDARD

    def __post_init__(self) -> None:
        levels = _sizes("levels", self.levels)
        widths: Any = self.widths
        if widths is None:
            widths = [min(WIDEST, round(1.6 * n**0.56)) for n in levels]
        sizes = _sizes("widths", widths if isinstance(widths, Iterable) else [widths] * len(levels))
        if len(sizes) != len(levels):
            raise ConfigurationError(f"Embedding has {len(levels)} levels and {len(sizes)} widths")
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "widths", sizes)

    @property
    def code_levels(self) -> tuple[int, ...]:
        return self.levels

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return d_1, …, d_K; `widths` is nothing else after `__post_init__`."""
        return cast(tuple[int, ...], self.widths)

    def output_width(self, I: int) -> int:
        if len(self.levels) > I:
            raise ShapeError(f"x has {I} columns; {self!r} reads {len(self.levels)} columns of codes")
        return I - len(self.levels) + sum(self.sizes)

    def parameter_shapes(self, I: int) -> Shapes:
        return {"E": (sum(map(mul, self.levels, self.sizes)),)}

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, np.ndarray]:
        shapes = zip(self.levels, self.sizes, strict=True)
        return {"E": np.concatenate([self.weights(rng, shape).ravel() for shape in shapes])}

    def tables(self, E: Array) -> list[Array]:
        """Return views of E_1, …, E_K, each (n_k, d_k)."""
        return [*tables(E, self.levels, self.sizes)]

    def flops(self, I: int) -> int:
        return 0  # it copies

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        buf.x = x  # backward needs the codes
        return backend.embedding(x, p.E, self.levels, self.sizes, out=buf.a)

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        return backend.embedding_backward(da, buf.x, self.levels, self.sizes, dE=p.dE, dx=buf.dx)


def _sizes(name: str, values: Any) -> tuple[int, ...]:
    """Return at least one positive int. Raises ConfigurationError."""
    found = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else ()
    if not found:
        raise ConfigurationError(
            f"{name} of Embedding must be a list of numbers, one a column, not {values!r}"
        )
    for value in found:
        require_positive_int(f"each of the {name} of Embedding", value)
    return tuple(map(int, found))
