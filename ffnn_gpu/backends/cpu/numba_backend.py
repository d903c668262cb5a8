"""The CPU with Numba: NumpyBackend with the loops of `compiled` for what is not a matrix product.

What each saves (one core of an EPYC with AVX-512, float32, microseconds, NumpyBackend → here, medians of one run by hand):
- Adam of 670,000 parameters: 2100 → 190; SGD 200 → 57. One pass over θ, ∇θ and the moments, 16 roots at a time.
- bias and ReLU (128, 512): 35 → 5, its adjoint 17 → 6.
- softmax cross-entropy (128, 10): 32 → 7; column_sum (32, 32): 1.3 → 0.7.

Arrays of other types than float32 and float64, activations and losses without a loop here, and every machine without Numba
take NumpyBackend's way. The loops trust that shapes are those the reference names: nothing is broadcast, nothing checked.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ffnn_gpu.backends.cpu.numpy_backend import NumpyBackend
from ffnn_gpu.backends.reference.philox import MASK, threshold
from ffnn_gpu.backends.reference.updates import RATE, Update, nadam_momentum

SMALL = 1 << 13  # elements; sums over the columns of more are faster as a product with ones
LOOPED = np.dtype(np.float32), np.dtype(np.float64)
_EVEN = {dtype: np.empty(0, dtype) for dtype in LOOPED}  # the weights of a batch that has none


def _looped_rows(rows: Any) -> bool:
    """Whether Numba knows numbers such as these, and finds the rows without a search."""
    kind, size = rows.dtype.kind, rows.dtype.itemsize
    return (
        rows.dtype.isnative and rows.flags.c_contiguous and (kind in "iu" or (kind == "f" and size in (4, 8)))
    )


class NumbaBackend(NumpyBackend):
    """Every operation on host arrays; 4- and 8-byte floats through compiled loops."""

    @cached_property
    def loops(self) -> Any:
        """`compiled/loops.py`, imported when first needed: Numba takes most of a second. None where Numba does not work."""
        try:
            from ffnn_gpu.backends.cpu import loops

            loops.add_bias(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
        except (ImportError, RuntimeError, OSError, EOFError):
            return None  # Numba does not fit this NumPy, or has no place for its cache
        return loops

    @property
    def recorded(self) -> str:
        """What runs as a table of compiled commands, for people."""
        if self.loops is None:
            return "nothing: Numba does not work here"
        from ffnn_gpu.backends.cpu.recording.recorded_step import recorded

        return recorded()

    def run_step(self, code: Callable[..., Any], *args: Any) -> Any:
        if self.loops is None or type(self) is not NumbaBackend:
            return code(*args)
        from ffnn_gpu.backends.cpu.recording.recorded_step import run_step

        return run_step(self, code, *args)

    def run_forward(self, code: Callable[..., Any], network: Any, x: Any, ws: Any) -> Any:
        if self.loops is None or ws.training or type(self) is not NumbaBackend:
            return code(network, x, ws)
        from ffnn_gpu.backends.cpu.recording.recorded_step import run_forward

        return run_forward(self, code, network, x, ws)

    # ------------------------------------------------------------------ rows

    def take(self, rows: Any, index: Any, out: Any, mean: Any | None = None, scale: Any | None = None) -> Any:
        cast = mean is not None or rows.dtype != out.dtype
        if (
            self.loops is None
            or not cast
            or out.ndim != 2
            or not _looped_rows(rows)
            or out.dtype not in LOOPED
        ):
            return super().take(rows, index, out, mean, scale)
        rows = np.asarray(rows)  # of a mapped file
        if mean is None:
            self.loops.gather(rows, index, out)
        else:
            self.loops.gather_standardized(rows, index, out, mean, scale)
        return out

    def all_finite(self, array: Any) -> bool:
        if not self._looked_at(array):
            return super().all_finite(array)
        return bool(self.loops.all_finite(array.reshape(-1)))

    def require_finite(self, array: Any, what: str, dtype: Any = None) -> None:
        looked_at = self._looked_at(array) and (dtype is None or dtype == array.dtype)
        if not looked_at or not self.all_finite(array):
            super().require_finite(array, what, dtype)  # which finds the words

    def _looked_at(self, array: Any) -> bool:
        plain = (
            type(array) is np.ndarray
            and array.dtype in LOOPED
            and array.flags.c_contiguous
            and array.flags.aligned
        )
        return plain and self.loops is not None

    # ------------------------------------------------------------------ products and activations

    def column_sum(self, A: Any, out: Any) -> Any:
        if self.loops is None or A.dtype not in LOOPED or A.size > SMALL:
            return super().column_sum(A, out)
        self.loops.column_sum(A, out)
        return out

    def affine(self, x: Any, W: Any, b: Any | None, phi: Any, out: Any, s: Any | None = None) -> Any:
        if (
            self.loops is None
            or x.dtype not in LOOPED
            or s is not None
            or phi.name not in ("identity", "relu", "tanh")
        ):
            return super().affine(x, W, b, phi, out, s)
        self.gemm(x, W, out)
        if b is None:
            return self.activate(out, phi)
        if phi.name == "relu":
            self.loops.bias_relu(out, b)
        else:
            self.loops.add_bias(out, b)
        return np.tanh(out, out=out) if phi.name == "tanh" else out

    def activation_backward(self, da: Any, a: Any, phi: Any, s: Any | None = None) -> Any:
        if phi.name == "identity":
            return da
        fits = da.dtype in LOOPED and da.shape == a.shape and da.ndim == 2
        if self.loops is None or not fits or phi.name not in self.loops.ADJOINTS:
            return super().activation_backward(da, a, phi, s)
        self.loops.ADJOINTS[phi.name](da, a)
        return da

    # ------------------------------------------------------------------ losses

    def softmax_cross_entropy(
        self,
        z: Any,
        y: Any,
        weight: Any | None,
        class_weight: Any | None,
        label_smoothing: float,
        dz: Any | None,
    ) -> Any:
        if (
            self.loops is None
            or y.ndim == 2
            or class_weight is not None
            or label_smoothing
            or z.dtype not in LOOPED
        ):
            return super().softmax_cross_entropy(z, y, weight, class_weight, label_smoothing, dz)
        scale = _EVEN[z.dtype] if weight is None else self.normalized_weight(weight)
        dz = np.empty_like(z) if dz is None else dz
        return z.dtype.type(self.loops.softmax_cross_entropy(z, y, scale, 1 / max(len(z), 1), dz))

    # ------------------------------------------------------------------ normalization

    def layer_norm(
        self, x: Any, gain: Any, bias: Any, eps: float, out: Any, xhat: Any | None, rstd: Any | None
    ) -> Any:
        if self.loops is None or x.dtype not in LOOPED:
            return super().layer_norm(x, gain, bias, eps, out, xhat, rstd)
        rstd = _EVEN[x.dtype] if rstd is None else rstd
        self.loops.layer_norm(x, gain, bias, eps, out, out if xhat is None else xhat, rstd)
        return out

    def layer_norm_backward(
        self, da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any | None
    ) -> Any:
        if self.loops is None or da.dtype not in LOOPED:
            return super().layer_norm_backward(da, gain, xhat, rstd, dgain, dbias, dx)
        self.loops.sums_of_columns(da, xhat, dgain, dbias, 0, da.shape[1])
        if dx is not None:
            self.loops.layer_norm_backward(da, gain, xhat, rstd, dx)
        return dx

    def batch_norm(
        self,
        x: Any,
        gain: Any,
        bias: Any,
        eps: float,
        out: Any,
        xhat: Any,
        rstd: Any,
        mean: Any,
        variance: Any,
    ) -> Any:
        if self.loops is None or x.dtype not in LOOPED:
            return super().batch_norm(x, gain, bias, eps, out, xhat, rstd, mean, variance)
        self.loops.batch_norm(x, gain, bias, eps, out, xhat, rstd, mean, variance, 0, x.shape[1])
        return out

    def batch_norm_backward(
        self, da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any | None
    ) -> Any:
        if self.loops is None or da.dtype not in LOOPED:
            return super().batch_norm_backward(da, gain, xhat, rstd, dgain, dbias, dx)
        self.loops.sums_of_columns(da, xhat, dgain, dbias, 0, da.shape[1])
        if dx is not None:
            self.loops.batch_norm_backward(da, gain, xhat, rstd, dgain, dbias, dx, 0, len(da))
        return dx

    # ------------------------------------------------------------------ update rules

    def sgd(self, update: Update, velocity: Any | None, momentum: float, nesterov: bool) -> None:
        if not self._compiles(update):
            return super().sgd(update, velocity, momentum, nesterov)
        if not self._begin(update):
            return None
        lr = update.scalars.item(RATE)
        if velocity is None:
            return self.loops.sgd(update.theta, update.grad, lr)
        return self.loops.momentum(update.theta, update.grad, velocity, lr, momentum, nesterov)

    def rmsprop(
        self, update: Update, v: Any, velocity: Any | None, rho: float, eps: float, momentum: float
    ) -> None:
        if not self._compiles(update):
            return super().rmsprop(update, v, velocity, rho, eps, momentum)
        if not self._begin(update):
            return None
        lr = update.scalars.item(RATE)
        if velocity is None:
            return self.loops.rmsprop(update.theta, update.grad, v, lr, rho, eps)
        return self.loops.rmsprop_momentum(update.theta, update.grad, v, velocity, lr, rho, eps, momentum)

    def adagrad(self, update: Update, v: Any, eps: float) -> None:
        if not self._compiles(update):
            return super().adagrad(update, v, eps)
        if not self._begin(update):
            return None
        return self.loops.adagrad(update.theta, update.grad, v, update.scalars.item(RATE), eps)

    def adam(self, update: Update, m: Any, v: Any, beta1: float, beta2: float, eps: float) -> None:
        if not self._compiles(update):
            return super().adam(update, m, v, beta1, beta2, eps)
        if not self._begin(update):
            return None
        t, lr, _ = update.scalars.tolist()
        of_m, spread = lr / (1 - beta1**t), math.sqrt(1 - beta2**t)
        return self.loops.adam(update.theta, update.grad, m, v, beta1, beta2, of_m, 0.0, spread, eps)

    def nadam(
        self, update: Update, m: Any, v: Any, beta1: float, beta2: float, eps: float, psi: float
    ) -> None:
        if not self._compiles(update):
            return super().nadam(update, m, v, beta1, beta2, eps, psi)
        if not self._begin(update):
            return None
        t, lr, product = update.scalars.tolist()
        mu, ahead = nadam_momentum(t, beta1, psi), nadam_momentum(t + 1, beta1, psi)
        of_m, of_g = lr * ahead / (1 - product * ahead), lr * (1 - mu) / (1 - product)
        spread = math.sqrt(1 - beta2**t)
        return self.loops.adam(update.theta, update.grad, m, v, beta1, beta2, of_m, of_g, spread, eps)

    def lion(self, update: Update, m: Any, beta1: float, beta2: float) -> None:
        if not self._compiles(update):
            return super().lion(update, m, beta1, beta2)
        if not self._begin(update):
            return None
        return self.loops.lion(update.theta, update.grad, m, update.scalars.item(RATE), beta1, beta2)

    def average(self, mean: Any, values: Any, decay: float) -> None:
        if self.loops is None:
            return super().average(mean, values, decay)
        return self.loops.average(mean, values, decay)

    def squared_norm(self, grad: Any) -> Any:
        return (
            super().squared_norm(grad)
            if self.loops is None
            else np.float64(self.loops.sum_of_products(grad, grad))
        )

    def _compiles(self, update: Update) -> bool:
        """Whether a rule has a loop for this: not with a copy of θ in 16 bits, nor without Numba."""
        return update.shadow is None and self.loops is not None

    def _begin(self, update: Update) -> bool:
        """Apply factor, penalties and decay. False where the update is skipped."""
        factor, skipped = (1.0, 0.0) if update.control is None else update.control.tolist()
        if skipped:
            return False
        theta, grad, n = update.theta, update.grad, update.n_decayed
        if factor != 1 or update.l2 or update.l1 or update.weight_decay:
            decay = update.weight_decay * update.scalars.item(RATE)
            self.loops.penalize(theta[:n], grad[:n], factor, update.l2, update.l1, decay)
        if factor != 1:
            self.scale(grad[n:], factor)
        return True

    # ------------------------------------------------------------------ dropout

    def dropout_mask(self, rate: float, seed: int, step: Any, layer: int, row: int, out: Any) -> Any:
        if self.loops is None or out.dtype not in LOOPED:
            return super().dropout_mask(rate, seed, step, layer, row, out)
        key = seed & MASK, (seed >> 32) & MASK
        self.loops.dropout_mask(
            out, out.dtype.type(1.0 / (1.0 - rate)), threshold(rate), key, int(step[0]), layer, row
        )
        return out

    def dropout(self, x: Any, mask: Any, out: Any) -> Any:
        return super().dropout(x, mask, out) if x.itemsize == 2 else np.multiply(x, mask, out=out)
