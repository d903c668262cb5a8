"""Embedding of category codes, and its adjoint. Methods of `Backend`.

x (B, N + K) has N columns of numbers, then K columns of codes. Code x_bk is a whole number in [0, n_k), in
x's type. E is one vector with the tables E_k (n_k, d_k), row by row, one after the other.

Codes on the host are checked in each call. On a device that would wait for it: there a value that is no code
makes its d_k outputs NaN, and has no gradient. `Network` checks the codes of a data set once.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import in_float32, wide
from ffnn_gpu.errors import DataError

if TYPE_CHECKING:
    from ffnn_gpu.backends.reference.backend import Backend

Sizes = tuple[int, ...]  # n_1, …, n_K, or d_1, …, d_K


def tables(E: Array, levels: Sizes, widths: Sizes) -> Iterator[Array]:
    """Yield views of E_1, …, E_K."""
    start = 0
    for n, d in zip(levels, widths, strict=True):
        yield E[start : start + n * d].reshape(n, d)
        start += n * d


def require_codes(self: "Backend", x: Array, levels: Sizes, what: str = "x", first: int = 0) -> None:
    """Raise DataError unless the last K columns of x hold codes. Waits for the device.

    first: the index of x's first row, for the message.
    """
    xp, K = self.xp, len(levels)
    codes = xp.real(x[:, -K:])
    wrong = ~_are_codes(xp, codes, self.constant(levels, codes.dtype)).reshape(-1)
    if bool(wrong.any()):
        b, k = divmod(int(xp.flatnonzero(wrong)[0]), K)
        row, column, value, n = first + b, x.shape[1] - K + k, float(codes[b, k]), levels[k]
        raise DataError(
            f"{what} holds {value:g} at row {row}, column {column}; the codes of this column's {n} "
            f"categories are the whole numbers 0 to {n - 1}"
        )


def _are_codes(xp: Any, codes: Array, n: Any) -> Array:
    return (codes >= 0) & (codes < n) & (codes == xp.floor(codes))


@in_float32("out")
def embedding(self: "Backend", x: Array, E: Array, levels: Sizes, widths: Sizes, out: Array) -> Array:
    """out_b = (x_b1, …, x_bN, E_1[x_b,N+1], …, E_K[x_b,N+K])        out (B, N + Σ d_k)"""
    xp, N = self.xp, x.shape[1] - len(levels)
    if isinstance(x, np.ndarray):
        self.require_codes(x, levels)
    out[:, :N], left = x[:, :N], N
    for k, table in enumerate(tables(E, levels, widths), N):
        codes, (n, d) = xp.real(x[:, k]), table.shape
        known = _are_codes(xp, codes, n)
        rows = xp.take(table, xp.where(known, codes, 0).astype(np.int64), axis=0)
        out[:, left : left + d] = xp.where(known[:, None], rows, np.nan)
        left += d
    return out


@in_float32("dE", "dx")
def embedding_backward(
    self: "Backend", da: Array, x: Array, levels: Sizes, widths: Sizes, dE: Array, dx: Array | None
) -> Array | None:
    """dE_k[j] = Σ_b [x_bk = j] da_b in the columns of E_k        dx = da for numbers, 0 for codes; or None"""
    left = N = x.shape[1] - len(levels)
    for k, table in enumerate(tables(dE, levels, widths), N):
        n, d = table.shape
        hot = self.one_hot(x[:, k], n, wide(da.dtype))
        table[...] = self.xp.matmul(hot.T, da[:, left : left + d].astype(hot.dtype))
        left += d
    return gradient_of_numbers(da, N, dx)


def gradient_of_numbers(da: Array, N: int, dx: Array | None) -> Array | None:
    """dx = da for N columns of numbers, 0 for the codes; return dx"""
    if dx is not None:
        dx[:, :N] = da[:, :N]
        dx[:, N:] = 0
    return dx
