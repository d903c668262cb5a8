"""The CPU with Numba: NumpyBackend with compiled loops for everything but matrix products.

docs/cpu_kernels.md has the measurements. Also, on the same machine, in microseconds: SGD of 670,000
parameters 200 → 57, ReLU's adjoint (128, 512) 17 → 6, column_sum (32, 32) 1.3 → 0.7.

Arrays other than float32 and float64, activations and losses without a loop, and every machine where Numba
does not work use NumpyBackend's operations. The loops assume the shapes that the reference names: they
neither broadcast nor check.
"""

import functools
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.numpy_backend import NumpyBackend
from ffnn_gpu.backends.reference.philox import MASK, threshold
from ffnn_gpu.backends.reference.updates import RATE, Update, nadam_momentum

SMALL = 1 << 13  # elements; sums over the columns of more are faster as a product with ones
FLOATS = np.dtype(np.float32), np.dtype(np.float64)
_NO_WEIGHTS = {dtype: np.empty(0, dtype) for dtype in FLOATS}


def _has_loop(rows: Array) -> bool:
    """Return whether Numba supports the dtype of these rows and can address a row directly."""
    kind, size = rows.dtype.kind, rows.dtype.itemsize
    number = kind in "iu" or (kind == "f" and size in (4, 8))
    return rows.dtype.isnative and rows.flags.c_contiguous and number


def compiled_rule(loop: Callable[..., None]) -> Callable[..., None]:
    """Decorator of an update rule: apply factor, penalties and decay first. Do nothing if skipped.

    NumpyBackend's rule runs instead if Numba does not work or θ has a 16-bit copy.
    """
    plain = getattr(NumpyBackend, loop.__name__)

    @functools.wraps(loop)
    def run(self: "NumbaBackend", update: Update, *args: Any, **named: Any) -> None:
        if update.shadow is not None or self.loops is None:
            plain(self, update, *args, **named)
            return
        factor, skipped = (1.0, 0.0) if update.control is None else update.control.tolist()
        if skipped:
            return
        theta, grad, n = update.theta, update.grad, update.n_decayed
        if factor != 1 or update.l2 or update.l1 or update.weight_decay:
            decay = update.weight_decay * update.scalars.item(RATE)
            self.loops.step_control.penalize(theta[:n], grad[:n], factor, update.l2, update.l1, decay)
        if factor != 1:
            self.scale(grad[n:], factor)
        loop(self, update, *args, **named)

    return run


class NumbaBackend(NumpyBackend):
    """Every operation on host arrays, with compiled loops for float32 and float64."""

    @cached_property
    def loops(self) -> Any:
        """The package `loops`, imported at first use because Numba takes most of a second.

        None if Numba does not work.
        """
        try:
            from ffnn_gpu.backends.cpu import loops

            loops.layers.add_bias(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
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

    def column_sum(self, A: Array, out: Array) -> Any:
        if A.dtype not in self.looped or A.size > SMALL:
            return super().column_sum(A, out)
        self.loops.layers.column_sum(A, out)
        return out

    def affine(self, x: Any, W: Any, b: Any | None, phi: Any, out: Any, s: Any | None = None) -> Any:
        if x.dtype not in self.looped or s is not None or phi.name not in ("identity", "relu", "tanh"):
            return super().affine(x, W, b, phi, out, s)
        self.gemm(x, W, out)
        if b is None:
            return self.activate(out, phi)
        if phi.name == "relu":
            self.loops.layers.bias_relu(out, b)
        else:
            self.loops.layers.add_bias(out, b)
        return np.tanh(out, out=out) if phi.name == "tanh" else out

    def activation_backward(self, da: Array, a: Array, phi: Any, s: Array | None = None) -> Any:
        if phi.name == "identity":
            return da
        fits = da.dtype in self.looped and da.shape == a.shape and da.ndim == 2
        if not fits or phi.name not in self.loops.layers.ADJOINTS:
            return super().activation_backward(da, a, phi, s)
        self.loops.layers.ADJOINTS[phi.name](da, a)
        return da

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
        fits = z.dtype in self.looped and (hard or self._same_matrices(z, y))
        if not fits or not (class_weight is None or class_weight.shape == z.shape[1:]):
            return super().softmax_cross_entropy(z, y, weight, class_weight, label_smoothing, dz)
        losses, none, uniform = self.loops.losses, _NO_WEIGHTS[z.dtype], 1 / max(len(z), 1)
        scale = none if weight is None else weight
        if hard and class_weight is not None:
            scale = self._weight_of_classes(y, class_weight, scale, bool(label_smoothing))
        elif weight is not None:
            scale = self.normalized_weight(weight)
        dz = np.empty_like(z) if dz is None else dz
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

    @compiled_rule
    def sgd(self, update: Update, velocity: Array | None, momentum: float, nesterov: bool) -> None:
        theta, grad, lr = update.theta, update.grad, update.scalars.item(RATE)
        if velocity is None:
            self.loops.updates.sgd(theta, grad, lr)
        else:
            self.loops.updates.momentum(theta, grad, velocity, lr, momentum, nesterov)

    @compiled_rule
    def rmsprop(
        self, update: Update, v: Array, velocity: Array | None, rho: float, eps: float, momentum: float
    ) -> None:
        theta, grad, lr = update.theta, update.grad, update.scalars.item(RATE)
        if velocity is None:
            self.loops.updates.rmsprop(theta, grad, v, lr, rho, eps)
        else:
            self.loops.updates.rmsprop_momentum(theta, grad, v, velocity, lr, rho, eps, momentum)

    @compiled_rule
    def adagrad(self, update: Update, v: Array, eps: float) -> None:
        self.loops.updates.adagrad(update.theta, update.grad, v, update.scalars.item(RATE), eps)

    @compiled_rule
    def adam(self, update: Update, m: Array, v: Array, beta1: float, beta2: float, eps: float) -> None:
        t, lr, _ = update.scalars.tolist()
        of_m, spread = lr / (1 - beta1**t), math.sqrt(1 - beta2**t)
        self.loops.updates.adam(update.theta, update.grad, m, v, beta1, beta2, of_m, 0.0, spread, eps)

    @compiled_rule
    def nadam(
        self, update: Update, m: Array, v: Array, beta1: float, beta2: float, eps: float, psi: float
    ) -> None:
        t, lr, product = update.scalars.tolist()
        mu, ahead = nadam_momentum(t, beta1, psi), nadam_momentum(t + 1, beta1, psi)
        of_m, of_g = lr * ahead / (1 - product * ahead), lr * (1 - mu) / (1 - product)
        spread = math.sqrt(1 - beta2**t)
        self.loops.updates.adam(update.theta, update.grad, m, v, beta1, beta2, of_m, of_g, spread, eps)

    @compiled_rule
    def lion(self, update: Update, m: Array, beta1: float, beta2: float) -> None:
        self.loops.updates.lion(update.theta, update.grad, m, update.scalars.item(RATE), beta1, beta2)

    def average(self, mean: Array, values: Array, decay: float) -> None:
        if self.loops is None:
            super().average(mean, values, decay)
        else:
            self.loops.updates.average(mean, values, decay)

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
