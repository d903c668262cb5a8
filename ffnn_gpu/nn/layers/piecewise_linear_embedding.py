"""Embedding of columns of numbers by piecewise linear functions."""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ffnn_gpu.arrays.precision import master
from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.backends.reference.piecewise_linear import Bins
from ffnn_gpu.checks import counted, is_number, require_positive_int
from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers.periodic_embedding import require_columns
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.workspace import Buffers

Edges = tuple[tuple[float, ...], ...]  # the ends of the bins of each column, ascending


@dataclass(frozen=True, repr=False)
class PiecewiseLinearEmbedding(Layer):
    """a = (e_1, …, e_F, x_{F+1}, …)      e_f = w_f x_f + c_f + p(x_f) V_f

    x (B, I)   a (B, F width + I − F)   w, c (F width,)   V (F T, width), 0 at the start

    p_t(x) is the part of bin t that lies below x, from 0 to 1; it goes on below the first bin and above the
    last one. So e_f is linear at the start, and V bends it at the ends of the bins. The first F columns of x
    are replaced; the others are passed on, so this layer may stand behind an Embedding.

    Args:
        edges: for each of the F columns two or more ascending ends of bins, as `quantile_edges` returns.
        width: numbers per column.

    Reference: Gorishniy, Rubachev, Babenko: On Embeddings for Numerical Features (2022), section 3.1; version
    B: Gorishniy, Kotelnikov, Babenko: TabM (2025), appendix.
    """

    edges: Edges
    width: int = 16

    def __post_init__(self) -> None:
        require_positive_int("width of PiecewiseLinearEmbedding", self.width)
        object.__setattr__(self, "edges", _checked(self.edges))

    def __repr__(self) -> str:
        bins = [len(column) - 1 for column in self.edges]
        inside = f"{counted(len(bins), 'column')} of {min(bins)} to {max(bins)} bins"
        return f"PiecewiseLinearEmbedding(<{inside}>, width={self.width})"

    @property
    def bins(self) -> int:
        """Return T, the largest number of bins of a column."""
        return max(len(column) - 1 for column in self.edges)

    def output_width(self, I: int) -> int:
        require_columns(self, len(self.edges), I)
        return len(self.edges) * (self.width - 1) + I

    def parameter_shapes(self, I: int) -> Shapes:
        F, D = len(self.edges), self.width
        return {"w": (F * D,), "c": (F * D,), "V": (F * self.bins, D)}

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, np.ndarray]:
        F, D = len(self.edges), self.width
        bound = 1 / math.sqrt(D)
        w, c = (rng.uniform(-bound, bound, F * D) for _ in range(2))
        return {"w": w, "c": c, "V": np.zeros((F * self.bins, D))}

    def flops(self, I: int) -> int:
        return len(self.edges) * (2 + 4 * self.width)  # a bin and its part; two products, three sums

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        buf.x = x  # backward encodes it again
        return backend.piecewise_linear(x, p.w, p.c, p.V, self._on(backend, x), out=buf.a)

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        gradients = {"dw": p.dw, "dc": p.dc, "dV": p.dV}
        bins = self._on(backend, buf.x)
        return backend.piecewise_linear_backward(da, buf.x, p.w, p.V, bins, **gradients, dx=buf.dx)

    def _on(self, backend: Backend, x: Array) -> Bins:
        """Return the bins in the memory of x."""
        shape, counts = (len(self.edges), self.bins), tuple(len(column) - 1 for column in self.edges)
        lower, inverse, low, high = (
            backend.constant(values, master(x.dtype)).reshape(shape) for values in self.tables()
        )
        return Bins(lower, inverse, low, high, backend.constant(counts, np.int64))

    def tables(self) -> tuple[tuple[float, ...], ...]:
        """Return lower, inverse, low and high (F T,), as Bins has them."""
        return _tables(self.edges)


def quantile_edges(x: Any, bins: int = 48) -> Edges:
    """Return for each column of x the different ones of its quantiles at 0, 1/bins, …, 1.

    x: (n, F) numbers of the training set on the host, as they enter the layer.

    Raises:
        DataError: a number is not finite, or a column has one value only.
    """
    require_positive_int("bins of quantile_edges", bins)
    columns = np.asarray(x, np.float64)
    if columns.ndim != 2 or not columns.size:
        raise ShapeError(f"x has shape {columns.shape}; it must be a matrix with rows and columns")
    found = []
    for k, column in enumerate(columns.T):
        if not np.isfinite(column).all():
            raise DataError(f"column {k} of x holds a number that is not finite; fill missing cells first")
        ends = np.unique(np.quantile(column, np.linspace(0, 1, bins + 1)))
        if len(ends) == 1:
            raise DataError(f"column {k} of x holds the value {ends[0]:g} only; remove it, it has no bins")
        found.append(tuple(map(float, ends)))
    return tuple(found)


def _checked(edges: Any) -> Edges:
    columns = tuple(edges) if isinstance(edges, Iterable) and not isinstance(edges, str) else ()
    if not columns or not all(isinstance(column, Iterable) for column in columns):
        raise ConfigurationError(
            "edges of PiecewiseLinearEmbedding must be a list of ascending numbers for each column, not "
            f"{edges!r}; quantile_edges(x) returns one"
        )
    for k, column in enumerate(columns := tuple(map(tuple, columns))):
        rising = all(map(is_number, column)) and all(a < b for a, b in pairwise(column))
        if len(column) < 2 or not rising or not all(map(math.isfinite, column)):
            raise ConfigurationError(
                f"edges of column {k} must be at least two finite ascending numbers, not {column!r}"
            )
    return tuple(tuple(map(float, column)) for column in columns)


@functools.lru_cache(64)
def _tables(edges: Edges) -> tuple[tuple[float, ...], ...]:
    F, T = len(edges), max(map(len, edges)) - 1
    lower, inverse, low, high = np.zeros((F, T)), np.zeros((F, T)), np.zeros((F, T)), np.ones((F, T))
    for k, column in enumerate(edges):
        n = len(column) - 1
        lower[k, :n], inverse[k, :n] = column[:-1], 1 / np.diff(column)
        low[k, 0], high[k, n - 1] = -math.inf, math.inf
    return tuple(tuple(each.ravel().tolist()) for each in (lower, inverse, low, high))
