"""Matrix products through cublasLt where it can make them, with an epilogue where that is exact enough and faster.

    a  = φ(x W + b)         b in the product for every type, added before the one rounding; φ = ReLU or tanh-GELU too,
                            into 16 bits and where no pre-activation is asked for
    dW = xᵀ δ,  db = Σ δ    in one pass over δ for 16-bit factors
    dx = δ Wᵀ               plain

Why float32 and float64 have neither φ nor db from cublasLt: its ReLU turns NaN into 0, its GELU rounds once more, and its
sum over rows is not in float64. They keep what reference.py promises, by a kernel after the product.

Why measured: an epilogue can be slower than the plain product and a kernel (it depends on the GPU and on cublasLt's
version). With autotune both ways are timed at the first product of each shape and type; without it the epilogue is taken.

What cublasLt does not make (no rows, strange strides, types that do not fit, a refusal of its own) CuPy makes, as it makes
everything where nvmath-python is missing; CuPy's products cannot stand in a graph.

Not done: tensor cores are fastest where a row has a multiple of 16 bytes. A layer of 10 outputs has not; nothing is padded.
"""

import threading
from collections.abc import Callable
from typing import Any

from ffnn_gpu.backends.cuda.cublaslt import products as library
from ffnn_gpu.backends.cuda.cublaslt.problem import ACTIVATIONS, HALF
from ffnn_gpu.backends.cuda.cublaslt.store import CHOICE
from ffnn_gpu.backends.cuda.cublaslt.timing import milliseconds
from ffnn_gpu.backends.cuda.operations import PHI, FusedBackend
from ffnn_gpu.errors import BackendUnavailableError


class FusedProducts(FusedBackend):
    """FusedBackend with products by cublasLt.

    Args:
        index: of the device.
        tf32: whether cublasLt may round float32 factors to TF32 (10 bits of mantissa).
        autotune: how many algorithms are timed at the first product of each kind, and epilogues against kernels; 0: nothing.
    """

    def __init__(self, xp: Any, index: int, tf32: bool, autotune: int) -> None:
        super().__init__(xp)
        self.index, self.tf32, self.autotune = index, tf32, autotune
        usable, self._why = library.available()
        self._bindings = library.load_bindings() if usable else None
        self._own = threading.local()

    @property
    def products(self) -> str:
        """One sentence: which library makes the matrix products, and why."""
        if self._bindings is None:
            return f"cupy.matmul, which no CUDA graph can hold: {self._why}"
        algorithms = f"fastest of {self.autotune} algorithms" if self.autotune else "recommended algorithms"
        return f"cublasLt, {algorithms}, float32 {'as TF32' if self.tf32 else 'unrounded'}: {self._why}"

    def can_capture(self) -> tuple[bool, str]:
        """Whether a step of this backend can be captured in a CUDA graph, and the sentence that says why or why not."""
        return self._bindings is not None, self.products

    def thread_memory(self) -> tuple[Any, ...]:
        """What this thread's products and kernels use besides their arguments; a graph recorded here keeps it alive."""
        return self.cublaslt, *self.kernels.scratches()

    @property
    def cublaslt(self) -> library.CublasLt | None:
        """What makes this thread's products; None where nvmath-python is missing.

        One for each thread, like Kernels.scratch, because it serves one stream at a time. It lives as long as its thread
        or whoever else holds it, which a captured graph must.
        """
        if self._bindings is None:
            return None
        if not hasattr(self._own, "made"):
            if self.xp.cuda.get_current_stream().is_capturing():
                raise BackendUnavailableError(
                    "this thread has made no product yet: run the step once before capturing"
                )
            options = {"tf32": self.tf32, "autotune": self.autotune, "bindings": self._bindings}
            self._own.made = library.CublasLt(self.xp, self.index, **options)
        return self._own.made

    def gemm(self, A: Any, B: Any, out: Any) -> Any:
        lt = self.cublaslt
        return super().gemm(A, B, out) if lt is None or lt.attempt(A, B, out) else out

    def affine(self, x: Any, W: Any, b: Any | None, phi: Any, out: Any, s: Any | None = None) -> Any:
        lt, otherwise, S = self.cublaslt, super().affine, self._suffix(out, s)
        linear = phi.name == "identity"
        whole = s is None and (linear or (phi.name in ACTIVATIONS and out.dtype.name in HALF))
        if lt is None or b is None or not (whole or (S is not None and phi.name in PHI)):
            return otherwise(x, W, b, phi, out, s)

        def fused() -> bool:
            if lt.attempt(x, W, out, phi.name if whole and not linear else None, b):
                return False
            if S is not None and not whole:
                self._bias_activation(S, out, None, s, phi)
            return True

        name = f"{phi.name} of {x.shape} × {W.shape} in {out.dtype.name}, s {'kept' if s is not None else 'not kept'}"
        self._faster(lt, name, fused, lambda: otherwise(x, W, b, phi, out, s))
        return out

    def affine_gradients(self, x: Any, delta: Any, dW: Any, db: Any | None) -> None:
        lt, otherwise = self.cublaslt, super().affine_gradients
        if lt is None or db is None or delta.dtype.name not in HALF:
            otherwise(x, delta, dW, db)
            return
        name = f"gradients of {x.shape} × {delta.shape} in {delta.dtype.name} into {dW.dtype.name}"

        def fused() -> bool:
            return not lt.attempt(x.T, delta, dW, bias_gradient=db)

        self._faster(lt, name, fused, lambda: otherwise(x, delta, dW, db))

    def _faster(
        self, lt: library.CublasLt, name: str, fused: Callable[[], bool], plain: Callable[[], Any]
    ) -> None:
        """Run `fused`; or `plain`, where cublasLt refuses the epilogue or a measurement found plain faster.

        Both write the same arrays and read others, so each may run any number of times; the one chosen runs last.
        """
        key = f"{CHOICE}{name}{', TF32' * self.tf32}"
        unknown = self.autotune and lt.store.get(key) is None
        if unknown and not self.xp.cuda.get_current_stream().is_capturing() and fused():
            faster = milliseconds(self.xp, fused) <= milliseconds(self.xp, plain)
            lt.store.put(key, bytes([faster]))
        if lt.store.get(key) == bytes([False]) or not fused():
            plain()
