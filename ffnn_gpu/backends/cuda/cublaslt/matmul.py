"""Matrix products with fused epilogues through cublasLt, planned once per shape, so that they can stand in a CUDA graph.

Why not cupy.matmul: CuPy refuses every cuBLAS call while a stream is being captured, although cuBLAS itself can be captured
(cuBLAS documentation, "CUDA Graphs Support"). Here the search for an algorithm, which must not run during a capture, is
made at the first product of each kind; every later one is a single cublasLtMatmul with the stream, the workspace and the
algorithm given. So: run the step once, then capture it.

The bindings come from nvmath-python, imported when the first CublasLt is made; CuPy comes as an argument.
One object serves one stream at a time: products on two streams at once would share one workspace.

What a caller must know of the epilogues: ReLU turns NaN into 0; GELU is the tanh formula, and keeps no pre-activation for
its derivative; the sum over rows of BGRADA is not in float64 as `Backend.column_sum` is.
"""

import importlib
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from ffnn_gpu.backends.cuda.cublaslt.calls import Calls, Plan
from ffnn_gpu.backends.cuda.cublaslt.problem import Pointers, Problem, describe
from ffnn_gpu.backends.cuda.cublaslt.store import AlgorithmStore, store_path
from ffnn_gpu.backends.cuda.cublaslt.timing import milliseconds
from ffnn_gpu.errors import BackendUnavailableError, ConfigurationError, ShapeError

__all__ = ["CublasLt", "Plan", "Problem", "available", "load_bindings"]

MIB = 2**20
ALIGNMENT = 256  # bytes, of the workspace (cuBLAS documentation, cublasLtMatmul)
REFUSALS = (7, 8, 15)  # cublasStatus_t: INVALID_VALUE, ARCH_MISMATCH, NOT_SUPPORTED
BGRADA_OF_ONE_ROW = (
    120304  # the first version that sums over k = 1 (nvmath-python, linalg/_internal/epilog_protocol.py)
)
INSTALL = 'pip install "ffnn_gpu[cuda12x]" or "ffnn_gpu[cuda13x]", whichever CUDA version nvidia-smi shows'
Array = Any


def load_bindings() -> Any:
    """The module nvmath.bindings.cublasLt. Raises whatever its import raises."""
    return importlib.import_module("nvmath.bindings.cublasLt")


def available() -> tuple[bool, str]:
    """Whether cublasLt can be called here, and one sentence that says why or why not. Never raises."""
    try:
        version = load_bindings().get_version()
    except ModuleNotFoundError as error:
        return False, f"cublasLt cannot be called: the module {error.name} is missing; {INSTALL}"
    except Exception as error:  # whatever a library or driver says when it cannot be loaded
        return False, f"cublasLt cannot be called: {type(error).__name__}: {' '.join(str(error).split())}"
    return True, f"cublasLt {version} can be called through nvmath-python"


