"""The losses of losses.py as kernels: value and gradient in one launch, two with weights."""

from typing import Any

from numpy import int32

from ffnn_gpu.arrays.precision import master
from ffnn_gpu.backends.cuda.kernels import KernelBackend

POINTWISE = ("mean_squared_error", "mean_absolute_error", "huber", "poisson", "binary_cross_entropy",
             "binary_cross_entropy_with_logits", "hinge")  # in the order of `enum Pointwise`  # fmt: skip


class FusedLosses(KernelBackend):
    """Losses by kernels where they fit, else by their formulas."""

    def pointwise_loss(self, kind: Any, z: Any, y: Any, weight: Any | None, dz: Any | None) -> Any:
        S = self._suffix(z, wide=(y, weight), dz=dz)
        name = getattr(kind, "name", None)
        if S is None or name not in POINTWISE:
            return super().pointwise_loss(kind, z, y, weight, dz)
        (B, O), real, total = z.shape, master(z.dtype), self._total_weight(S, weight)
        value, scalars = (
            self.empty((), real),
            (int32(B), int32(O), int32(POINTWISE.index(name)), real.type(kind.alpha)),
        )
        self.kernels.total(f"pointwise_loss_{S}", z.size, z, y, weight, total, dz, value, *scalars)
        return value

    def cross_entropy(self, p: Any, q: Any, weight: Any | None, dp: Any | None, smallest: float) -> Any:
        S = self._suffix(p, wide=(q, weight), dz=dp)
        if S is None:
            return super().cross_entropy(p, q, weight, dp, smallest)
        (B, C), real, total = p.shape, master(p.dtype), self._total_weight(S, weight)
        value, scalars = self.empty((), real), (int32(B), int32(C), real.type(smallest))
        self.kernels.total(f"cross_entropy_{S}", p.size, p, q, weight, total, dp, value, *scalars)
        return value

    def softmax_cross_entropy(
        self,
        z: Any,
        y: Any,
        weight: Any | None,
        class_weight: Any | None,
        label_smoothing: float,
        dz: Any | None,
    ) -> Any:
        hard = y.ndim == 1
        S = self._suffix(z, wide=(weight, class_weight, None if hard else y), dz=dz)
        if S is None or (hard and not y.flags.c_contiguous):
            return super().softmax_cross_entropy(z, y, weight, class_weight, label_smoothing, dz)
        (B, C), real = z.shape, master(z.dtype)
        label, q = (y.astype(int32, copy=False), None) if hard else (None, y)
        total = self._total_weight(S, weight, label, class_weight if hard else None)
        value, scalars = self.empty((), real), (int32(B), int32(C), real.type(label_smoothing))
        self.kernels.total(
            f"softmax_cross_entropy_{S}",
            B,
            z,
            label,
            q,
            weight,
            class_weight,
            total,
            dz,
            value,
            *scalars,
            rows=True,
        )
        return value

    def _total_weight(
        self, S: str, weight: Any | None, label: Any = None, class_weight: Any = None
    ) -> Any | None:
        """Σ w_b v_{y_b} as one float64 of scratch; None where every weight is 1."""
        if weight is None and class_weight is None:
            return None
        B, total = len(label if weight is None else weight), self.kernels.scratch("total", 1)
        C = 0 if class_weight is None else len(class_weight)
        self.kernels.total(f"weight_total_{S}", B, weight, label, class_weight, int32(B), int32(C), total)
        return total
