"""The specification: every operation the library needs, each as its formula for any array module `xp`.

Why one class: layers, losses and optimizers call only these methods. A device is one subclass that overrides
the operations which a measurement shows faster. An override keeps the name and the signature, and the tests
compare it with the formula here. Operations with a literature of their own (softmax, losses, normalization,
update rules) are functions in files beside this one; the end of `Backend` lists them.

Conventions: rows are samples. `out` arrays are written, never replaced. An argument named `da` may be
overwritten. Sums over rows are accumulated in float64, because a float32 column sum over 2·10⁶ rows is wrong
by percents. `in_float32` defines each formula for arrays of a 16-bit type, and names the arguments it writes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array as Array
from ffnn_gpu.arrays.boundary import host_array, require_finite
from ffnn_gpu.arrays.precision import floating, in_float32, is_16_bit, underflow_is_zero, wide
from ffnn_gpu.backends.reference import column_maps, losses, normalization, per_column, step_control, updates
from ffnn_gpu.backends.reference import embedding as embeddings
from ffnn_gpu.backends.reference import muon as muons
from ffnn_gpu.backends.reference import periodic as periodics
from ffnn_gpu.backends.reference import piecewise_linear as piecewise
from ffnn_gpu.backends.reference import softmax as softmaxes
from ffnn_gpu.backends.reference.members import Pack
from ffnn_gpu.backends.reference.philox import dropout_bits, threshold
from ffnn_gpu.errors import BackendMismatchError, ConfigurationError

ALIGNMENT = 256  # bytes; required of a pointer by vectorized loads, tensor cores and cublasLt


class Backend:
    """Operations on arrays of one device, written for the array module `xp`."""

    name = "reference"
    reason = "made directly"  # why this backend was chosen; set by get_backend
    dtypes: tuple[str, ...] = ("float32", "float64", "float16", "bfloat16")
    rows_at_once = 4096  # per pass of a prediction: enough to fill the device, few enough for its memory
    runs_at_once = 1  # the number of training runs at a time that are faster than one after the other
    records_passes = (
        True  # run_forward costs more than a pass the first time: only for a workspace that stays
    )
    steps_between_reads = 1  # the number of losses that may wait on the device before one is read

    def __init__(self, xp: Any = np) -> None:
        self.xp = xp
        self._constants: dict[Any, Array] = {}

    def __repr__(self) -> str:
        return f"<{self.name} backend>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    # ------------------------------------------------------------------ arrays

    def dtype(self, name: Any) -> np.dtype:
        """Return the floating type called `name`.

        Raises ConfigurationError if this backend cannot compute in it.
        """
        key = str(getattr(name, "__name__", name))
        if key not in self.dtypes:
            raise ConfigurationError(
                f"dtype {key!r} is not supported by the {self.name} backend; it computes in "
                f"{', '.join(self.dtypes)}"
            )
        return floating(key)

    def empty(self, shape: tuple[int, ...], dtype: Any, lane: int = 0) -> Array:
        """Return an uninitialized array.

        `lane`: give different numbers to vectors that one operation uses together.
        """
        return self.xp.empty(shape, dtype)

    def output(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an uninitialized array for the caller, without alignment."""
        return self.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any, lane: int = 0) -> Array:
        """Return an array of zeros, otherwise as `empty`."""
        out = self.empty(shape, dtype, lane)
        out[...] = 0
        return out

    def owns(self, array: Any) -> bool:
        """Return whether `array` is on this backend's device."""
        return isinstance(array, self.xp.ndarray)

    def require_own(self, array: Any, what: str) -> None:
        """Raise BackendMismatchError unless `array` is on this backend's device."""
        if not self.owns(array):
            raise BackendMismatchError(
                f"{what} is a {type(array).__module__}.{type(array).__name__}, but this network computes on "
                f"the {self.name} backend; move it once with backend.asarray(...), or call fit or predict, "
                "which do"
            )

    @underflow_is_zero
    def asarray(self, array: Any, dtype: Any = None) -> Array:
        """Return `array` (host, device or DLPack) C-contiguous on this device, copied only if necessary."""
        return self.xp.ascontiguousarray(self.xp.asarray(array), dtype=dtype)

    def admit(self, array: Any) -> Any:
        """Return a caller's array as an array of this device or of the host, uncopied. Raises DataError."""
        return array if self.owns(array) else host_array(array)

    def require_finite(self, array: Array, what: str, dtype: Any = None) -> None:
        """Raise DataError unless `array` (device or host) is finite in `dtype`. It names the first index."""
        require_finite(self.xp if self.owns(array) else np, array, what, dtype)

    def all_finite(self, array: Array) -> bool:
        """Return whether every value is finite. Waits for the device."""
        return bool(self.to_host(self.xp.isfinite(array).all()))

    def constant(self, values: tuple[float, ...], dtype: Any) -> Array:
        """Return `values` as a read-only vector of this device.

        It is moved once: a step must not copy from the host.
        """
        key = values, np.dtype(dtype)
        if key not in self._constants:
            self._constants[key] = self.asarray(np.array(values), dtype)
        return self._constants[key]

    def to_host(self, array: Array) -> np.ndarray:
        """Return `array` as a NumPy array. Waits for the device."""
        return np.asarray(array)

    def may_wait(self) -> bool:
        """Return whether a value may be read on the host now: not while a step is captured."""
        return True

    def synchronize(self) -> None:
        """Wait until the device has finished all work submitted so far."""

    def memory(self) -> tuple[int, int] | None:
        """Return (free, total) bytes of the device; None if the device is the host's memory."""
        return None

    def alone(self) -> "Backend":
        """Return a backend for one of several training runs at the same time: this one.

        A CPU with compiled operations returns one that computes on one thread.
        """
        return self

    # ------------------------------------------------------------------ packs

    def pack(self, R: int) -> Pack:
        """Return these operations for arrays of R members."""
        return Pack(self, R)

    def member(self, r: int) -> "Backend":
        """Return the operations with which member r of a pack computes: these."""
        return self

    def as_vector(self, values: list[Array]) -> Array:
        """Return numbers of this device, one for each member, as a vector."""
        out = self.output((len(values),), values[0].dtype)
        for place, value in enumerate(values):
            self.write(out, place, value)
        return out

    # ------------------------------------------------------------------ steps

    def capture(
        self, step: Callable[..., Any], operations_only: bool = False, repeats: bool = False
    ) -> Callable[..., Any]:
        """Return a callable equal to `step`: here `step` itself, on a GPU one graph per set of arguments.

        A graph freezes Python numbers and all addresses. Whatever changes between calls must lie in device
        memory. The next call overwrites the array that a call returned.

        operations_only: True if the step reads and writes arrays by operations of this backend alone. Then
            operations that are independent of each other may run at the same time.
        repeats: True if the first argument only says how often the step repeats itself. Then a graph for any
            number of times may be made as soon as the step has run once.
        """
        return step

    def run_step(self, code: Callable[..., Any], *args: Any) -> Any:
        """Return code(*args). A CPU with llvmlite records the call and replays the recording.

        args: the arguments of train_step, with None for those that the code does not need.
        """
        return code(*args)

    def run_forward(self, code: Callable[..., Any], network: Any, x: Any, ws: Any) -> Any:
        """Return code(network, x, ws), the network's output. A CPU with llvmlite records predictions."""
        return code(network, x, ws)

    def steps_per_launch(self, rows: int) -> int:
        """Return the number of training steps, each on `rows` rows, that one captured call should do."""
        return 1

    def write(self, vector: Array, place: int, value: Any) -> None:
        """vector[place] = value, from the host."""
        vector[place] = value

    @underflow_is_zero
    def add_scaled(self, total: Array, x: Array, factor: Any) -> None:
        """total ← total + factor x"""
        total += (factor * x).astype(total.dtype, copy=False)

    @underflow_is_zero
    def scale(self, x: Array, factor: Any) -> None:
        """x ← factor x"""
        x *= factor

    @underflow_is_zero
    def scaled(self, x: Array, factor: Array, out: Array) -> Array:
        """out = factor x        factor (1,), float64 on the device"""
        out[...] = factor * x
        return out

    @in_float32("x")
    def clip(self, x: Array, limit: float) -> None:
        """x ← min(max(x, −limit), limit)"""
        self.xp.clip(x, -limit, limit, out=x)

    @underflow_is_zero
    def take(self, rows: Array, index: Array, out: Array, mean: Array = None, scale: Array = None) -> Array:
        """out_r = rows[index_r], or (rows[index_r] − mean) / scale in float64, cast to out's dtype.

        To one of 16 bits by way of float32.

        Args:
            mean, scale: (d,), float64 on the device, for rows (N, d); None for rows as they are.
        """
        taken = self.xp.take(rows, index, axis=0)
        if mean is not None:
            taken = taken.astype(np.float64)  # a copy
            taken -= mean
            taken /= scale
        out[...] = taken.astype(np.float32) if is_16_bit(out.dtype) else taken
        return out

    def copy(self, array: Array, out: Array) -> Array:
        """out = array"""
        if getattr(array, "itemsize", 0) <= out.itemsize:
            out[...] = array
        else:
            with np.errstate(under="ignore"):  # costs as much as a small copy
                out[...] = array
        return out

    def duplicate(self, array: Array) -> Array:
        """Return a new array equal to this one."""
        return self.copy(array, out=self.empty(array.shape, array.dtype))

    def add(self, x: Array, y: Array, out: Array) -> Array:
        """out = x + y"""
        return self.xp.add(x, y, out=out)

    # ------------------------------------------------------------------ products

    @in_float32("out")
    def gemm(self, A: Array, B: Array, out: Array) -> Array:
        """out = A B"""
        return self.xp.matmul(A, B, out=out)

    def parts_of_sum(self, K: int) -> list[tuple[int, int]]:
        """Return the ranges of k in which products A[i, k] B[k, j] are added one by one, as far as is known.

        A program that adds them in the same parts rounds as this backend does.
        """
        return [(0, K)]

    @in_float32("out")
    def column_sum(self, A: Array, out: Array) -> Array:
        """out = Σ_rows A        A (B, O), out (O,)"""
        out[...] = self.xp.sum(A, axis=0, dtype=wide(A.dtype))
        return out

    @underflow_is_zero
    @in_float32("out", "s")
    def affine(
        self,
        x: Array,
        W: Array,
        b: Array | None,
        phi: Any,
        out: Array,
        s: Array | None = None,
        factor: float = 1.0,
    ) -> Array:
        """out = φ(factor x W + b)        x (B, I), W (I, O), b (O,) or None, out (B, O)

        s: (B, O), receives the pre-activation factor x W + b if φ′ needs it; None otherwise.
        """
        self.gemm(x, W, out=out)
        if factor != 1:
            out *= factor
        if b is not None:
            out += b
        if s is not None:
            s[...] = out
        return self.activate(out, phi)

    @in_float32("s")
    def activate(self, s: Array, phi: Any) -> Array:
        """s ← φ(s)"""
        s[...] = phi.value(self.xp, s)
        return s

    @underflow_is_zero
    @in_float32("da")
    def activation_backward(self, da: Array, a: Array, phi: Any, s: Array | None = None) -> Array:
        """da ← da ⊙ φ′, where φ′ is a function of a, or of the pre-activation s if `phi.needs_input`"""
        da *= phi.derivative(self.xp, s if phi.needs_input else a)
        return da

    def affine_gradients(self, x: Array, delta: Array, dW: Array, db: Array | None) -> None:
        """dW = xᵀ δ        db = Σ_B δ"""
        self.gemm(x.T, delta, out=dW)
        if db is not None:
            self.column_sum(delta, out=db)

    # ------------------------------------------------------------------ dropout

    @in_float32("out", of="out")
    def dropout_mask(
        self, rate: float, seed: int, step: Array, layer: int, row: int, out: Array, factor: Array = None
    ) -> Array:
        """out = 0 with probability p = `rate` factor, else 1/(1 − p)

        It is a pure function of (seed, step, layer, row, column).

        Args:
            step: (1,) int64 on the device, the number of updates of the parameters so far.
            row: the index of out's first row within the whole batch.
            factor: (1,) float64 on the device, between 0 and 1; None for 1.
        """
        bits = dropout_bits(self.xp, out.shape, seed, step, layer, row)
        if factor is None:
            out[...] = bits >= np.uint32(threshold(rate))
            out *= 1.0 / (1.0 - rate)
        else:
            p = rate * factor
            out[...] = bits >= self.xp.minimum(self.xp.rint(p * 2.0**32), 2.0**32 - 1).astype(np.uint32)
            out *= (1.0 / (1.0 - p)).astype(out.dtype)
        return out

    @in_float32("out")
    def dropout(self, x: Array, mask: Array, out: Array) -> Array:
        """out = x ⊙ mask; its own adjoint."""
        return self.xp.multiply(x, mask, out=out)

    def dropout_forward(
        self, x: Array, mask: Array, out: Array, rate: float, seed: int, step: Array, layer: int, row: int,
        factor: Array = None,
    ) -> Array:  # fmt: skip
        """out = x ⊙ m with the m of `dropout_mask`

        mask: memory for m, which a backend may leave as it is.
        """
        self.dropout_mask(rate, seed, step, layer, row, mask, factor)
        return self.dropout(x, mask, out)

    def dropout_backward(
        self, da: Array, mask: Array, rate: float, seed: int, step: Array, layer: int, row: int,
        factor: Array = None,
    ) -> Array:  # fmt: skip
        """da ← da ⊙ m with the arguments of `dropout_forward`, which came before"""
        return self.dropout(da, mask, out=da)

    # ------------------------------------------------------------------ operations in files beside this one

    require_codes = embeddings.require_codes
    embedding, embedding_backward = embeddings.embedding, embeddings.embedding_backward

    scale_columns, scale_columns_backward = per_column.scale_columns, per_column.scale_columns_backward

    parametric, parametric_backward = per_column.parametric, per_column.parametric_backward
    map_columns, map_columns_backward = column_maps.map_columns, column_maps.map_columns_backward
    periodic, periodic_backward = periodics.periodic, periodics.periodic_backward
    cosines, cosines_backward = periodics.cosines, periodics.cosines_backward
    piecewise_linear = piecewise.piecewise_linear
    piecewise_linear_backward = piecewise.piecewise_linear_backward

    softmax, softmax_backward = softmaxes.softmax, softmaxes.softmax_backward
    log_softmax, log_softmax_backward = softmaxes.log_softmax, softmaxes.log_softmax_backward
    softmax_jacobian = softmaxes.softmax_jacobian

    pointwise_loss, cross_entropy = losses.pointwise_loss, losses.cross_entropy
    softmax_cross_entropy, one_hot = losses.softmax_cross_entropy, losses.one_hot
    total, total_class_weight = losses.total, losses.total_class_weight
    normalized_weight = losses.normalized_weight

    standardize, standardize_backward = normalization.standardize, normalization.standardize_backward
    layer_norm, layer_norm_backward = normalization.layer_norm, normalization.layer_norm_backward
    batch_norm, batch_norm_backward = normalization.batch_norm, normalization.batch_norm_backward
    batch_norm_inference, batch_rows = normalization.batch_norm_inference, normalization.batch_rows
    running_statistics = normalization.running_statistics

    clip_by_value, squared_norm = step_control.clip_by_value, step_control.squared_norm
    gradient_factor = step_control.gradient_factor

    advance, advance_product = updates.advance, updates.advance_product
    sgd, rmsprop, adagrad, adam = updates.sgd, updates.rmsprop, updates.adagrad, updates.adam
    nadam, lion, own_rule, average = updates.nadam, updates.lion, updates.own_rule, updates.average
    muon, orthogonalized = muons.muon, muons.orthogonalized
    muon_direction, muon_step = muons.muon_direction, muons.muon_step
