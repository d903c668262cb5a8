"""The contract of a loss: value and gradient together, in a frozen dataclass that is called as

    value = loss(backend, z, y, dz=None, sample_weight=None, checked=False)

with z (B, O) the network's output, left unchanged; y the targets; dz (B, O) overwritten with ∂L/∂z, or None
for the value alone; sample_weight (B,) with the meaning  L = Σᵢ wᵢ ℓᵢ / Σᵢ wᵢ, so a weight of 2 counts a row
twice in its minibatch (`mean_over_rows`: in an epoch). The value is a 0-d array on z's device; `float()` of
it waits for the device.

CrossEntropy and SoftmaxCrossEntropy are in this file too, so that a reader who follows one training step has
the contract and the usual loss in one place; losses that are elementwise formulas are in `standard.py`.

Targets are checked on the host, before anything moves to a device: an index out of range raises on NumPy and
wraps around silently on CuPy, and −1 is the last class on both. Why `checked`: `fit` checks and converts the
targets of a whole data set once. To check them again at every step would read their values, which on a GPU
waits for the device.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import require_finite
from ffnn_gpu.arrays.precision import is_floating, master, underflow_is_zero
from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError
from ffnn_gpu.nn.losses.members import checked_of_members, of_members


@dataclass(frozen=True)
class Loss:
    """A loss. To write one, derive from this class and define `value_and_gradient` and `targets`.

    counts_rows: True if an int that `total_weight` returns is always the number of rows; then the total needs
        no sum over the ranks. False in a class that defines `total_weight` alone.
    reads_values: True if `value_and_gradient` computes with values that another operation returned. A
        recording, which computes nothing, then calls it in each step, a pack calls it for each member, and a
        CUDA graph is a chain.
    """

    counts_rows: ClassVar[bool] = False
    reads_values: ClassVar[bool] = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "evaluate" in vars(cls):
            change = "defines evaluate, which is called value_and_gradient now; rename the method"
            raise ConfigurationError(f"{cls.__name__} {change}")
        # `counts_rows` of a base class does not hold for a `total_weight` that a subclass defines.
        definer = [
            next(k for k, base in enumerate(cls.__mro__) if name in vars(base))
            for name in ("total_weight", "counts_rows")
        ]
        if definer[0] < definer[1]:
            cls.counts_rows = False

    def __call__(
        self,
        backend: Backend,
        z: Array,
        y: Any,
        dz: Array | None = None,
        sample_weight: Any = None,
        checked: bool = False,
    ) -> Array:
        """Return the mean loss of outputs z (B, O) against targets y; write ∂L/∂z to dz.

        For the outputs z (R, B, O) of a pack, return the vector (R,) of the members' losses. y and
        sample_weight have the shape of one member, or an axis of R members in front of it.

        Args:
            checked: True if y and sample_weight lie on z's device, have passed `targets` and `weights`, and
                have z's dtype (float32 for 16 bits). They are then used as they are.

        Raises:
            ShapeError, DataError: z is not floating (B, O), or y, dz or sample_weight do not fit it.
        """
        if not checked:
            y, sample_weight = self.checked_arguments(backend, z, y, dz, sample_weight)
        if z.ndim == 3:
            return of_members(self, backend, z, y, dz, sample_weight)
        return self.value_and_gradient(backend, z, y, dz, sample_weight)

    def value_and_gradient(
        self, backend: Backend, z: Array, y: Array, dz: Array | None, sample_weight: Array | None
    ) -> Array:
        """Return the mean loss and write ∂L/∂z to dz, for arguments that have been checked."""
        raise NotImplementedError(f"{type(self).__name__} has no value_and_gradient")

    def targets(self, y: Any, O: int, dtype: Any) -> HostArray:
        """Return host targets, checked and converted for O outputs. Raises ShapeError or DataError."""
        raise NotImplementedError(f"{type(self).__name__} has no targets")

    def device_targets(self, backend: Backend, y: Array, O: int, dtype: Any) -> Array:
        """Convert targets on the device; check their shape and dtype only. Raises ShapeError."""
        require_columns(y, O)
        return backend.asarray(y, dtype)

    def total_weight(self, backend: Backend, y: Array, sample_weight: Array | None) -> Any:
        """Return the denominator of the mean: the number of rows, or the sum of weights as a 0-d array."""
        return len(y) if sample_weight is None else backend.total(sample_weight)

    def decide(self, z: HostArray) -> HostArray:
        """Turn outputs into decisions of the targets' form: class indices, 0/1, or the number itself."""
        return z

    def probabilities(self, z: HostArray) -> HostArray:
        """Turn outputs into probabilities, where this loss reads others; here they stay as they are."""
        return z

    @underflow_is_zero
    def checked_arguments(
        self, backend: Backend, z: Array, y: Any, dz: Array | None, sample_weight: Any
    ) -> tuple[Array, Array | None]:
        """Return y and sample_weight on z's device, checked and converted. Raises ShapeError or DataError."""
        if z.ndim == 3:
            return checked_of_members(self, backend, z, y, dz, sample_weight)
        if z.ndim != 2:
            raise ShapeError(f"z has shape {z.shape}; it must be a matrix (rows, outputs)")
        if z.dtype.kind not in "fc" and not is_floating(z.dtype):  # targets are rounded to z's dtype
            raise DataError(f"z has dtype {z.dtype}; it must be a floating-point type")
        if dz is not None and dz.shape != z.shape:
            raise ShapeError(f"dz has shape {dz.shape}; z has {z.shape}")
        real = z.dtype if z.dtype.itemsize > 2 else master(z.dtype)
        if backend.owns(y) and not isinstance(y, np.ndarray):  # on the GPU: reading values would wait for it
            y = self.device_targets(backend, y, z.shape[1], real)
        else:
            y = backend.asarray(self.targets(y, z.shape[1], real))
        if len(y) != len(z):
            raise ShapeError(f"z has {len(z)} rows and y has {len(y)}")
        if sample_weight is not None:
            sample_weight = backend.asarray(weights(backend.admit(sample_weight), len(z), real), real)
        return y, sample_weight


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """L = −(1/B) Σ_b Σ_c q_bc log p_bc        p (B, C) probabilities, q (B, C) one-hot or soft targets

    Class indices (B,) are accepted as targets too. Less accurate than `softmax_cross_entropy` on logits: a
    probability that has rounded to 0 is taken as 10⁻¹².
    """

    counts_rows: ClassVar[bool] = True

    def value_and_gradient(
        self, backend: Backend, z: Array, y: Array, dz: Array | None, sample_weight: Array | None
    ) -> Array:
        return backend.cross_entropy(z, y, sample_weight, dz, smallest=1e-12)

    def targets(self, y: Any, O: int, dtype: Any) -> HostArray:
        y = np.asarray(y)
        return np.eye(O, dtype=dtype)[class_indices(y, O)] if y.ndim == 1 else distributions(y, O, dtype)

    def device_targets(self, backend: Backend, y: Any, O: int, dtype: Any) -> Any:
        return backend.one_hot(y, O, dtype) if y.ndim == 1 else super().device_targets(backend, y, O, dtype)

    def decide(self, z: HostArray) -> HostArray:
        classes: HostArray = z.argmax(axis=1)
        return classes


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """Mean cross-entropy of softmax(z) against class indices y (B,) or target distributions y (B, C).

        L = −(1/B) Σ_b log softmax(z_b)[y_b]          dz = (softmax(z) − onehot(y)) / B

    Args:
        label_smoothing: ε; the target becomes (1 − ε) q + ε/C.
        class_weight: C numbers v ≥ 0; row b has the weight v[y_b], and the mean is taken over Σ v[y_b]. A row
            with v[y_b] = 0 counts nothing; PyTorch counts its smoothed target for the other classes.

    Reference: Bishop: Pattern Recognition and Machine Learning (2006), eq. 4.108-4.109.
    """

    counts_rows: ClassVar[bool] = True
    label_smoothing: float = 0.0
    class_weight: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            smoothing = self.label_smoothing
            raise ConfigurationError(f"label_smoothing must be at least 0 and below 1, not {smoothing!r}")
        if isinstance(self.class_weight, Mapping | str):
            raise ConfigurationError(
                f"class_weight of a loss must have one number per class, not {self.class_weight!r}; "
                "fit(…, class_weight=…) takes a mapping or 'balanced'"
            )
        if self.class_weight is not None:
            v = tuple(map(float, self.class_weight))
            object.__setattr__(self, "class_weight", v)
            if not all(0 <= entry < float("inf") for entry in v):
                raise ConfigurationError(f"class weights must be finite and at least 0, not {v}")

    def value_and_gradient(
        self, backend: Backend, z: Array, y: Array, dz: Array | None, sample_weight: Array | None
    ) -> Array:
        v = None if self.class_weight is None else self._class_weight(backend, master(z.dtype))
        return backend.softmax_cross_entropy(z, y, sample_weight, v, self.label_smoothing, dz)

    def total_weight(self, backend: Backend, y: Any, sample_weight: Any) -> Any:
        if self.class_weight is None or y.ndim == 2:
            return super().total_weight(backend, y, sample_weight)
        return backend.total_class_weight(y, self._class_weight(backend, np.float64), sample_weight)

    def _class_weight(self, backend: Backend, dtype: Any) -> Array:
        return backend.constant(self.class_weight or (), dtype)

    def targets(self, y: Any, O: int, dtype: Any) -> HostArray:
        v = self.class_weight
        if v is not None and len(v) != O:
            raise ShapeError(f"class_weight has {len(v)} numbers; the network has {O} outputs")
        y = np.asarray(y)
        return class_indices(y, O) if y.ndim == 1 else distributions(y, O, dtype)

    def device_targets(self, backend: Backend, y: Any, O: int, dtype: Any) -> Any:
        return backend.asarray(y, np.int32) if y.ndim == 1 else super().device_targets(backend, y, O, dtype)

    def decide(self, z: HostArray) -> HostArray:
        classes: HostArray = z.argmax(axis=1)
        return classes

    @np.errstate(under="ignore", invalid="ignore")
    def probabilities(self, z: HostArray) -> HostArray:
        """Return softmax(z) in float64; a row with +∞ becomes NaN, as its loss."""
        p = z.astype(np.float64)
        p = np.exp(p - p.max(axis=1, keepdims=True))
        normalized: HostArray = p / p.sum(axis=1, keepdims=True)
        return normalized


