"""Operations as launches of kernels: one pass over memory instead of one per array function.

Every function here and in losses.py, normalization.py, updates.py and products.py is a method of
`CupyBackend`, named after the method of `Backend` that defines it. If no kernel fits, it raises NoKernelError
before it writes anything, and that method runs instead: for mixed dtypes, for arrays that are not contiguous
(a kernel gets no strides), and for a user's activation or loss that is no elementwise expression.
"""

from itertools import chain
from typing import TYPE_CHECKING, Any

from numpy import float64, int32, int64, uint32

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import master
from ffnn_gpu.backends.cuda import formulas
from ffnn_gpu.backends.cuda.kernels import SUFFIX, Generated, NoKernelError
from ffnn_gpu.backends.reference import philox
from ffnn_gpu.backends.reference.embedding import Sizes, gradient_of_numbers

if TYPE_CHECKING:
    from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend

SHORT = {"uint8": "u8", "int32": "i32", "int64": "i64", **SUFFIX}
WIDE = ("u8", "i32", "i64", "f32", "f64")
GATHERS = {f"{source}_{to}" for to in SUFFIX.values() for source in WIDE}
GATHERS |= {"i32_i32", "i64_i64", "f16_f16", "bf16_bf16"}


def gemm(self: "CupyBackend", A: Array, B: Array, out: Array) -> Array:
    if not A.dtype == B.dtype == out.dtype:
        raise NoKernelError
    return self.xp.matmul(A, B, out=out)  # accumulates in float32 for 16-bit types too


def affine(
    self: "CupyBackend",
    x: Array,
    W: Array,
    b: Array | None,
    phi: Any,
    out: Array,
    s: Array | None = None,
    factor: float = 1.0,
) -> Array:
    if factor != 1:
        raise NoKernelError
    kernel = formulas.bias_activation(self.suffix(out, b, s), phi)
    self.gemm(x, W, out=out)
    if b is None and s is None and phi.name == "identity":
        return out
    return bias_activation(self, kernel, out, b, s)


def activate(self: "CupyBackend", s: Array, phi: Any) -> Array:
    kernel = formulas.bias_activation(self.suffix(s), phi)
    return s if phi.name == "identity" else bias_activation(self, kernel, s, None, None)


def bias_activation(
    self: "CupyBackend", kernel: Generated, a: Array, b: Array | None, s: Array | None
) -> Array:
    """a ← φ(a + b), and s receives a + b if not None."""
    self.kernels.each(kernel, a.size, a, b, s, int64(a.size), int32(a.shape[-1]))
    return a


def activation_backward(self: "CupyBackend", da: Array, a: Array, phi: Any, s: Array | None = None) -> Array:
    of = s if phi.needs_input else a
    kernel = formulas.activation_backward(self.suffix(da, of), phi)
    if phi.name != "identity":
        self.kernels.each(kernel, da.size, da, of, int64(da.size))
    return da


def dropout_mask(
    self: "CupyBackend",
    rate: float,
    seed: int,
    step: Array,
    layer: int,
    row: int,
    out: Array,
    factor: Array = None,
) -> Array:
    return _masked(self, None, out, rate, seed, step, layer, row, factor)


def dropout_forward(
    self: "CupyBackend", x: Array, mask: Array, out: Array, rate: float, seed: int, step: Array, layer: int,
    row: int, factor: Array = None,
) -> Array:  # fmt: skip
    return _masked(self, x, out, rate, seed, step, layer, row, factor)


def dropout_backward(
    self: "CupyBackend", da: Array, mask: Array, rate: float, seed: int, step: Array, layer: int, row: int,
    factor: Array = None,
) -> Array:  # fmt: skip
    """Compute m again: that takes less time than to write and to read it.

    dropout_forward has left `mask` as it was. So it is filled first if no kernel takes da.
    """
    if self.use_kernels and not da.flags.c_contiguous:
        self.dropout_mask(rate, seed, step, layer, row, mask, factor)
        return self.dropout(da, mask, out=da)
    return _masked(self, da, da, rate, seed, step, layer, row, factor)


