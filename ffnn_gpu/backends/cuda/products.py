"""Matrix products by cublasLt if it can compute them, with an epilogue if that is exact enough and faster.

    a  = φ(x W + b)         b in the product for every type, added before the one rounding;
                            φ = ReLU or tanh-GELU for 16-bit outputs without a pre-activation
    dW = xᵀ δ,  db = Σ δ    in one pass over δ for 16-bit factors
    dx = δ Wᵀ               plain

Why float32 and float64 get neither φ nor db from cublasLt: its ReLU turns NaN into 0, its GELU rounds once
more, and its sum over rows is not in float64. A kernel after the product keeps the reference's definition.

Why measured: an epilogue can be slower than the plain product and a kernel; that depends on the GPU and on
cublasLt's version. With autotune both are timed at the first product of each shape and type. Without it the
epilogue is used, except for gradients of LONG_SUM rows or more: they are always timed. Why: if BGRADA cannot
split the sum over rows, dW of a narrow layer runs on few multiprocessors, and takes many times as long
(4042 → 6600 ms in CUDALibrarySamples issue 90).

CuPy computes the products that cublasLt refuses (no rows, unusual strides, dtypes that do not fit), and all
products if nvmath-python is missing. A CUDA graph cannot contain CuPy's products.

Not done: tensor cores are fastest if the bytes of a row are a multiple of 16. A layer of 10 outputs is not
padded to that.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cuda import formulas, operations
from ffnn_gpu.backends.cuda.cublaslt.matmul import CublasLt
from ffnn_gpu.backends.cuda.cublaslt.problem import ACTIVATIONS, HALF
from ffnn_gpu.backends.cuda.cublaslt.store import CHOICE
from ffnn_gpu.backends.cuda.cublaslt.timing import milliseconds
from ffnn_gpu.backends.cuda.kernels import or_reference
from ffnn_gpu.backends.reference.backend import Backend

if TYPE_CHECKING:
    from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend


LONG_SUM = 4096  # rows

_affine_by_kernels = or_reference(operations.affine)


def gemm(self: "CupyBackend", A: Array, B: Array, out: Array) -> Array:
    lt = self.cublaslt
    return operations.gemm(self, A, B, out) if lt is None or lt.attempt(A, B, out) else out


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
    if self.cublaslt is None or b is None or factor != 1:
        return operations.affine(self, x, W, b, phi, out, s, factor)
    fastest_affine(self, x, W, b, phi, out, s, partial(_affine_by_kernels, self, x, W, b, phi, out, s))
    return out


def fastest_affine(
    self: "CupyBackend", x: Array, W: Array, b: Array, phi: Any, out: Array, s: Array | None, plain: Any
) -> None:
    """Compute φ(x W + b) by an epilogue, or by `plain` if that is faster or the only way.

    Arrays of several products have an axis of them in front.
    """
    lt, linear = cast(CublasLt, self.cublaslt), phi.name == "identity"
    whole = s is None and (linear or (phi.name in ACTIVATIONS and out.dtype.name in HALF))
    kernel = None if whole else formulas.bias_activation(self.suffix(out, s), phi)

    def fused() -> bool:
        if lt.attempt(x, W, out, phi.name if whole and not linear else None, b):
            return False
        if kernel is not None:
            operations.bias_activation(self, kernel, out, None, s)
        return True

    stored = "kept" if s is not None else "not kept"
    name = f"{phi.name} of {x.shape} × {W.shape} in {out.dtype.name}, s {stored}"
    _run_faster(self, lt, name, fused, plain, self.autotune > 0)


def affine_gradients(self: "CupyBackend", x: Array, delta: Array, dW: Array, db: Array | None) -> None:
    plain = partial(Backend.affine_gradients, self, x, delta, dW, db)
    fastest_gradients(self, x.T, delta, dW, db, plain)


def fastest_gradients(
    self: "CupyBackend", turned: Array, delta: Array, dW: Array, db: Array | None, plain: Any
) -> None:
    """Compute dW = xᵀ δ and db by an epilogue, or by `plain` if that is faster or the only way.

    turned: xᵀ. Arrays of several products have an axis of them in front.
    """
    lt = self.cublaslt
    if lt is None or db is None or delta.dtype.name not in HALF:
        plain()
        return

    def fused() -> bool:
        return not lt.attempt(turned, delta, dW, bias_gradient=db)

    name = f"gradients of {turned.shape[::-1]} × {delta.shape} in {delta.dtype.name} into {dW.dtype.name}"
    _run_faster(self, lt, name, fused, plain, self.autotune > 0 or delta.shape[-2] >= LONG_SUM)


def _run_faster(
    self: "CupyBackend",
    lt: CublasLt,
    name: str,
    fused: Callable[[], bool],
    plain: Callable[[], Any],
    timed: bool,
) -> None:
    """Run `fused`, or `plain` if cublasLt refuses the epilogue or a measurement found `plain` faster.

    timed: whether to measure them at the first use.

    Both write the same arrays and read others, so each may run any number of times. The chosen one runs last.
    """
    key = f"{CHOICE}{name}{', TF32' * self.tf32}"
    unknown = timed and lt.store.get(key) is None
    if unknown and not self.xp.cuda.get_current_stream().is_capturing() and fused():
        faster = milliseconds(self.xp, fused) <= milliseconds(self.xp, plain)
        lt.store.put(key, bytes([faster]))
    if (timed and lt.store.get(key) == bytes([False])) or not fused():
        plain()
