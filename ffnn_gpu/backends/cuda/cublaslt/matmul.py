"""Matrix products with fused epilogues by cublasLt, planned once per shape, for use in CUDA graphs.

Why not cupy.matmul: CuPy refuses every cuBLAS call during a stream capture, although cuBLAS itself supports
capture (cuBLAS documentation, "CUDA Graphs Support"). Here the first product of each kind searches for an
algorithm, which must not happen during a capture. Every later product is one cublasLtMatmul with the stream,
the workspace and the algorithm given. So: run the step once, then capture it.

The bindings are nvmath-python's, imported when the first CublasLt is made. CuPy is an argument. One object
serves one stream at a time, because products on two streams would share one workspace.

Epilogues differ from the reference in three ways: ReLU turns NaN into 0; GELU is the tanh formula and stores
no pre-activation for its derivative; and BGRADA's sum over rows is not in float64, unlike
`Backend.column_sum`.
"""

import importlib
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cuda.cublaslt.batch import describe_batch
from ffnn_gpu.backends.cuda.cublaslt.calls import Calls, Plan
from ffnn_gpu.backends.cuda.cublaslt.problem import Pointers, Problem, describe
from ffnn_gpu.backends.cuda.cublaslt.store import AlgorithmStore, store_path
from ffnn_gpu.backends.cuda.cublaslt.timing import milliseconds
from ffnn_gpu.backends.cuda.probe import INSTALL
from ffnn_gpu.errors import BackendUnavailableError, ConfigurationError, ShapeError

__all__ = ["CublasLt", "Plan", "Problem", "available", "load_bindings"]

MIB = 2**20
ALIGNMENT = 256  # bytes, of the workspace (cuBLAS documentation, cublasLtMatmul)
REFUSALS = (7, 8, 15)  # cublasStatus_t: INVALID_VALUE, ARCH_MISMATCH, NOT_SUPPORTED
# The first version that sums over k = 1 (nvmath-python, linalg/_internal/epilog_protocol.py).
BGRADA_OF_ONE_ROW = 120304


def load_bindings() -> Any:
    """Return the module nvmath.bindings.cublasLt. Raises whatever its import raises."""
    return importlib.import_module("nvmath.bindings.cublasLt")


class RefusedError(BackendUnavailableError):
    """cublasLt cannot compute a product."""


def available() -> tuple[bool, str]:
    """Return whether cublasLt can be called here, and a sentence with the reason. Never raises."""
    try:
        version = load_bindings().get_version()
    except ModuleNotFoundError as error:
        return False, f"cublasLt cannot be called: the module {error.name} is missing; {INSTALL}"
    except Exception as error:  # a library or driver that cannot be loaded raises errors of many types
        return False, f"cublasLt cannot be called: {type(error).__name__}: {' '.join(str(error).split())}"
    return True, f"cublasLt {version} can be called through nvmath-python"


