"""The CPU: the reference on NumPy, with the overrides that were measured faster.

Why each override (2 cores, NumPy 2.4, microseconds, reference → here):

- column_sum (1024, 512): 154 → 20 as a product with ones. Its relative error, 4e-7, is a float32 product's.
  One product over 2·10⁶ equal rows errs by 0.2 %, so many rows are summed in blocks.
- the update rules (Adam, 10 million parameters): 65,000 → 26,000 in blocks that stay in the cache.
- gemm (32, 8) (8, 32): 1.1 → 0.7 by np.dot, which is no generalized ufunc. affine tests for 16-bit types once
  and leaves the silencing of underflows to the network's pass.
- activate (1024, 512) for relu and tanh: 249 → 197 and 245 → 191 without a temporary; identity does nothing.
- embedding_backward of 256 rows, 3 columns of 400 categories: 1640 → 190 by bincount, not a product.
- map_columns of 256 rows, 50 columns of 16 waves, to 3 numbers: 1010 → 70 by products; its
  adjoint: 930 → 160.
- softmax_cross_entropy of class indices (128, 10): 70 → 40 without one-hot rows. Of up to 64 classes, the
  columns are reduced together: float64, (200, 10): 40 → 22, (112, 3): 27 → 16.
- take: NumPy gathers straight into `out` if no index can be out of range.

Why no override standardizes rows: for 256 rows of 784 bytes the reference takes 290 µs, blocks that stay in
the cache took 310 to 370 µs, and compiled code 326 µs (gathering 256 rows of float32: 146 µs). An epoch of
scripts/train_mnist.py takes equally long from bytes and from float32.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import underflow_is_zero, wide
from ffnn_gpu.arrays.rows import BLOCK_ELEMENTS
from ffnn_gpu.backends.reference import updates
from ffnn_gpu.backends.reference.backend import ALIGNMENT, Backend
from ffnn_gpu.backends.reference.embedding import Sizes, gradient_of_numbers, tables
from ffnn_gpu.backends.reference.updates import Update

PAGE, LANE = 4096, 3 * ALIGNMENT  # bytes; five lanes fit
ROWS = 4096  # summed by column_sum in one product
# Elements of θ updated together: the vectors stay in the caches, and Python's overhead stays small.
BLOCK = 65536
FEW_CLASSES = 64  # rows of so few numbers are slow to reduce one by one


def blockwise(rule: Callable[..., None]) -> Callable[..., None]:
    """Return the same elementwise update, run over blocks of the flat vectors.

    `control` is read on the host.
    """

    @functools.wraps(rule)
    def run(self: Any, update: Update, *args: Any, **named: Any) -> None:
        n, factor, skipped = len(update.theta), 1.0, 0.0
        if update.control is not None:
            (factor, skipped), update = update.control.tolist(), update._replace(control=None)
        if skipped:
            return
        update = updates.at_own_rate(self, update)

        def block(argument: Any, start: int) -> Any:
            is_vector = isinstance(argument, np.ndarray) and len(argument) == n
            return argument[start : start + BLOCK] if is_vector else argument

        for start in range(0, n, BLOCK):
            piece = update.piece(start, start + BLOCK) if n > BLOCK else update
            if factor != 1:
                np.multiply(piece.grad, factor, out=piece.grad)
            blocks = {name: block(a, start) for name, a in named.items()}
            rule(self, piece, *(block(a, start) for a in args), **blocks)

    return run


def _few_classes(z: Array, y: Array, scale: Array, dz: Array | None) -> Any:
    """Return Σ_b scale_b log(Σ_c e^z_bc / e^z_by), with its gradient in dz."""
    p, rows = z.T.copy(), np.arange(len(z))
    p -= np.maximum.reduce(p, axis=0)
    at_y = p[y, rows]
    np.exp(p, out=p)
    total = np.add.reduce(p, axis=0)
    if dz is not None:
        p *= scale / total
        p[y, rows] -= scale
        dz[...] = p.T
    return np.sum((np.log(total) - at_y) * scale, dtype=np.float64).astype(z.dtype)


class NumpyBackend(Backend):
    """Every operation on host arrays."""

    name = "numpy"
    # Why not more: the system maps larger scratch again in each pass, and predicting 10,000 rows of 784
    # columns takes 20 % longer.
    rows_at_once = 1024

    def __init__(self) -> None:
        super().__init__(np)

    # ------------------------------------------------------------------ arrays

    def empty(self, shape: tuple[int, ...], dtype: Any, lane: int = 0) -> Array:
        """Return an uninitialized array on a 256-byte boundary, in each lane at another offset of a page.

        Why: a processor treats a load as dependent on an earlier store at the same page offset, and waits.
        The system places large arrays at the same offset of their first page, and Adam then takes three times
        as long.
        Reference: Intel, Optimization Reference Manual (2023), section on 4-KByte aliasing.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = np.empty(size + PAGE, np.uint8)
        start = (LANE * lane - memory.__array_interface__["data"][0]) % PAGE
        return memory[start : start + size].view(dtype).reshape(shape)

    def output(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return np.empty(shape, dtype)  # 2 µs faster than `empty`

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        plain = type(array) is np.ndarray and array.ndim > 0 and array.flags.c_contiguous
        return array if plain and (dtype is None or array.dtype == dtype) else super().asarray(array, dtype)

    def require_finite(self, array: Any, what: str, dtype: Any = None) -> None:
        plain = type(array) is np.ndarray and dtype is not None and array.dtype == dtype
        if not (plain and array.size <= BLOCK_ELEMENTS and np.isfinite(array).all()):
            super().require_finite(array, what, dtype)

    def take(self, rows: Any, index: Any, out: Any, mean: Any = None, scale: Any = None) -> Any:
        if rows.dtype != out.dtype or mean is not None:
            return super().take(rows, index, out, mean, scale)
        # Why clip: "raise" would buffer. No index is out of range.
        return np.take(rows, index, axis=0, out=out, mode="clip")

    # ------------------------------------------------------------------ products and activations

    def gemm(self, A: Array, B: Array, out: Array) -> Any:
        # Why not a factor of one number: np.dot skips the product if it is 0, and 0 · ∞ would be 0.
        if A.itemsize == 2 or A.size == 1 or B.size == 1:
            return super().gemm(A, B, out)
        try:
            return np.dot(A, B, out)
        except ValueError:  # `out` has another dtype, or gaps
            return super().gemm(A, B, out)

    def affine(
        self, x: Any, W: Any, b: Any | None, phi: Any, out: Any, s: Any | None = None, factor: float = 1.0
    ) -> Any:
        plain = x.itemsize > 2 and s is None and factor == 1
        if not plain or phi.name not in ("identity", "relu", "tanh"):
            return super().affine(x, W, b, phi, out, s, factor)
        self.gemm(x, W, out)
        if b is not None:
            np.add(out, b, out=out)
        return self.activate(out, phi)

    def column_sum(self, A: Array, out: Array) -> Any:
        """out = 1ᵀ A; over many rows the float64 sum of the products of blocks of rows"""
        if A.itemsize == 2:
            wide = NumpyBackend.column_sum(self, A.astype(np.float32), np.empty(out.shape, np.float32))
            return self.copy(wide, out=out)
        if len(A) <= ROWS:
            return self.gemm(self._ones(A.dtype)[: len(A)], A, out)
        whole, rest = A[: len(A) // ROWS * ROWS].reshape(-1, ROWS, A.shape[1]), A[len(A) // ROWS * ROWS :]
        sums = np.matmul(self._ones(A.dtype), whole).sum(axis=0, dtype=np.float64)
        out[...] = sums + np.dot(self._ones(A.dtype)[: len(rest)], rest)
        return out

    def _ones(self, dtype: np.dtype) -> Array:
        if dtype not in self._constants:
            self._constants[dtype] = np.ones(ROWS, dtype)
        return self._constants[dtype]

    def activate(self, s: Array, phi: Any) -> Any:
        if phi.name == "identity":
            return s
        if s.itemsize == 2 or phi.name not in ("relu", "tanh"):
            return super().activate(s, phi)
        if phi.name == "relu":
            return np.maximum(s, 0, out=s)
        return np.tanh(s, out=s)

    def activation_backward(self, da: Array, a: Array, phi: Any, s: Array | None = None) -> Any:
        if phi.name == "identity":
            return da
        if phi.name != "relu" or da.itemsize == 2:
            return super().activation_backward(da, a, phi, s)
        return np.multiply(da, a > 0, out=da)

    # ------------------------------------------------------------------ embedding, losses and update rules

    @underflow_is_zero
    def embedding_backward(self, da: Any, x: Any, levels: Sizes, widths: Sizes, dE: Any, dx: Any) -> Any:
        self.require_codes(x.astype(np.float64), levels)  # in 16 bits, floor is slow
        left = N = x.shape[1] - len(levels)
        for k, table in enumerate(tables(dE, levels, widths), N):
            n, d = table.shape
            element = x[:, k, None].astype(np.int64) * d + np.arange(d)
            sums = np.bincount(element.reshape(-1), da[:, left : left + d].astype(float).reshape(-1), n * d)
            table[...] = sums.reshape(n, d)
            left += d
        return gradient_of_numbers(da, N, dx)

    def map_columns(self, z: Any, maps: Any) -> Any:
        return np.matmul(z.transpose(1, 0, 2), maps).transpose(1, 0, 2)

    def map_columns_backward(self, de: Any, z: Any, maps: Any, dmaps: Any) -> Any:
        by_column, sums = de.transpose(1, 0, 2), wide(z.dtype)
        dmaps[...] = np.matmul(z.transpose(1, 2, 0).astype(sums), by_column.astype(sums))
        return np.matmul(by_column, maps.transpose(0, 2, 1)).transpose(1, 0, 2)

    @underflow_is_zero
    def softmax_cross_entropy(
        self, z: Array, y: Array, weight: Array, class_weight: Array, label_smoothing: float, dz: Array
    ) -> Any:
        if y.ndim == 2 or class_weight is not None or label_smoothing or np.iscomplexobj(z):
            return super().softmax_cross_entropy(z, y, weight, class_weight, label_smoothing, dz)
        if z.itemsize == 2:
            wide = None if dz is None else np.empty(z.shape, np.float32)
            value = NumpyBackend.softmax_cross_entropy(self, z.astype(np.float32), y, weight, None, 0.0, wide)
            if dz is not None:
                self.copy(wide, out=dz)
            return value
        B, rows = len(z), np.arange(len(z))
        scale = np.full(B, 1 / max(B, 1), z.dtype) if weight is None else self.normalized_weight(weight)
        if z.shape[1] <= FEW_CLASSES:
            return _few_classes(z, y, scale, dz)
        logp = z - z.max(axis=1, keepdims=True)
        logp -= np.log(np.exp(logp).sum(axis=1, keepdims=True))
        if dz is not None:
            np.exp(logp, out=dz)
            dz[rows, y] -= 1
            dz *= scale[:, None]
        return -np.sum(logp[rows, y] * scale, dtype=np.float64).astype(z.dtype)

    sgd, rmsprop, adagrad = blockwise(updates.sgd), blockwise(updates.rmsprop), blockwise(updates.adagrad)
    adam, nadam, lion = blockwise(updates.adam), blockwise(updates.nadam), blockwise(updates.lion)
