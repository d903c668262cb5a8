"""The CPU with Numba: NumpyBackend with compiled loops, and with large products on the thread pool.

docs/cpu_kernels.md has the measurements. Also, on the same machine, in microseconds: SGD of 670,000
parameters 200 → 57, ReLU's adjoint (128, 512) 17 → 6, column_sum (32, 32) 1.3 → 0.7.

NumpyBackend's operations run instead for arrays other than float32 and float64, for formulas that cannot be
compiled, and where Numba does not work. The loops of loops/formulas check the type, size and layout of their
arrays. The other loops assume the shapes that the reference names.
"""

import functools
import inspect
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.numpy_backend import NumpyBackend
from ffnn_gpu.backends.elementwise.trace import UntraceableError
from ffnn_gpu.backends.reference.philox import MASK, threshold
from ffnn_gpu.backends.reference.step_control import SKIP
from ffnn_gpu.backends.reference.updates import Update

SMALL = 1 << 13  # elements; the thread pool sums over the columns of more
LARGE_PRODUCT = 1 << 18  # multiplications; a BLAS shares more of them among its threads
FLOATS = np.dtype(np.float32), np.dtype(np.float64)
_NOTHING: tuple[Callable[[], Any], Any] = (lambda: None), None
_NO_WEIGHTS = {dtype: np.empty(0, dtype) for dtype in FLOATS}


def _has_loop(rows: Array) -> bool:
    """Return whether Numba supports the dtype of these rows and can address a row directly."""
    kind, size = rows.dtype.kind, rows.dtype.itemsize
    number = kind in "iu" or (kind == "f" and size in (4, 8))
    return rows.dtype.isnative and rows.flags.c_contiguous and number


def compiled_rule(name: str) -> Callable[..., None]:
    """Return the update rule of this name as one compiled loop.

    NumpyBackend's rule runs instead if Numba does not work, θ has a 16-bit copy, or a user's formula cannot
    be compiled.
    """
    plain = getattr(NumpyBackend, name)
    names = [*inspect.signature(plain).parameters][2:]

    @functools.wraps(plain)
    def run(self: "NumbaBackend", update: Update, *settings: Any, **named: Any) -> None:
        settings = *settings, *(named[key] for key in names[len(settings) :] if key in named)
        if update.shadow is not None or update.theta.dtype not in self.looped:
            plain(self, update, *settings)
            return
        if update.control is not None and update.control[SKIP]:
            return
        try:
            done = self.loops.formulas.run_rule(name, update, settings)
        except UntraceableError:
            done = False
        if not done:
            plain(self, update, *settings)

    return run


