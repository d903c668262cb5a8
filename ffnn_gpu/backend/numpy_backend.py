"""The CPU: the reference on NumPy, with the overrides that were measured faster.

Why each override (2 cores, NumPy 2.4, microseconds, reference → here):
- column_sum (1024, 512): 154 → 20 as a product with ones; its error, 4e-7 relative, is that of any float32 product.
- activate and activation_backward for relu and tanh: no temporaries, see `benchmarks/results/`.
- take: NumPy gathers straight into `out` if told that no index is out of range.
"""

from typing import Any

import numpy as np

from ffnn_gpu.backend.precision import underflow_is_zero
from ffnn_gpu.backend.reference import ALIGNMENT, Backend


class NumpyBackend(Backend):
    """Every operation on host arrays."""

    name = "numpy"

    def __init__(self) -> None:
        super().__init__(np)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An uninitialized array whose first element lies on a 256-byte boundary."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        memory = np.empty(size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        return memory[start : start + size].view(dtype).reshape(shape)

    def take(self, rows: Any, index: Any, out: Any) -> Any:
        if rows.dtype != out.dtype:
            return super().take(rows, index, out)
        return np.take(rows, index, axis=0, out=out, mode="clip")  # "raise" would buffer; the indices are our own

    def column_sum(self, A: Any, out: Any) -> Any:
        """out = 1ᵀ A"""
        return np.matmul(np.ones(len(A), A.dtype), A, out=out)

    def activate(self, s: Any, phi: Any) -> Any:
        if phi.name == "identity": return s
        if phi.name == "relu": return np.maximum(s, 0, out=s)
        if phi.name == "tanh": return np.tanh(s, out=s)
        return super().activate(s, phi)

    @underflow_is_zero
    def activation_backward(self, da: Any, a: Any, phi: Any, s: Any | None = None) -> Any:
        if phi.name == "identity": return da
        if phi.name == "relu": return np.multiply(da, a > 0, out=da)
        return super().activation_backward(da, a, phi, s)
