"""The CPU: the reference on NumPy, with the overrides that were measured faster.

Why each override (2 cores, NumPy 2.4, microseconds, reference → here):
- column_sum (1024, 512): 154 → 20 as a product with ones; its error, 4e-7 relative, is that of any float32 product. One
  product over 2·10⁶ equal rows errs by 0.2 %, so many rows are summed in blocks.
- the update rules (Adam, 670,000 parameters): 6300 → 1900 in blocks that stay in the cache.
- activate (1024, 512) for relu and tanh: 249 → 197 and 245 → 191 without a temporary; identity has nothing to do.
- dropout_mask (256, 512): 810 → 130 by Numba.
- softmax_cross_entropy of class indices (128, 10): 70 → 40; the targets stay indices instead of one-hot rows.
- take: NumPy gathers straight into `out` if told that no index is out of range.

Why no override standardizes rows (256 of 784 bytes: 290; gathering as many float32: 146): pieces that stay in the cache took
310 to 370, Numba 326, and an epoch of scripts/train_mnist.py takes as long from bytes as from float32.
"""

import functools
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from ffnn_gpu.backend.philox import MASK, threshold
from ffnn_gpu.backend.precision import in_float32, underflow_is_zero
from ffnn_gpu.backend.reference import ALIGNMENT, Backend
from ffnn_gpu.backend.updates import Update, Updates

ROWS = 4096  # that column_sum adds up in one product
BLOCK = 16384  # elements of θ updated together: the vectors of a rule and its temporaries stay in the second-level cache


def blockwise(rule: Callable[..., None]) -> Callable[..., None]:
    """The same elementwise update, run over pieces of the flat vectors; on the host, `control` can simply be read."""

    @functools.wraps(rule)
    def run(self: Any, update: Update, *args: Any, **named: Any) -> None:
        n, factor, skipped = len(update.theta), 1.0, 0.0
        if update.control is not None:
            (factor, skipped), update = update.control.tolist(), update._replace(control=None)
        if skipped: return

        def cut(argument: Any, start: int) -> Any:
            return argument[start : start + BLOCK] if isinstance(argument, np.ndarray) and len(argument) == n else argument

        for start in range(0, n, BLOCK):
            piece = update.piece(start, start + BLOCK) if n > BLOCK else update
            if factor != 1: np.multiply(piece.grad, factor, out=piece.grad)
            rule(self, piece, *(cut(a, start) for a in args), **{name: cut(a, start) for name, a in named.items()})

    return run


class NumpyBackend(Backend):
    """Every operation on host arrays."""

    name = "numpy"

    def __init__(self, compiled: bool = True) -> None:
        """compiled: whether to use Numba where it is installed."""
        super().__init__(np)
        self.compiled = compiled and find_spec("numba") is not None

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An uninitialized array whose first element lies on a 256-byte boundary."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        memory = np.empty(size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        return memory[start : start + size].view(dtype).reshape(shape)

    sgd, rmsprop, adagrad = blockwise(Updates.sgd), blockwise(Updates.rmsprop), blockwise(Updates.adagrad)
    adam, nadam, lion = blockwise(Updates.adam), blockwise(Updates.nadam), blockwise(Updates.lion)

    def take(self, rows: Any, index: Any, out: Any, mean: Any | None = None, scale: Any | None = None) -> Any:
        if rows.dtype != out.dtype or mean is not None:
            return super().take(rows, index, out, mean, scale)
        return np.take(rows, index, axis=0, out=out, mode="clip")  # "raise" would buffer; the indices are our own

    @in_float32("out", of="out")
    def dropout_mask(self, rate: float, seed: int, step: Any, layer: int, row: int, out: Any) -> Any:
        if not self.compiled or np.iscomplexobj(out):
            return super().dropout_mask(rate, seed, step, layer, row, out)
        try:
            from ffnn_gpu.backend import compiled  # numba takes most of a second to import
        except (ImportError, RuntimeError):  # a Numba that does not fit this NumPy, or finds no place for its cache
            self.compiled = False
            return super().dropout_mask(rate, seed, step, layer, row, out)
        key = seed & MASK, (seed >> 32) & MASK
        compiled.dropout_mask(out, out.dtype.type(1.0 / (1.0 - rate)), threshold(rate), key, int(step[0]), layer, row)
        return out

    @underflow_is_zero
    @in_float32("dz")
    def softmax_cross_entropy(
        self, z: Any, y: Any, weight: Any | None, class_weight: Any | None, label_smoothing: float, dz: Any | None
    ) -> Any:
        if y.ndim == 2 or class_weight is not None or label_smoothing or np.iscomplexobj(z):
            return super().softmax_cross_entropy(z, y, weight, class_weight, label_smoothing, dz)
        B, rows = len(z), np.arange(len(z))
        scale = np.full(B, 1 / max(B, 1), z.dtype) if weight is None else self.normalized_weight(weight)
        logp = self.log_softmax(z, out=np.empty_like(z))
        if dz is not None:
            np.exp(logp, out=dz)
            dz[rows, y] -= 1
            dz *= scale[:, None]
        return -np.sum(logp[rows, y] * scale, dtype=np.float64).astype(z.dtype)

    @in_float32("out")
    def column_sum(self, A: Any, out: Any) -> Any:
        """out = 1ᵀ A, over many rows the sum in float64 of the products of blocks of them"""
        if len(A) <= ROWS: return np.matmul(np.ones(len(A), A.dtype), A, out=out)
        whole, rest = A[: len(A) // ROWS * ROWS].reshape(-1, ROWS, A.shape[1]), A[len(A) // ROWS * ROWS :]
        sums = np.matmul(np.ones(ROWS, A.dtype), whole).sum(axis=0, dtype=np.float64)
        out[...] = sums + np.matmul(np.ones(len(rest), A.dtype), rest)
        return out

    @in_float32("s")
    def activate(self, s: Any, phi: Any) -> Any:
        if phi.name == "identity": return s
        if phi.name == "relu": return np.maximum(s, 0, out=s)
        if phi.name == "tanh": return np.tanh(s, out=s)
        return super().activate(s, phi)

    @underflow_is_zero
    @in_float32("da")
    def activation_backward(self, da: Any, a: Any, phi: Any, s: Any | None = None) -> Any:
        if phi.name == "identity": return da
        return super().activation_backward(da, a, phi, s)
