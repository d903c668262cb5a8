"""Cross-entropies over classes, on probabilities and on logits, against class indices or distributions.

Arithmetic: `backends/reference/losses.py`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ffnn_gpu.arrays.precision import master
from ffnn_gpu.backends.reference.backend import Array, Backend
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.losses.targets import class_indices, distributions


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """L = −(1/B) Σ_b Σ_c q_bc log p_bc on probabilities p, for one-hot or soft targets q (B, C) or class indices (B,).

    Less accurate than `softmax_cross_entropy` on logits: a probability that has rounded to 0 is taken as 10⁻¹².
    """

    counts_rows: ClassVar[bool] = True

    def value_and_gradient(
        self, backend: Backend, z: Array, y: Array, dz: Array | None, sample_weight: Array | None
    ) -> Array:
        return backend.cross_entropy(z, y, sample_weight, dz, smallest=1e-12)

    def targets(self, y: Any, O: int, dtype: Any) -> np.ndarray:
        y = np.asarray(y)
        return np.eye(O, dtype=dtype)[class_indices(y, O)] if y.ndim == 1 else distributions(y, O, dtype)

    def device_targets(self, backend: Backend, y: Any, O: int, dtype: Any) -> Any:
        return backend.one_hot(y, O, dtype) if y.ndim == 1 else super().device_targets(backend, y, O, dtype)

    def decide(self, z: np.ndarray) -> np.ndarray:
        return z.argmax(axis=1)


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """Mean cross-entropy of softmax(z) against class indices y (B,) or target distributions y (B, C).

        L = −(1/B) Σ_b log softmax(z_b)[y_b]          dz = (softmax(z) − onehot(y)) / B

    Args:
        label_smoothing: ε; the target becomes (1 − ε) q + ε/C.
        class_weight: C positive numbers v; row b counts with v[y_b], and the mean is taken over Σ v[y_b].

    Reference: Bishop, Pattern Recognition and Machine Learning (2006), eq. 4.108-4.109.
    """

    counts_rows: ClassVar[bool] = True
    label_smoothing: float = 0.0
    class_weight: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigurationError(
                f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing!r}"
            )
        if self.class_weight is not None:
            object.__setattr__(self, "class_weight", tuple(float(v) for v in self.class_weight))
            if not all(0 <= v < float("inf") for v in self.class_weight):
                raise ConfigurationError(
                    f"class weights must be finite and at least 0, not {self.class_weight}"
                )

    def value_and_gradient(
        self, backend: Backend, z: Array, y: Array, dz: Array | None, sample_weight: Array | None
    ) -> Array:
        v = self._class_weight(backend, master(z.dtype))
        return backend.softmax_cross_entropy(z, y, sample_weight, v, self.label_smoothing, dz)

    def total_weight(self, backend: Backend, y: Any, sample_weight: Any) -> Any:
        if self.class_weight is None or y.ndim == 2:
            return super().total_weight(backend, y, sample_weight)
        return backend.total_class_weight(y, self._class_weight(backend, np.float64), sample_weight)

    def _class_weight(self, backend: Backend, dtype: Any) -> Any:
        return None if self.class_weight is None else backend.constant(self.class_weight, dtype)

    def targets(self, y: Any, O: int, dtype: Any) -> np.ndarray:
        if self.class_weight is not None and len(self.class_weight) != O:
            raise ShapeError(
                f"class_weight has {len(self.class_weight)} numbers; the network has {O} outputs"
            )
        y = np.asarray(y)
        return class_indices(y, O) if y.ndim == 1 else distributions(y, O, dtype)

    def device_targets(self, backend: Backend, y: Any, O: int, dtype: Any) -> Any:
        return backend.asarray(y, np.int32) if y.ndim == 1 else super().device_targets(backend, y, O, dtype)

    def decide(self, z: np.ndarray) -> np.ndarray:
        return z.argmax(axis=1)