def require_columns(y: Array, O: int) -> None:
    """Raise ShapeError unless y is (B, O)."""
    if y.ndim != 2 or y.shape[1] != O:
        raise ShapeError(f"y has shape {y.shape}; the network has {O} outputs, so y must be (rows, {O})")


def class_indices(y: HostArray, C: int) -> HostArray:
    """Return y (B,) as int32 class indices in [0, C); integral floats are accepted. Raises DataError."""
    _require_no_strings(y, f"class indices 0 to {C - 1}")
    if y.dtype.kind not in "iuf":
        raise DataError(f"y has dtype {y.dtype}; class indices must be whole numbers from 0 to {C - 1}")
    if y.dtype.kind == "f":
        require_finite(np, y, "y")
        if (y != np.floor(y)).any():
            i = int(np.flatnonzero(y != np.floor(y))[0])
            raise DataError(f"y[{i}] is {y[i]}; class indices must be whole numbers from 0 to {C - 1}")
    if len(y) and (y.min() < 0 or y.max() >= C):
        i = int(np.flatnonzero((y < 0) | (y >= C))[0])
        raise DataError(f"y[{i}] is {y[i]}; the network has {C} outputs, so classes are 0 to {C - 1}")
    return y.astype(np.int32)


def distributions(y: HostArray, C: int, dtype: Any) -> HostArray:
    """Return y (B, C) as distributions: none negative, rows sum to 1. Raises ShapeError or DataError."""
    y = real_numbers(y)
    if y.ndim != 2 or y.shape[1] != C:
        raise ShapeError(
            f"y has shape {y.shape}; the network has {C} outputs, so targets are (rows,) or (rows, {C})"
        )
    require_finite(np, y, "y")
    if (y < 0).any():
        raise DataError(f"row {int(np.argwhere(y < 0)[0][0])} of y holds a negative probability")
    sums = y.sum(axis=1, dtype=np.float64)
    wrong = np.flatnonzero(abs(sums - 1) > 1e-3 if y.dtype.itemsize < 4 else abs(sums - 1) > 1e-5)
    if len(wrong):
        raise DataError(f"row {wrong[0]} of y sums to {sums[wrong[0]]:.6g}; a target distribution sums to 1")
    return y.astype(dtype)


