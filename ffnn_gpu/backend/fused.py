"""The reference's operations as launches of kernels.cu: one pass over the memory where array functions take many.

Each method falls back to the reference where a kernel cannot serve: other dtypes than float32 and float64, arrays that are
not contiguous (a kernel sees no strides), an activation or a loss of the user's own. What the numbers mean stands in
reference.py and the files beside it, and is not repeated here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import float64, int32, int64, uint32

from ffnn_gpu.backend.kernels import Kernels
from ffnn_gpu.backend.philox import MASK
from ffnn_gpu.backend.reference import Backend

PHI = ("identity", "relu", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "mish", "softplus", "softsign", "tanh",
       "sigmoid", "hard_sigmoid", "hard_tanh")  # in the order of `enum Phi`, kernels.cu  # fmt: skip
POINTWISE = ("mean_squared_error", "mean_absolute_error", "huber", "poisson", "binary_cross_entropy",
             "binary_cross_entropy_with_logits", "hinge")  # in the order of `enum Pointwise`  # fmt: skip
REAL = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}
SHORT = {"uint8": "u8", "int32": "i32", "int64": "i64", "float32": "f32", "float64": "f64"}
GATHERS = {f"{source}_{to}" for to in ("f32", "f64") for source in SHORT.values()} | {"i32_i32", "i64_i64"}


def suffix(first: Any, *others: Any) -> str | None:
    """"f32" or "f64" where all arrays (None aside) are contiguous and of that dtype; None where no kernel fits them."""
    dtype = first.dtype
    for array in (first, *others):
        if array is not None and (array.dtype != dtype or not array.flags.c_contiguous): return None
    return REAL.get(dtype)


class FusedBackend(Backend):
    """The reference with fused kernels. `use_kernels = False` gives plain array functions, to compare with."""

    use_kernels = True

    def __init__(self, xp: Any) -> None:
        super().__init__(xp)
        self.kernels = Kernels(xp)

    def _suffix(self, *arrays: Any) -> str | None:
        return suffix(*arrays) if self.use_kernels else None

    # ------------------------------------------------------------------ elementwise

    def affine(self, x: Any, W: Any, b: Any | None, phi: Any, out: Any, s: Any | None = None) -> Any:
        S = self._suffix(out, b, s)
        if S is None or phi.name not in PHI: return super().affine(x, W, b, phi, out, s)
        self.gemm(x, W, out=out)
        return out if b is None and s is None and phi.name == "identity" else self._bias_activation(S, out, b, s, phi)

    def activate(self, s: Any, phi: Any) -> Any:
        S = self._suffix(s)
        if S is None or phi.name not in PHI: return super().activate(s, phi)
        return s if phi.name == "identity" else self._bias_activation(S, s, None, None, phi)

    def _bias_activation(self, S: str, a: Any, b: Any | None, s: Any | None, phi: Any) -> Any:
        kind, alpha = int32(PHI.index(phi.name)), a.dtype.type(phi.alpha)
        self.kernels.each(f"bias_activation_{S}", a.size, a, b, s, int64(a.size), int32(a.shape[-1]), kind, alpha)
        return a

    def activation_backward(self, da: Any, a: Any, phi: Any, s: Any | None = None) -> Any:
        of = s if phi.needs_input else a
        S = self._suffix(da, of)
        if S is None or phi.name not in PHI: return super().activation_backward(da, a, phi, s)
        if phi.name == "identity": return da
        kind, alpha = int32(PHI.index(phi.name)), da.dtype.type(phi.alpha)
        self.kernels.each(f"activation_backward_{S}", da.size, da, of, int64(da.size), kind, alpha)
        return da

    def dropout_mask(self, rate: float, seed: int, step: Any, layer: int, row: int, out: Any) -> Any:
        S = self._suffix(out)
        if S is None: return super().dropout_mask(rate, seed, step, layer, row, out)
        B, O = out.shape
        words = (uint32(word & MASK) for word in (seed, seed >> 32, layer, row))
        threshold, scale = uint32(min(round(rate * 2**32), 2**32 - 1)), out.dtype.type(1.0 / (1.0 - rate))
        self.kernels.each(f"dropout_mask_{S}", B * -(-O // 4), out, step, int32(B), int32(O), *words, threshold, scale)
        return out

    def dropout(self, x: Any, mask: Any, out: Any) -> Any:
        S = self._suffix(x, mask, out)
        if S is None: return super().dropout(x, mask, out)
        self.kernels.each(f"multiply_{S}", x.size, x, mask, out, int64(x.size))
        return out

    def take(self, rows: Any, index: Any, out: Any) -> Any:
        kernel = f"{SHORT.get(rows.dtype.name)}_{SHORT.get(out.dtype.name)}"
        fits = kernel in GATHERS and index.dtype == int64 and all(a.flags.c_contiguous for a in (rows, index, out))
        if not fits or not self.use_kernels: return super().take(rows, index, out)
        n = len(index)
        self.kernels.each(f"gather_{kernel}", out.size, rows, index, out, int32(n), int32(out.size // max(n, 1)))
        return out

    # ------------------------------------------------------------------ sums and softmax

    def column_sum(self, A: Any, out: Any) -> Any:
        S = self._suffix(A, out)
        if S is None: return super().column_sum(A, out)
        slabs, O = self.kernels.slabs(len(A))[0], A.shape[1]
        partial = self.kernels.scratch("columns", slabs * O)
        self.kernels.columns(S, A, None, None, partial, None)
        self.kernels.each(f"slab_sums_{S}", O, partial, int32(slabs), int32(O), float64(1), None, out)
        return out

    def _by_row(self, kernel: str, otherwise: Callable[..., Any], x: Any, y: Any, logarithm: bool) -> Any:
        S = self._suffix(x, y)
        if S is None: return otherwise(x, y)
        B, C = x.shape
        self.kernels.rows(f"{kernel}_{S}", B, x, y, int32(B), int32(C), int32(logarithm))
        return y if kernel == "softmax" else x

    def softmax(self, z: Any, out: Any) -> Any:
        return self._by_row("softmax", super().softmax, z, out, False)

    def log_softmax(self, z: Any, out: Any) -> Any:
        return self._by_row("softmax", super().log_softmax, z, out, True)

    def softmax_backward(self, da: Any, a: Any) -> Any:
        return self._by_row("softmax_backward", super().softmax_backward, da, a, False)

    def log_softmax_backward(self, da: Any, a: Any) -> Any:
        return self._by_row("softmax_backward", super().log_softmax_backward, da, a, True)

    # ------------------------------------------------------------------ losses

    def pointwise_loss(self, kind: Any, z: Any, y: Any, weight: Any | None, dz: Any | None) -> Any:
        S = self._suffix(z, y, weight, dz)
        name = getattr(kind, "name", None)
        if S is None or name not in POINTWISE: return super().pointwise_loss(kind, z, y, weight, dz)
        (B, O), value, total = z.shape, self.empty((), z.dtype), self._total_weight(S, weight)
        scalars = int32(B), int32(O), int32(POINTWISE.index(name)), z.dtype.type(kind.alpha)
        self.kernels.total(f"pointwise_loss_{S}", z.size, z, y, weight, total, dz, value, *scalars)
        return value

    def cross_entropy(self, p: Any, q: Any, weight: Any | None, dp: Any | None, smallest: float) -> Any:
        S = self._suffix(p, q, weight, dp)
        if S is None: return super().cross_entropy(p, q, weight, dp, smallest)
        (B, C), value, total = p.shape, self.empty((), p.dtype), self._total_weight(S, weight)
        scalars = int32(B), int32(C), p.dtype.type(smallest)
        self.kernels.total(f"cross_entropy_{S}", p.size, p, q, weight, total, dp, value, *scalars)
        return value

    def softmax_cross_entropy(
        self, z: Any, y: Any, weight: Any | None, class_weight: Any | None, label_smoothing: float, dz: Any | None
    ) -> Any:
        hard = y.ndim == 1
        S = self._suffix(z, weight, class_weight, dz, None if hard else y)
        if S is None or (hard and not y.flags.c_contiguous):
            return super().softmax_cross_entropy(z, y, weight, class_weight, label_smoothing, dz)
        (B, C), value = z.shape, self.empty((), z.dtype)
        label, q = (y.astype(int32, copy=False), None) if hard else (None, y)
        total = self._total_weight(S, weight, label, class_weight if hard else None)
        scalars = int32(B), int32(C), z.dtype.type(label_smoothing)
        self.kernels.total(
            f"softmax_cross_entropy_{S}", B, z, label, q, weight, class_weight, total, dz, value, *scalars, rows=True
        )
        return value

    def _total_weight(self, S: str, weight: Any | None, label: Any = None, class_weight: Any = None) -> Any | None:
        """Σ w_b v_{y_b} as one float64 of scratch; None where every weight is 1."""
        if weight is None and class_weight is None: return None
        B, total = len(label if weight is None else weight), self.kernels.scratch("total", 1)
        C = 0 if class_weight is None else len(class_weight)
        self.kernels.total(f"weight_total_{S}", B, weight, label, class_weight, int32(B), int32(C), total)
        return total

    # ------------------------------------------------------------------ normalization

    def layer_norm(
        self, x: Any, gain: Any, bias: Any, eps: float, out: Any, xhat: Any | None, rstd: Any | None
    ) -> Any:
        S = self._suffix(x, gain, bias, out, xhat, rstd)
        if S is None: return super().layer_norm(x, gain, bias, eps, out, xhat, rstd)
        B, I = x.shape
        self.kernels.rows(f"layer_norm_{S}", B, x, gain, bias, out, xhat, rstd, int32(B), int32(I), float64(eps))
        return out

    def layer_norm_backward(
        self, da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any | None
    ) -> Any:
        S = self._suffix(da, gain, xhat, rstd, dgain, dbias, dx)
        if S is None: return super().layer_norm_backward(da, gain, xhat, rstd, dgain, dbias, dx)
        self._gain_and_bias(S, da, xhat, dgain, dbias)
        if dx is None: return None
        B, I = da.shape
        self.kernels.rows(f"layer_norm_backward_{S}", B, da, gain, xhat, rstd, dx, int32(B), int32(I))
        return dx

    def batch_norm(
        self, x: Any, gain: Any, bias: Any, eps: float, out: Any, xhat: Any, rstd: Any, mean: Any, variance: Any
    ) -> Any:
        S = self._suffix(x, gain, bias, out, xhat, rstd, mean, variance)
        if S is None: return super().batch_norm(x, gain, bias, eps, out, xhat, rstd, mean, variance)
        k, (B, I), slabs = self.kernels, x.shape, self.kernels.slabs(len(x))[0]
        partial, mu, factor = k.scratch("columns", slabs * I), k.scratch("first", I), k.scratch("second", I)
        k.columns(S, x, None, None, partial, None)                               # μ = Σ x / B
        k.each(f"slab_sums_{S}", I, partial, int32(slabs), int32(I), float64(1 / B), mu, None)
        k.columns(S, x, None, mu, None, partial)                                 # σ² = Σ (x − μ)² / B
        statistics = int32(slabs), mu, factor, mean, variance, rstd, int64(B), int32(I), float64(eps)
        k.each(f"batch_norm_finish_{S}", I, partial, *statistics)
        k.each(f"batch_norm_apply_{S}", x.size, x, mu, factor, gain, bias, out, xhat, int64(x.size), int32(I))
        return out

    def batch_norm_inference(
        self, x: Any, gain: Any, bias: Any, eps: float, out: Any, mean: Any, variance: Any
    ) -> Any:
        S = self._suffix(x, gain, bias, out, mean, variance)
        if S is None: return super().batch_norm_inference(x, gain, bias, eps, out, mean, variance)
        scalars = int64(x.size), int32(x.shape[1]), x.dtype.type(eps)
        self.kernels.each(f"batch_norm_inference_{S}", x.size, x, gain, bias, mean, variance, out, *scalars)
        return out

    def batch_norm_backward(
        self, da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any | None
    ) -> Any:
        S = self._suffix(da, gain, xhat, rstd, dgain, dbias, dx)
        if S is None: return super().batch_norm_backward(da, gain, xhat, rstd, dgain, dbias, dx)
        sums = self._gain_and_bias(S, da, xhat, dgain, dbias)
        if dx is None: return None
        B, I = da.shape
        self.kernels.each(f"batch_norm_backward_{S}", da.size, da, gain, xhat, rstd, *sums, dx, int64(B), int32(I))
        return dx

    def _gain_and_bias(self, S: str, da: Any, xhat: Any, dgain: Any, dbias: Any) -> tuple[Any, Any]:
        """dbias = Σ_B da, dgain = Σ_B da ⊙ x̂; the same sums in float64 are returned."""
        k, I, slabs = self.kernels, da.shape[1], self.kernels.slabs(len(da))[0]
        sums = k.scratch("first", I), k.scratch("second", I)
        partials = k.scratch("columns", slabs * I), k.scratch("products", slabs * I)
        k.columns(S, da, xhat, None, *partials)
        for partial, wide, out in zip(partials, sums, (dbias, dgain), strict=True):
            k.each(f"slab_sums_{S}", I, partial, int32(slabs), int32(I), float64(1), wide, out)
        return sums

    # ------------------------------------------------------------------ updates

    def advance(self, scalars: Any, step: Any) -> None:
        if not self.use_kernels: return super().advance(scalars, step)
        return self.kernels.once("advance", scalars, step)

    def advance_product(self, scalars: Any, beta1: float, psi: float) -> None:
        if not self.use_kernels: return super().advance_product(scalars, beta1, psi)
        return self.kernels.once("advance_product", scalars, float64(beta1), float64(psi))

    def clip_by_norm(self, grad: Any, limit: float) -> None:
        S = self._suffix(grad)
        if S is None: return super().clip_by_norm(grad, limit)
        factor, n = self.kernels.scratch("factor", 1), int64(grad.size)
        self.kernels.total(f"norm_factor_{S}", grad.size, grad, n, float64(limit), factor)
        return self.kernels.each(f"scale_by_{S}", grad.size, grad, n, factor)

    def penalize(self, theta: Any, grad: Any, l2: float, l1: float) -> None:
        S = self._suffix(theta, grad)
        if S is None: return super().penalize(theta, grad, l2, l1)
        real = grad.dtype.type
        return self.kernels.each(f"penalize_{S}", grad.size, theta, grad, int64(grad.size), real(l2), real(l1))

    def decay(self, theta: Any, scalars: Any, rate: float) -> None:
        S = self._suffix(theta)
        if S is None: return super().decay(theta, scalars, rate)
        return self.kernels.each(f"decay_{S}", theta.size, theta, int64(theta.size), scalars, float64(rate))

    def _rule(self, name: str, S: str, theta: Any, grad: Any, scalars: Any, *own: Any) -> None:
        """The kernel of a rule, without a 16-bit copy of θ, a clipping factor or a mark of overflow."""
        n = theta.size
        self.kernels.each(f"{name}_{S}", n, theta, grad, None, int64(n), scalars, None, None, *own)

    def sgd(self, theta: Any, grad: Any, velocity: Any | None, scalars: Any, momentum: float, nesterov: bool) -> None:
        S, real = self._suffix(theta, grad, velocity), theta.dtype.type
        if S is None: return super().sgd(theta, grad, velocity, scalars, momentum, nesterov)
        return self._rule("sgd", S, theta, grad, scalars, velocity, real(momentum), int32(nesterov))

    def rmsprop(
        self, theta: Any, grad: Any, v: Any, velocity: Any | None, scalars: Any, rho: float, eps: float, momentum: float
    ) -> None:
        S, real = self._suffix(theta, grad, v, velocity), theta.dtype.type
        if S is None: return super().rmsprop(theta, grad, v, velocity, scalars, rho, eps, momentum)
        return self._rule("rmsprop", S, theta, grad, scalars, v, velocity, real(1 - rho), real(eps), real(momentum))

    def adagrad(self, theta: Any, grad: Any, v: Any, scalars: Any, eps: float) -> None:
        S = self._suffix(theta, grad, v)
        if S is None: return super().adagrad(theta, grad, v, scalars, eps)
        return self._rule("adagrad", S, theta, grad, scalars, v, theta.dtype.type(eps))

    def adam(
        self, theta: Any, grad: Any, m: Any, v: Any, scalars: Any, beta1: float, beta2: float, eps: float
    ) -> None:
        S, real = self._suffix(theta, grad, m, v), theta.dtype.type
        if S is None: return super().adam(theta, grad, m, v, scalars, beta1, beta2, eps)
        return self._rule("adam", S, theta, grad, scalars, m, v, float64(beta1), float64(beta2), real(eps))

    def nadam(
        self, theta: Any, grad: Any, m: Any, v: Any, scalars: Any, beta1: float, beta2: float, eps: float, psi: float
    ) -> None:
        S, real = self._suffix(theta, grad, m, v), theta.dtype.type
        if S is None: return super().nadam(theta, grad, m, v, scalars, beta1, beta2, eps, psi)
        constants = float64(beta1), float64(beta2), real(eps), float64(psi)
        return self._rule("nadam", S, theta, grad, scalars, m, v, *constants)

    def lion(self, theta: Any, grad: Any, m: Any, scalars: Any, beta1: float, beta2: float) -> None:
        S = self._suffix(theta, grad, m)
        if S is None: return super().lion(theta, grad, m, scalars, beta1, beta2)
        return self._rule("lion", S, theta, grad, scalars, m, float64(beta1), float64(beta2))
