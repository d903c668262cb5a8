"""Softmax and losses as commands."""

from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops import formulas
from ffnn_gpu.backends.cpu.recording.arguments import NotRecordedError, checked
from ffnn_gpu.backends.cpu.recording.commands import Commands, loop_of, require_numbers

INDICES = np.dtype(np.int64), np.dtype(np.int32)


class LossOperations(Commands):
    """Operations of softmax layers and losses, which compute exponentials of rows."""

    @checked(z="BC", out="BC!")
    def softmax(self, z: Array, out: Array) -> Array:
        self._record("softmax", self._exponentials(z), z, out, *z.shape)
        return out

    @checked(da="BC!", a="BC")
    def softmax_backward(self, da: Array, a: Array) -> Array:
        self._record("softmax_backward", self.partition.by_rows(da), da, a, *da.shape)
        return da

    @checked(z="BC", out="BC!")
    def log_softmax(self, z: Array, out: Array) -> Array:
        self._record("log_softmax", self._exponentials(z), z, out, *z.shape)
        return out

    @checked(da="BC!", a="BC")
    def log_softmax_backward(self, da: Array, a: Array) -> Array:
        self._record("log_softmax_backward", self._exponentials(da), da, a, *da.shape)
        return da

    # ------------------------------------------------------------------ losses

    @checked(apart=True, z="BC", weight="B?", class_weight="C?", dz="BC!?")
    def softmax_cross_entropy(
        self, z: Array, y: Array, weight: Array, class_weight: Array, label_smoothing: float, dz: Array
    ) -> Array:
        if dz is not None and np.may_share_memory(y, dz):
            raise NotRecordedError("the gradient would overwrite the targets")
        hard = y.ndim == 1 and y.dtype.kind in "iu"
        y = self._class_indices(y) if hard else y
        if y.shape != z.shape[:1] if hard else (y.shape, y.dtype) != (z.shape, z.dtype):
            raise NotRecordedError("there is no command for targets of this type or shape")
        if hard and class_weight is not None:
            scale = self._weight_of_classes(y, class_weight, weight, bool(label_smoothing))
        else:
            scale = self._normalized(weight)
        targets = z, y, y.itemsize if hard else 0
        results = scale, self._gradient(dz, z), *z.shape, self.losses, self.failed
        if hard and not label_smoothing:
            self._record("softmax_cross_entropy", self._exponentials(z), *targets, *results)
        else:
            factors = class_weight, float(label_smoothing)
            self._record("soft_cross_entropy", self._exponentials(z), *targets, *factors, *results)
        return self._loss()

    @checked(apart=True, p="BC", q="BC", weight="B?", dp="BC!?")
    def cross_entropy(self, p: Array, q: Array, weight: Array, dp: Array, smallest: float) -> Array:
        scale, dp = self._normalized(weight), self._gradient(dp, p)
        operands = p, q, scale, float(smallest), dp, *p.shape, self.losses
        self._record("cross_entropy", self._exponentials(p), *operands)
        return self._loss()

    @checked(z="BO", y="BO", weight="B?", dz="BO!?")
    def pointwise_loss(self, kind: Any, z: Array, y: Array, weight: Array, dz: Array) -> Array:
        require_numbers(z)
        (B, O), axes = z.shape, None if weight is None else "rows" if z.shape[1] > 1 else "both"
        loop = loop_of(formulas.pointwise_loss, self.dtype, kind.value, kind.derivative, axes)
        if loop is None:
            self._fallback("pointwise_loss", kind, z, y, weight, dz)
            return self._loss()
        rows, columns = (B, O) if axes == "rows" else (1, B * O)
        share, w = 1 / (max(B, 1) * O if weight is None else O), self._normalized(weight)
        self._apply(loop, rows, columns, self.losses, z=z, y=y, dz=self._gradient(dz, z), share=share, w=w)
        return self._loss()

    def _class_indices(self, y: Array) -> Array:
        """Return the class indices in a type that commands read."""
        if y.dtype not in INDICES:
            raise NotRecordedError(f"there is no command for class indices in {y.dtype}")
        return y

    def _loss(self) -> Any:
        """Return what holds the loss, or the loss."""
        return self.losses

    def _gradient(self, dz: Array, z: Array) -> Array:
        return self._scratch(z.size, z.dtype).reshape(z.shape) if dz is None else dz

    def _exponentials(self, z: Array) -> int:
        """Return the chunks of a loop over rows that computes e^z."""
        require_numbers(z)
        return self.partition.by_rows(z, 16)

    def _weight_of_classes(self, y: Array, v: Array, weight: Array, smoothed: bool) -> Array:
        out = self._scratch(len(y), self.dtype)
        sizes = len(y), len(v), self.failed
        self._record("weight_of_classes", 1, y, y.itemsize, v, weight, smoothed, out, *sizes)
        return out

    def _normalized(self, weight: Array) -> Array:
        if weight is None:
            return None
        out = self._scratch(len(weight), self.dtype)
        self._record("normalized_weight", 1, weight, out, len(weight))
        return out