class CublasLt:
    """Products on one device: one handle, one workspace, one plan for each kind of product.

    Args:
        cupy: the module cupy.
        device: the number of the device, which must be current in every call.
        tf32: whether float32 factors may be rounded to TF32 (10 bits of mantissa).
        autotune: the number of algorithms to time at the first product of each kind; 0 uses cublasLt's
            recommendation. The algorithm decides the order of sums. So it is stored, and two runs compute
            equal numbers.
        store: the file of timed algorithms; by default one in the user's cache folder.
        bindings: the module nvmath.bindings.cublasLt, imported by default.

    Attributes:
        store: the timed algorithms, and the timed epilogues of ../products.py.
        close: frees cublasLt's resources; called when this object is collected. A graph captured with it must
            not be launched afterwards, so the holder of the graph must hold this object.
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
            # cuBLAS documentation, cublasSetWorkspace()
            self._size = (32 if int(current.compute_capability) >= 90 else 4) * MIB
            self._memory: list[Any] = []
            self.reserve(1)
            self._calls = Calls(bindings or load_bindings(), self._size)
        self._stream = 0
        self.store = AlgorithmStore(store or self._default_store(device))
        self._plans: dict[Problem, Plan] = {}
        self._refused: dict[Problem, str] = {}
        self._lock = threading.Lock()
        self.close = weakref.finalize(self, _close, self._calls, self._plans)
        self.close.atexit = False  # the driver may be unloaded by then

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

        Or R such products: out (R, N, M), bias (R, M), and an axis R before those of A, of B or of both.

        Args:
            A, B: row-major, or a view that is the transpose of a row-major array; out must not overlap them.
            epilogue: φ: None, "relu" (which turns NaN into 0) or "gelu_tanh".
            bias_gradient: (M,), receives Σ_rows B, which is db for dW = xᵀ δ. Not together with φ or bias.
            stream: a CuPy stream; by default the current one.

        Raises:
            ShapeError, ConfigurationError: the arrays do not fit together.
            RefusedError: cublasLt has no algorithm for this product.
            BackendUnavailableError: the search for an algorithm failed, or the product was not planned before
                a capture.
        """
        of_shape = describe_batch if len(out.shape) == 3 else describe
        problem, pointers = of_shape(A, B, out, epilogue, bias, bias_gradient, self.tf32)
        stream = self.cupy.cuda.get_current_stream() if stream is None else stream
        with self._lock:  # a descriptor is shared: its bias is set, then read by the call
            refusal = self._settle(problem, pointers, stream)
            if refusal:
                raise RefusedError(refusal)
            self._calls.run(self._plans[problem], pointers, self._workspace, stream.ptr)
        return out

    def reserve(self, streams: int) -> None:
        """Allocate a workspace for each of several streams on which products run at the same time."""
        while len(self._memory) < streams:
            self._memory.append(self.cupy.empty(self._size + ALIGNMENT, np.uint8))

    def use(self, stream: int) -> None:
        """Use the workspace of the stream of this number."""
        self._stream = stream

    @property
    def _workspace(self) -> int:
        """The address of the current workspace."""
        address: int = self._memory[self._stream].data.ptr
        return -(-address // ALIGNMENT) * ALIGNMENT

    def attempt(self, *arrays: Any, **options: Any) -> str:
        """Compute `product` and return "", or the reason why it cannot. Raises BackendUnavailableError."""
        try:
            self.product(*arrays, **options)
        except (ShapeError, ConfigurationError, RefusedError) as error:
            return str(error)
        return ""

    # ------------------------------------------------------------------ planning

    def _settle(self, problem: Problem, pointers: Pointers, stream: Any) -> str:
        """Make a plan for `problem` unless it has one. Return the reason if there is none, else ""."""
        if problem not in self._plans and problem not in self._refused:
            if stream.is_capturing():
                raise BackendUnavailableError(
                    f"the product {problem.sentence} has no plan yet, and none can be made while its "
                    "stream is being captured: run the step once before capturing"
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
            if error.status not in REFUSALS:  # a fault of the device; the search is repeated next time
                message = f"cublasLt failed while planning {problem.sentence}: {error}"
                raise BackendUnavailableError(message) from error
        finally:
            if chosen is None:
                self._calls.destroy(plan)
        if chosen is None:
            self._refused[problem] = why
        else:
            self._plans[problem] = chosen

    def _choose(self, plan: Plan, pointers: Pointers, stream: Any) -> Plan | None:
        """Return the plan with the stored, fastest or recommended algorithm; None if there is none."""
        key = repr(plan.problem)
        stored = self.store.get(key) if self.autotune else None
        algorithm = self._calls.stored(plan, stored) if stored else None
        if algorithm is not None:
            return plan.by(algorithm)
        recommended = self._calls.recommended(plan, max(1, self.autotune))
        candidates = [plan.by(algorithm) for algorithm in recommended]
        if not self.autotune:
            return candidates[0] if candidates else None
        stream.synchronize()  # algorithms are timed on another stream
        times = [self._milliseconds(candidate, pointers) for candidate in candidates]
        if min(times, default=np.inf) == np.inf:
            return None
        best = candidates[int(np.argmin(times))]
        self.store.put(key, best.algorithm.tobytes())
        return best

    def _milliseconds(self, plan: Plan, pointers: Pointers) -> float:
        """Return the time of one product; ∞ for an algorithm that fails."""
        current = self.cupy.cuda.get_current_stream
        try:
            return milliseconds(
                self.cupy, lambda: self._calls.run(plan, pointers, self._workspace, current().ptr)
            )
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