class NumbaBackend(NumpyBackend):
    """Every operation on host arrays, with compiled loops for float32 and float64."""

    @cached_property
    def loops(self) -> Any:
        """The package `loops`, imported at first use because Numba takes most of a second.

        None if Numba does not work.
        """
        try:
            from numba import config

            from ffnn_gpu.backends.cpu import loops

            if config.DISABLE_JIT:
                return None
            loops.layers.column_sum(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
        except (ImportError, RuntimeError, OSError, EOFError):
            return None  # Numba does not fit this NumPy, or has no place for its cache
        return loops

    @cached_property
    def looped(self) -> tuple[np.dtype, ...]:
        """The dtypes with compiled loops; none if Numba does not work."""
        return () if self.loops is None else FLOATS

    # ------------------------------------------------------------------ recording

    @cached_property
    def recording(self) -> Any:
        """The file recorded_step. It imports Numba."""
        from ffnn_gpu.backends.cpu.recording import recorded_step

        return recorded_step

    @cached_property
    def _single(self) -> Any:
        from ffnn_gpu.backends.cpu.recording.single_operations import SingleOperations

        return SingleOperations()

    @property
    def recorded(self) -> str:
        """A sentence for people: what is recorded on this machine."""
        return "nothing: Numba does not work here" if self.loops is None else str(self.recording.recorded())

    def run_step(self, code: Callable[..., Any], *args: Any) -> Any:
        if self.loops is None or type(self) is not NumbaBackend:
            return code(*args)
        return self.recording.run_step(self, code, *args)

    def run_forward(self, code: Callable[..., Any], network: Any, x: Array, ws: Any) -> Any:
        if self.loops is None or ws.training or type(self) is not NumbaBackend:
            return code(network, x, ws)
        return self.recording.run_forward(self, code, network, x, ws)

    # ------------------------------------------------------------------ rows

    def take(self, rows: Any, index: Any, out: Any, mean: Any = None, scale: Any = None) -> Any:
        cast = mean is not None or rows.dtype != out.dtype
        if not cast or out.ndim != 2 or out.dtype not in self.looped or not _has_loop(rows):
            return super().take(rows, index, out, mean, scale)
        rows = np.asarray(rows)  # of a mapped file
        if mean is None:
            self.loops.gather.gather(rows, index, out)
        else:
            self.loops.gather.gather_standardized(rows, index, out, mean, scale)
        return out

    def all_finite(self, array: Any) -> bool:
        if not self._is_plain(array):
            return super().all_finite(array)
        return bool(self.loops.gather.all_finite(array.reshape(-1)))

    def require_finite(self, array: Any, what: str, dtype: Any = None) -> None:
        same = self._is_plain(array) and (dtype is None or dtype == array.dtype)
        if not same or not self.all_finite(array):
            super().require_finite(array, what, dtype)  # which words the error

    def _is_plain(self, array: Any) -> bool:
        whole = type(array) is np.ndarray and array.flags.c_contiguous and array.flags.aligned
        return whole and array.dtype in self.looped

    # ------------------------------------------------------------------ products and activations

    def gemm(self, A: Array, B: Array, out: Array) -> Any:
        large = A.ndim == B.ndim == 2 and A.size * B.shape[-1] > LARGE_PRODUCT
        done = large and out.dtype in self.looped and self._single.run(self, "gemm", A, B, out)
        return out if done else super().gemm(A, B, out)

    def column_sum(self, A: Array, out: Array) -> Any:
        if A.dtype not in self.looped:
            return super().column_sum(A, out)
        if A.size <= SMALL or not self._single.run(self, "column_sum", A, out):
            self.loops.layers.column_sum(A, out)
        return out

    def affine(self, x: Any, W: Any, b: Any | None, phi: Any, out: Any, s: Any | None = None) -> Any:
        loop = self._loop("activation", out.dtype, phi, "value", b is not None, s is not None)
        if loop is None:
            return super().affine(x, W, b, phi, out, s)
        self.gemm(x, W, out)
        if phi.name == "identity" and b is None and s is None:
            return out
        if self.loops.formulas.run(loop, *out.shape, out=out, b=b, s=s) is None:
            out += 0 if b is None else b
            if s is not None:
                s[...] = out
            return super().activate(out, phi)
        return out

    def activate(self, s: Array, phi: Any) -> Any:
        loop = self._loop("activation", s.dtype, phi, "value", False, False)
        done = loop is not None and self.loops.formulas.run(loop, 1, s.size, out=s) is not None
        return s if done else super().activate(s, phi)

    def activation_backward(self, da: Array, a: Array, phi: Any, s: Array | None = None) -> Any:
        if phi.name == "identity":
            return da
        of: Any = s if phi.needs_input else a
        loop = self._loop("adjoint", da.dtype, phi, "derivative") if da.shape == of.shape else None
        done = loop is not None and self.loops.formulas.run(loop, 1, da.size, da=da, of=of) is not None
        return da if done else super().activation_backward(da, a, phi, s)

    def _loop(self, name: str, dtype: np.dtype, phi: Any, method: str, *key: Any) -> Any:
        """Return the compiled loop of a formula of φ; None if there is none.

        Why a table here: to find a loop in `formulas` costs as much as a small operation.
        """
        place = name, dtype.char, id(phi), *key
        owner, loop = self._found.get(place, _NOTHING)
        if owner() is phi:
            return loop
        loop = None
        if dtype in self.looped:
            with suppress(UntraceableError):
                loop = getattr(self.loops.formulas, name)(dtype, getattr(phi, method), *key)
        self._found[place] = weakref.ref(phi, lambda _: self._found.pop(place, None)), loop
        return loop

    @cached_property
    def _found(self) -> dict[Any, tuple[Callable[[], Any], Any]]:
        return {}

    # ------------------------------------------------------------------ softmax and losses

    def softmax(self, z: Array, out: Array) -> Any:
        if not self._same_matrices(z, out):
            return super().softmax(z, out)
        self.loops.softmax.softmax(z, out)
        return out

    def softmax_backward(self, da: Array, a: Array) -> Any:
        if not self._same_matrices(da, a):
            return super().softmax_backward(da, a)
        self.loops.softmax.softmax_backward(da, a)
        return da

    def log_softmax(self, z: Array, out: Array) -> Any:
        if not self._same_matrices(z, out):
            return super().log_softmax(z, out)
        self.loops.softmax.log_softmax(z, out)
        return out

    def log_softmax_backward(self, da: Array, a: Array) -> Any:
        if not self._same_matrices(da, a):
            return super().log_softmax_backward(da, a)
        self.loops.softmax.log_softmax_backward(da, a)
        return da

    def softmax_cross_entropy(
        self, z: Array, y: Array, weight: Array, class_weight: Array, label_smoothing: float, dz: Array
    ) -> Any:
        hard = y.ndim == 1
        dz = np.empty(z.shape, z.dtype) if dz is None else dz
        fits = self._same_matrices(z, dz) and (hard or self._same_matrices(z, y))
        if not fits or not (class_weight is None or class_weight.shape == z.shape[1:]):
            return super().softmax_cross_entropy(z, y, weight, class_weight, label_smoothing, dz)
        losses, none, uniform = self.loops.losses, _NO_WEIGHTS[z.dtype], 1 / max(len(z), 1)
        scale = none if weight is None else weight
        if hard and class_weight is not None:
            scale = self._weight_of_classes(y, class_weight, scale, bool(label_smoothing))
        elif weight is not None:
            scale = self.normalized_weight(weight)
        if hard and not label_smoothing:
            return z.dtype.type(losses.softmax_cross_entropy(z, y, scale, uniform, dz))
        v = none if class_weight is None else class_weight
        soft, smoothing = self.loops.cross_entropy.soft_cross_entropy, float(label_smoothing)
        return z.dtype.type(soft(z, y, v, smoothing, scale, uniform, dz))

    def _weight_of_classes(self, y: Array, class_weight: Array, weight: Array, smoothed: bool) -> Array:
        out = np.empty(len(y), class_weight.dtype)
        self.loops.cross_entropy.weight_of_classes(y, class_weight, weight, smoothed, out)
        return out

    def cross_entropy(self, p: Array, q: Array, weight: Array, dp: Array, smallest: float) -> Any:
        if not self._same_matrices(p, q):
            return super().cross_entropy(p, q, weight, dp, smallest)
        scale = _NO_WEIGHTS[p.dtype] if weight is None else self.normalized_weight(weight)
        dp, uniform = np.empty_like(p) if dp is None else dp, 1 / max(len(p), 1)
        return p.dtype.type(self.loops.cross_entropy.cross_entropy(p, q, scale, uniform, smallest, dp))

    def _same_matrices(self, a: Array, b: Array) -> bool:
        """Return whether the loops over rows can read both: of one shape, with columns, and of one type."""
        return (
            a.dtype in self.looped
            and b.dtype == a.dtype
            and a.shape == b.shape
            and a.ndim == 2
            and a.size > 0
            and a.flags.c_contiguous
            and b.flags.c_contiguous
        )

    # ------------------------------------------------------------------ normalization

    def layer_norm(self, x: Any, gain: Any, bias: Any, eps: float, out: Any, xhat: Any, rstd: Any) -> Any:
        if x.dtype not in self.looped:
            return super().layer_norm(x, gain, bias, eps, out, xhat, rstd)
        rstd = _NO_WEIGHTS[x.dtype] if rstd is None else rstd
        self.loops.normalization.layer_norm(x, gain, bias, eps, out, out if xhat is None else xhat, rstd)
        return out

    def batch_norm(
        self,
        x: Array,
        gain: Array,
        bias: Array,
        eps: float,
        out: Array,
        xhat: Array,
        rstd: Array,
        mean: Array,
        variance: Array,
    ) -> Any:
        if x.dtype not in self.looped:
            return super().batch_norm(x, gain, bias, eps, out, xhat, rstd, mean, variance)
        self.loops.normalization.batch_norm(
            x, gain, bias, eps, out, xhat, rstd, mean, variance, 0, x.shape[1]
        )
        return out

    def layer_norm_backward(
        self, da: Array, gain: Array, xhat: Array, rstd: Array, dgain: Array, dbias: Array, dx: Array | None
    ) -> Any:
        if da.dtype not in self.looped:
            return super().layer_norm_backward(da, gain, xhat, rstd, dgain, dbias, dx)
        self.loops.normalization.sums_of_columns(da, xhat, dgain, dbias, 0, da.shape[1])
        if dx is not None:
            self.loops.normalization.layer_norm_backward(da, gain, xhat, rstd, dx)
        return dx

    def batch_norm_backward(
        self, da: Array, gain: Array, xhat: Array, rstd: Array, dgain: Array, dbias: Array, dx: Array | None
    ) -> Any:
        if da.dtype not in self.looped:
            return super().batch_norm_backward(da, gain, xhat, rstd, dgain, dbias, dx)
        self.loops.normalization.sums_of_columns(da, xhat, dgain, dbias, 0, da.shape[1])
        if dx is not None:
            self.loops.normalization.batch_norm_backward(da, gain, xhat, rstd, dgain, dbias, dx, 0, len(da))
        return dx

    # ------------------------------------------------------------------ update rules

    sgd, rmsprop, adagrad = compiled_rule("sgd"), compiled_rule("rmsprop"), compiled_rule("adagrad")
    adam, nadam, lion = compiled_rule("adam"), compiled_rule("nadam"), compiled_rule("lion")
    own_rule = compiled_rule("own_rule")

    def average(self, mean: Array, values: Array, decay: float) -> None:
        done = None
        if mean.dtype in self.looped:
            loop = self.loops.formulas.elementwise(mean.dtype, "average")
            operands = {"mean": mean, "x": values, "share": 1.0 - decay, "factor": 1.0}
            done = self.loops.formulas.run(loop, 1, mean.size, **operands)
        if done is None:
            super().average(mean, values, decay)

    def squared_norm(self, grad: Array) -> Any:
        if self.loops is None:
            return super().squared_norm(grad)
        return np.float64(self.loops.normalization.sum_of_products(grad, grad))

    # ------------------------------------------------------------------ dropout

    def dropout_mask(self, rate: float, seed: int, step: Array, layer: int, row: int, out: Array) -> Any:
        if out.dtype not in self.looped:
            return super().dropout_mask(rate, seed, step, layer, row, out)
        key, keep = (seed & MASK, (seed >> 32) & MASK), out.dtype.type(1.0 / (1.0 - rate))
        self.loops.layers.dropout_mask(out, keep, threshold(rate), key, int(step[0]), layer, row)
        return out

    def dropout(self, x: Array, mask: Array, out: Array) -> Any:
        return super().dropout(x, mask, out) if x.itemsize == 2 else np.multiply(x, mask, out=out)
