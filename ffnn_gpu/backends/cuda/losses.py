"""The losses of reference/losses.py as kernels: value and gradient in one launch, two with weights.

See operations.py.
"""

from typing import TYPE_CHECKING, Any

from numpy import int32

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import master
from ffnn_gpu.backends.cuda import formulas
from ffnn_gpu.backends.cuda.kernels import NoKernelError

if TYPE_CHECKING:
    from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend


def pointwise_loss(
    self: "CupyBackend", kind: Any, z: Array, y: Array, weight: Array | None, dz: Array | None
) -> Array:
    S = self.suffix(z, wide=(y, weight), dz=dz)
    kernel = formulas.pointwise_loss(S, kind)
    (B, O), total = z.shape, total_weight(self, S, weight)
    value = self.empty((), master(z.dtype))
    self.kernels.total(kernel, z.size, z, y, weight, total, dz, value, int32(B), int32(O))
    return value


def cross_entropy(
    self: "CupyBackend", p: Array, q: Array, weight: Array | None, dp: Array | None, smallest: float
) -> Array:
    S = self.suffix(p, wide=(q, weight), dz=dp)
    (B, C), real, total = p.shape, master(p.dtype), total_weight(self, S, weight)
    value, scalars = self.empty((), real), (int32(B), int32(C), real.type(smallest))
    self.kernels.total(f"cross_entropy_{S}", p.size, p, q, weight, total, dp, value, *scalars)
    return value


def softmax_cross_entropy(
    self: "CupyBackend", z: Array, y: Array, weight: Any, class_weight: Any, label_smoothing: float, dz: Any
) -> Array:
    hard = y.ndim == 1
    S = self.suffix(z, wide=(weight, class_weight, None if hard else y), dz=dz)
    if hard and not y.flags.c_contiguous:
        raise NoKernelError
    (B, C), real = z.shape, master(z.dtype)
    label, q = (y.astype(int32, copy=False), None) if hard else (None, y)
    total = total_weight(self, S, weight, label, class_weight if hard else None)
    value, scalars = self.empty((), real), (int32(B), int32(C), real.type(label_smoothing))
    arrays = z, label, q, weight, class_weight, total, dz, value
    self.kernels.total(f"softmax_cross_entropy_{S}", B, *arrays, *scalars, rows=True)
    return value


def total_weight(
    self: "CupyBackend", S: str, weight: Array | None, label: Array = None, class_weight: Array = None
) -> Array | None:
    """Return Σ w_b v_{y_b} as one float64 of scratch; None if every weight is 1."""
    if weight is None and class_weight is None:
        return None
    B, total = len(label if weight is None else weight), self.kernels.scratch("total", 1)
    C = 0 if class_weight is None else len(class_weight)
    self.kernels.total(f"weight_total_{S}", B, weight, label, class_weight, int32(B), int32(C), total)
    return total