def weights(w: Any, rows: int, dtype: Any) -> Any:
    """Return w as (rows,) weights: none negative, all finite in `dtype`. Raises ShapeError or DataError."""
    if w.shape != (rows,):
        raise ShapeError(f"sample_weight has shape {w.shape}; there are {rows} rows, so it must be ({rows},)")
    if isinstance(w, np.ndarray):
        if w.dtype.kind not in "iufb":
            raise DataError(f"sample_weight has dtype {w.dtype}; weights are real numbers")
        require_finite(np, w, "sample_weight", dtype)
        if (w < 0).any():
            i = int(np.flatnonzero(w < 0)[0])
            raise DataError(f"sample_weight[{i}] is {w[i]}; weights are at least 0")
    return w


def real_numbers(y: HostArray) -> HostArray:
    """Return y. Raises DataError unless its dtype is real."""
    _require_no_strings(y)
    if y.dtype.kind not in "iufb":
        raise DataError(f"y has dtype {y.dtype}; targets are real numbers")
    return y


def _require_no_strings(y: HostArray, wanted: str = "numbers") -> None:
    first = y.flat[0] if y.size else None
    if isinstance(first, (str, bytes)):
        raise DataError(
            f"y holds strings such as {str(first)!r}; fit and this loss take {wanted}. "
            "Encode class labels first: classes, y = numpy.unique(y, return_inverse=True). "
            "Strings as labels are what estimators such as MLPClassifier take"
        )