def _masked(
    self: "CupyBackend", x: Array | None, out: Array, rate: float, seed: int, step: Array, layer: int,
    row: int, factor: Array | None,
) -> Array:  # fmt: skip
    """out = x ⊙ m, or m if x is None"""
    S = self.suffix(out, x)
    B, O = out.shape
    words = (uint32(word & philox.MASK) for word in (seed, seed >> 32, layer, row))
    keep = *kept_by(rate, master(out.dtype).type), factor
    self.kernels.each(f"dropout_{S}", B * -(-O // 4), x, out, step, int32(B), int32(O), *words, *keep)
    return out


def kept_by(rate: float, real: Any) -> tuple[Any, Any, Any]:
    """Return what a kernel needs of the rate of a dropout: threshold, scale and the rate itself."""
    return uint32(philox.threshold(rate)), real(1.0 / (1.0 - rate)), float64(rate)


def dropout(self: "CupyBackend", x: Array, mask: Array, out: Array) -> Array:
    S = self.suffix(x, mask, out)
    self.kernels.each(f"multiply_{S}", x.size, x, mask, out, int64(x.size))
    return out


def scaled(self: "CupyBackend", x: Array, factor: Array, out: Array) -> Array:
    S = self.suffix(out, wide=(x,))
    self.kernels.each(f"scaled_{S}", x.size, x, factor, out, int64(x.size))
    return out


def take(
    self: "CupyBackend", rows: Array, index: Array, out: Array, mean: Array = None, scale: Array = None
) -> Array:
    kernel = f"{SHORT.get(rows.dtype.name)}_{SHORT.get(out.dtype.name)}"
    fits = self.use_kernels and kernel in GATHERS and index.dtype == int64
    fits = fits and all(a.flags.c_contiguous for a in (rows, index, out))
    fits = fits and all(a is None or (a.dtype == float64 and a.flags.c_contiguous) for a in (mean, scale))
    if not fits:
        raise NoKernelError
    n = len(index)
    sizes = int32(n), int32(out.size // max(n, 1))
    self.kernels.each(f"gather_{kernel}", out.size, rows, index, mean, scale, out, *sizes)
    return out


def embedding(self: "CupyBackend", x: Array, E: Array, levels: Sizes, widths: Sizes, out: Array) -> Array:
    S = self.suffix(x, E, out)
    N, columns, offset = x.shape[1] - len(levels), list[int](), 0
    for k, (n, d) in enumerate(zip(levels, widths, strict=True), N):
        columns += chain.from_iterable((k, n, d, offset + c) for c in range(d))
        offset += n * d
    sizes = int64(out.size), int32(x.shape[1]), int32(out.shape[1]), int32(N)
    self.kernels.each(f"embedding_{S}", out.size, x, E, self.constant(tuple(columns), int64), out, *sizes)
    return out


def embedding_backward(
    self: "CupyBackend", da: Array, x: Array, levels: Sizes, widths: Sizes, dE: Array, dx: Array | None
) -> Array | None:
    S = self.suffix(da, x, wide=(dE,))
    (B, I), K, columns, offset = x.shape, len(levels), list[int](), 0
    left = N = I - K
    for n, d in zip(levels, widths, strict=True):
        columns += left, n, d, offset
        left, offset = left + d, offset + n * d
    dE[...] = 0
    sizes = int64(B), int32(I), int32(da.shape[1]), int32(K)
    self.kernels.rows(
        f"embedding_backward_{S}", B * K, da, x, self.constant(tuple(columns), int64), dE, *sizes
    )
    return gradient_of_numbers(da, N, dx)


def periodic(self: "CupyBackend", x: Array, w: Array, b: Array, A: Array, c: Array, out: Array) -> Array:
    S = self.suffix(x, w, b, A, c, out)
    sizes = int64(out.size), *map(int32, (x.shape[1], *w.shape, c.shape[1]))
    self.kernels.each(f"periodic_{S}", out.size, x, w, b, A, c, out, *sizes)
    return out


def periodic_backward(
    self: "CupyBackend",
    da: Array,
    x: Array,
    w: Array,
    b: Array,
    A: Array,
    dw: Array,
    db: Array,
    dA: Array,
    dc: Array,
    dx: Array | None,
) -> Array | None:
    S = self.suffix(da, x, w, b, A, dx, wide=(dw, db, dA, dc))
    sizes = [*map(int32, (x.shape[1], *w.shape, dc.shape[1]))]
    sums = dw, db, dA, dc, int64(len(x)), *sizes
    self.kernels.rows(f"periodic_sums_{S}", w.size + dc.size, da, x, w, b, A, *sums)
    if dx is not None:
        self.kernels.each(f"periodic_input_{S}", dx.size, da, x, w, b, A, dx, int64(dx.size), *sizes)
    return dx


def column_sum(self: "CupyBackend", A: Array, out: Array) -> Array:
    S = self.suffix(A, wide=(out,))
    k, (B, O) = self.kernels, A.shape
    slabs = k.slabs(B, O)[0]
    if slabs == 1:
        k.columns(S, A, None, None, None, None, out)
        return out
    partial = k.scratch("columns", slabs * O)
    k.columns(S, A, None, None, partial, None)
    k.rows(f"slab_sums_{S}", O, partial, int32(slabs), int32(O), float64(1), None, out)
    return out


def softmax(self: "CupyBackend", z: Array, out: Array) -> Array:
    return _by_row(self, "softmax", z, out, False)


def log_softmax(self: "CupyBackend", z: Array, out: Array) -> Array:
    return _by_row(self, "softmax", z, out, True)


def softmax_backward(self: "CupyBackend", da: Array, a: Array) -> Array:
    return _by_row(self, "softmax_backward", da, a, False)


def log_softmax_backward(self: "CupyBackend", da: Array, a: Array) -> Array:
    return _by_row(self, "softmax_backward", da, a, True)


def _by_row(self: "CupyBackend", kernel: str, x: Array, y: Array, logarithm: bool) -> Array:
    S = self.suffix(x, y)
    B, C = x.shape
    self.kernels.rows(f"{kernel}_{S}", B, x, y, int32(B), int32(C), int32(logarithm))
    return y if kernel == "softmax" else x
