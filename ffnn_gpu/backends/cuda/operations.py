"""The reference's operations as launches of kernels.cu: one pass over the memory where array functions take many.

Each method falls back to the reference where a kernel cannot serve: dtypes that do not go together, arrays that are not
contiguous (a kernel sees no strides), an activation or a loss of the user's own. What the numbers mean stands in
reference.py and the files beside it, and is not repeated here.
"""

from collections.abc import Callable
from typing import Any

from numpy import float64, int32, int64, uint32

from ffnn_gpu.arrays.precision import master
from ffnn_gpu.backends.cuda.kernels import SUFFIX
from ffnn_gpu.backends.cuda.losses import FusedLosses
from ffnn_gpu.backends.cuda.normalization import FusedNormalizations
from ffnn_gpu.backends.cuda.updates import FusedUpdates
from ffnn_gpu.backends.reference.philox import MASK

PHI = ("identity", "relu", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "mish", "softplus", "softsign", "tanh",
       "sigmoid", "hard_sigmoid", "hard_tanh")  # in the order of `enum Phi`, kernels.cu  # fmt: skip
SHORT = {"uint8": "u8", "int32": "i32", "int64": "i64", **SUFFIX}
WIDE = ("u8", "i32", "i64", "f32", "f64")
GATHERS = {f"{source}_{to}" for to in SUFFIX.values() for source in WIDE} | {
    "i32_i32",
    "i64_i64",
    "f16_f16",
    "bf16_bf16",
}


class FusedBackend(FusedLosses, FusedNormalizations, FusedUpdates):
    """The reference with kernels where they fit."""

    def gemm(self, A: Any, B: Any, out: Any) -> Any:
        if not A.dtype == B.dtype == out.dtype:
            return super().gemm(A, B, out)
        return self.xp.matmul(A, B, out=out)  # sums in float32 for 16 bits too

    def affine(self, x: Any, W: Any, b: Any | None, phi: Any, out: Any, s: Any | None = None) -> Any:
        S = self._suffix(out, b, s)
        if S is None or phi.name not in PHI:
            return super().affine(x, W, b, phi, out, s)
        self.gemm(x, W, out=out)
        return (
            out
            if b is None and s is None and phi.name == "identity"
            else self._bias_activation(S, out, b, s, phi)
        )

    def activate(self, s: Any, phi: Any) -> Any:
        S = self._suffix(s)
        if S is None or phi.name not in PHI:
            return super().activate(s, phi)
        return s if phi.name == "identity" else self._bias_activation(S, s, None, None, phi)

    def _bias_activation(self, S: str, a: Any, b: Any | None, s: Any | None, phi: Any) -> Any:
        kind, alpha = int32(PHI.index(phi.name)), master(a.dtype).type(phi.alpha)
        self.kernels.each(
            f"bias_activation_{S}", a.size, a, b, s, int64(a.size), int32(a.shape[-1]), kind, alpha
        )
        return a

    def activation_backward(self, da: Any, a: Any, phi: Any, s: Any | None = None) -> Any:
        of = s if phi.needs_input else a
        S = self._suffix(da, of)
        if S is None or phi.name not in PHI:
            return super().activation_backward(da, a, phi, s)
        if phi.name == "identity":
            return da
        kind, alpha = int32(PHI.index(phi.name)), master(da.dtype).type(phi.alpha)
        self.kernels.each(f"activation_backward_{S}", da.size, da, of, int64(da.size), kind, alpha)
        return da

    def dropout_mask(self, rate: float, seed: int, step: Any, layer: int, row: int, out: Any) -> Any:
        S = self._suffix(out)
        if S is None:
            return super().dropout_mask(rate, seed, step, layer, row, out)
        B, O = out.shape
        words = (uint32(word & MASK) for word in (seed, seed >> 32, layer, row))
        threshold, scale = (
            uint32(min(round(rate * 2**32), 2**32 - 1)),
            master(out.dtype).type(1.0 / (1.0 - rate)),
        )
        self.kernels.each(
            f"dropout_mask_{S}", B * -(-O // 4), out, step, int32(B), int32(O), *words, threshold, scale
        )
        return out

    def dropout(self, x: Any, mask: Any, out: Any) -> Any:
        S = self._suffix(x, mask, out)
        if S is None:
            return super().dropout(x, mask, out)
        self.kernels.each(f"multiply_{S}", x.size, x, mask, out, int64(x.size))
        return out

    def scaled(self, x: Any, factor: Any, out: Any) -> Any:
        S = self._suffix(out, wide=(x,))
        if S is None:
            return super().scaled(x, factor, out)
        self.kernels.each(f"scaled_{S}", x.size, x, factor, out, int64(x.size))
        return out

    def take(self, rows: Any, index: Any, out: Any, mean: Any | None = None, scale: Any | None = None) -> Any:
        kernel = f"{SHORT.get(rows.dtype.name)}_{SHORT.get(out.dtype.name)}"
        fits = (
            kernel in GATHERS
            and index.dtype == int64
            and all(a.flags.c_contiguous for a in (rows, index, out))
        )
        fits &= all(a is None or (a.dtype == float64 and a.flags.c_contiguous) for a in (mean, scale))
        if not fits or not self.use_kernels:
            return super().take(rows, index, out, mean, scale)
        n = len(index)
        sizes = int32(n), int32(out.size // max(n, 1))
        self.kernels.each(f"gather_{kernel}", out.size, rows, index, mean, scale, out, *sizes)
        return out

    def column_sum(self, A: Any, out: Any) -> Any:
        S = self._suffix(A, wide=(out,))
        if S is None:
            return super().column_sum(A, out)
        k, (B, O) = self.kernels, A.shape
        slabs = k.slabs(B, O)[0]
        if slabs == 1:
            k.columns(S, A, None, None, None, None, out)
            return out
        partial = k.scratch("columns", slabs * O)
        k.columns(S, A, None, None, partial, None)
        k.rows(f"slab_sums_{S}", O, partial, int32(slabs), int32(O), float64(1), None, out)
        return out

    def _by_row(self, kernel: str, otherwise: Callable[..., Any], x: Any, y: Any, logarithm: bool) -> Any:
        S = self._suffix(x, y)
        if S is None:
            return otherwise(x, y)
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