class CublasLt:
    """Products on one device: one handle, one workspace, one plan for each kind of product.

    Args:
        cupy: the module cupy.
        device: number of the device; it must be current in every call.
        tf32: whether float32 factors may be rounded to TF32 (10 bits of mantissa).
        autotune: how many algorithms to time at the first product of each kind; 0 takes the one cublasLt recommends. The
            choice decides the order of sums, so it is stored: equal numbers in two runs need the same choice.
        store: the file of timed choices; by default one in the user's cache folder.
        bindings: the module nvmath.bindings.cublasLt, imported by default.

    Attributes:
        store: what was timed, of algorithms here and of epilogues in fused_products.py.
        close: frees what cublasLt holds; called when nobody holds this object any more. A graph captured with it must not
            be launched afterwards, so whoever keeps the graph keeps this object.
    """

    def __init__(
        self,
        cupy: Any,
        device: int = 0,
        *,
        tf32: bool = False,
        autotune: int = 0,
        store: Path | None = None,
        bindings: Any = None,
    ) -> None:
        self.cupy, self.tf32, self.autotune = cupy, tf32, autotune
        with cupy.cuda.Device(device) as current:
            size = (
                32 if int(current.compute_capability) >= 90 else 4
            ) * MIB  # cuBLAS documentation, cublasSetWorkspace()
            self._memory = cupy.empty(size + ALIGNMENT, np.uint8)
            workspace = -(-self._memory.data.ptr // ALIGNMENT) * ALIGNMENT
            self._calls = Calls(bindings or load_bindings(), workspace, size)
        self.store = AlgorithmStore((store or self._default_store(device)) if autotune else None)
        self._plans: dict[Problem, Plan] = {}
        self._refused: dict[Problem, str] = {}
        self._lock = threading.Lock()
        self.close = weakref.finalize(self, _close, self._calls, self._plans)
        self.close.atexit = False  # the driver may be gone by then

    def product(
        self,
        A: Array,
        B: Array,
        out: Array,
        epilogue: str | None = None,
        bias: Array | None = None,
        bias_gradient: Array | None = None,
        stream: Any = None,
    ) -> Array:
        """out = φ(A B + bias)        A (N, K), B (K, M), out (N, M) row-major, bias (M,)

        Args:
            A, B: row-major, or a view that is the transpose of a row-major array; out must not overlap them.
            epilogue: φ: None, "relu" (which turns NaN into 0) or "gelu_tanh".
            bias_gradient: (M,), receives Σ_rows B; for dW = xᵀ δ that is db. Not together with φ or bias.
            stream: a CuPy stream; by default the current one.

        Raises:
            ShapeError, ConfigurationError: the arrays do not fit together; says how.
            BackendUnavailableError: cublasLt has no algorithm for it, or failed while looking for one, or it was not planned
                before a capture.
        """
        problem, pointers = describe(A, B, out, epilogue, bias, bias_gradient, self.tf32)
        refusal = self._make(problem, pointers, stream)
        if refusal:
            raise BackendUnavailableError(refusal)
        return out

    def attempt(
        self,
        A: Array,
        B: Array,
        out: Array,
        epilogue: str | None = None,
        bias: Array | None = None,
        bias_gradient: Array | None = None,
        stream: Any = None,
    ) -> str:
        """Like `product`, but says why it is not made where cublasLt cannot make it, and "" where it is made.

        Raises BackendUnavailableError for a product that was not planned before a capture, and for a fault of the device.
        """
        try:
            problem, pointers = describe(A, B, out, epilogue, bias, bias_gradient, self.tf32)
        except (ShapeError, ConfigurationError) as error:
            return str(error)
        return self._make(problem, pointers, stream)

    def _make(self, problem: Problem, pointers: Pointers, stream: Any) -> str:
        """Compute the product; or do not, and return why."""
        stream = self.cupy.cuda.get_current_stream() if stream is None else stream
        with self._lock:  # a descriptor is shared: its bias is set, then read by the call
            refusal = self._settle(problem, pointers, stream)
            if not refusal:
                self._calls.run(self._plans[problem], pointers, stream.ptr)
        return refusal

    # ------------------------------------------------------------------ planning

    def _settle(self, problem: Problem, pointers: Pointers, stream: Any) -> str:
        """Make sure that `problem` has a plan; else return the sentence that says why it has none."""
        if problem not in self._plans and problem not in self._refused:
            if stream.is_capturing():
                raise BackendUnavailableError(
                    f"the product {problem.sentence} has no plan yet, and none can be made while its stream is being "
                    "captured: run the step once before capturing"
                )
            self._search(problem, pointers, stream)
        return self._refused.get(problem, "")

    def _search(self, problem: Problem, pointers: Pointers, stream: Any) -> None:
        """Put `problem` into `_plans` or `_refused`."""
        why = f"cublasLt {self._calls.version} cannot compute {problem.sentence}"
        if problem.epilogue == "BGRADA" and problem.k == 1 and self._calls.version < BGRADA_OF_ONE_ROW:
            self._refused[problem] = f"{why}; version {BGRADA_OF_ONE_ROW} can"
            return
        plan, chosen = self._calls.describe(problem, pointers), None
        try:
            chosen = self._choose(plan, pointers, stream)
        except self._calls.lt.cuBLASLtError as error:
            why = f"{why}: {error}"
            if error.status not in REFUSALS:  # a fault of the device: not hidden, and asked again
                raise BackendUnavailableError(
                    f"cublasLt failed while planning {problem.sentence}: {error}"
                ) from error
        finally:
            if chosen is None:
                self._calls.destroy(plan)
        if chosen is None:
            self._refused[problem] = why
        else:
            self._plans[problem] = chosen

    def _choose(self, plan: Plan, pointers: Pointers, stream: Any) -> Plan | None:
        """The plan with the stored, the fastest or the recommended algorithm; None where there is none."""
        key = repr(plan.problem)
        stored = self.store.get(key)
        algorithm = self._calls.stored(plan, stored) if stored else None
        if algorithm is not None:
            return plan.by(algorithm)
        candidates = [
            plan.by(algorithm) for algorithm in self._calls.recommended(plan, max(1, self.autotune))
        ]
        if not self.autotune:
            return candidates[0] if candidates else None
        stream.synchronize()  # they are timed on a stream of their own
        times = [self._milliseconds(candidate, pointers) for candidate in candidates]
        if min(times, default=np.inf) == np.inf:
            return None
        best = candidates[int(np.argmin(times))]
        self.store.put(key, best.algorithm.tobytes())
        return best

    def _milliseconds(self, plan: Plan, pointers: Pointers) -> float:
        """The time of one product; ∞ for an algorithm that fails."""
        current = self.cupy.cuda.get_current_stream
        try:
            return milliseconds(self.cupy, lambda: self._calls.run(plan, pointers, current().ptr))
        except self._calls.lt.cuBLASLtError:
            return np.inf

    def _default_store(self, device: int) -> Path | None:
        runtime = self.cupy.cuda.runtime
        gpu = runtime.getDeviceProperties(device)["name"].decode(errors="replace")
        try:
            return store_path(gpu, runtime.driverGetVersion(), self._calls.version)
        except RuntimeError:  # a user without a home folder
            return None


def _close(calls: Calls, plans: dict[Problem, Plan]) -> None:
    for plan in plans.values():
        calls.destroy(plan)
    plans.clear()
    calls.close()
