"""The CPU with LLVM: NumpyBackend, with operations as compiled commands that the thread pool runs.

docs/cpu_kernels.md has the measurements. NumpyBackend's operations run instead for complex arrays, for
formulas that cannot be compiled, for arguments that no command accepts (it also words the errors), and where
llvmlite does not work.
"""

import functools
import inspect
import logging
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.numpy_backend import NumpyBackend
from ffnn_gpu.backends.cpu.recording.cores import require_threads
from ffnn_gpu.backends.reference.updates import Update
from ffnn_gpu.errors import FfnnGpuError

log = logging.getLogger("ffnn_gpu")
LARGE_PRODUCT = 1 << 18  # multiplications; a BLAS shares more of them among its threads
SMALL = 1 << 12  # elements; a BLAS adds up more of them on several threads
FLOATS = np.dtype(np.float32), np.dtype(np.float64)


def at_once(name: str) -> Callable[..., Any]:
    """Return the operation of this name as commands that run at once."""
    plain = getattr(NumpyBackend, name)

    @functools.wraps(plain)
    def run(self: "CompiledBackend", *args: Any, **named: Any) -> Any:
        if self.immediate is not None:
            try:
                return getattr(self.immediate.Immediate(self), name)(*args, **named)
            except self.immediate.NotRecordedError:
                pass
        return plain(self, *args, **named)

    return run


def rule_at_once(name: str) -> Callable[..., None]:
    """Return the update rule of this name as a command that runs at once."""
    plain, run = getattr(NumpyBackend, name), at_once(name)
    signature = inspect.signature(plain)

    @functools.wraps(plain)
    def run_rule(self: "CompiledBackend", update: Update, *settings: Any, **named: Any) -> None:
        if named:
            settings = signature.bind(self, update, *settings, **named).args[2:]
        run(self, update, *settings)

    return run_rule


class CompiledBackend(NumpyBackend):
    """Every operation on host arrays, with commands that compute in float32 or float64.

    Args:
        threads: the number of threads, from 1 to 1,024; None for the number that the environment gives.
    """

    def __init__(self, threads: int | None = None) -> None:
        super().__init__()
        if threads is not None:
            require_threads(threads)
        self.threads = threads

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.threads,)

    def alone(self) -> "CompiledBackend":
        """Return a backend of one thread, which waits for no other. Several threads of Python may use it."""
        one = CompiledBackend(threads=1)
        one.reason = self.reason
        return one

    @property
    def runs_at_once(self) -> int:  # type: ignore[override]
        """The number of threads, if operations are compiled: NumPy's own products have threads already."""
        return 1 if self.immediate is None else int(self.recording.threads_of(self))

    @cached_property
    def immediate(self) -> Any:
        """The file recording/immediate, imported at first use: with llvmlite it takes 50 ms.

        None if llvmlite does not work.
        """
        try:
            from ffnn_gpu.backends.cpu.recording import immediate

            immediate.try_out(self)
        except FfnnGpuError:  # an invalid setting
            raise
        except Exception as error:  # llvmlite does not fit this NumPy or this package
            log.info("operations run by NumPy, because llvmlite does not work: %r", error)
            return None
        return immediate

    # ------------------------------------------------------------------ recording

    @cached_property
    def recording(self) -> Any:
        """The file recorded_step. It imports llvmlite."""
        from ffnn_gpu.backends.cpu.recording import recorded_step

        return recorded_step

    @property
    def recorded(self) -> str:
        """A sentence for people: what is recorded on this machine."""
        if self.immediate is None:
            return "nothing: llvmlite does not work here"
        return str(self.recording.recorded())

    @property
    def products(self) -> str | None:
        """A sentence for people: how matrix products are computed. None for NumPy's own."""
        return None if self.immediate is None else str(self.recording.products())

    def run_step(self, code: Callable[..., Any], *args: Any) -> Any:
        if self.immediate is None or type(self) is not CompiledBackend:
            return code(*args)
        return self.recording.run_step(self, code, *args)

    def run_forward(self, code: Callable[..., Any], network: Any, x: Array, ws: Any) -> Any:
        if self.immediate is None or ws.training or type(self) is not CompiledBackend:
            return code(network, x, ws)
        return self.recording.run_forward(self, code, network, x, ws)

    # ------------------------------------------------------------------ rows

    def take(self, rows: Any, index: Any, out: Any, mean: Any = None, scale: Any = None) -> Any:
        """NumPy copies rows of out's type faster than a command."""
        as_they_are = mean is None and rows.dtype == out.dtype
        return (NumpyBackend.take if as_they_are else _take)(self, rows, index, out, mean, scale)

    def all_finite(self, array: Any) -> bool:
        """Return whether every value is finite.

        Why the sum of squares first: where it is finite, every value is. A row of 784: 5 µs before, 2 µs now.
        """
        plain = type(array) is np.ndarray and array.size and self.immediate is not None
        if plain and array.size <= SMALL and array.dtype in FLOATS and math.isfinite(np.vdot(array, array)):
            return True
        found = self.immediate.all_finite(array) if plain else None
        return super().all_finite(array) if found is None else found

    def require_finite(self, array: Any, what: str, dtype: Any = None) -> None:
        same = type(array) is np.ndarray and array.dtype in FLOATS and dtype in (None, array.dtype)
        if not same or not self.all_finite(array):
            super().require_finite(array, what, dtype)  # which words the error

    # ------------------------------------------------------------------ operations

    def gemm(self, A: Array, B: Array, out: Array) -> Any:
        large = A.ndim == B.ndim == 2 and A.size * B.shape[-1] > LARGE_PRODUCT
        return (_large_gemm if large else NumpyBackend.gemm)(self, A, B, out)

    def parts_of_sum(self, K: int) -> list[tuple[int, int]]:
        if self.immediate is None:
            return super().parts_of_sum(K)
        from ffnn_gpu.backends.cpu.loops import matrix_product

        return matrix_product.parts_of_sum(K)

    affine, column_sum = at_once("affine"), at_once("column_sum")
    activate, activation_backward = at_once("activate"), at_once("activation_backward")
    dropout_mask = at_once("dropout_mask")
    layer_norm, layer_norm_backward = at_once("layer_norm"), at_once("layer_norm_backward")
    batch_norm, batch_norm_backward = at_once("batch_norm"), at_once("batch_norm_backward")
    embedding, embedding_backward = at_once("embedding"), at_once("embedding_backward")
    scale_columns, scale_columns_backward = at_once("scale_columns"), at_once("scale_columns_backward")
    parametric, parametric_backward = at_once("parametric"), at_once("parametric_backward")
    periodic, periodic_backward = at_once("periodic"), at_once("periodic_backward")
    cosines, cosines_backward = at_once("cosines"), at_once("cosines_backward")
    piecewise_linear = at_once("piecewise_linear")
    piecewise_linear_backward = at_once("piecewise_linear_backward")
    softmax, softmax_backward = at_once("softmax"), at_once("softmax_backward")
    log_softmax, log_softmax_backward = at_once("log_softmax"), at_once("log_softmax_backward")
    softmax_cross_entropy, cross_entropy = at_once("softmax_cross_entropy"), at_once("cross_entropy")
    pointwise_loss = at_once("pointwise_loss")
    squared_norm, average = at_once("squared_norm"), at_once("average")

    sgd, rmsprop, adagrad = rule_at_once("sgd"), rule_at_once("rmsprop"), rule_at_once("adagrad")
    adam, nadam, lion = rule_at_once("adam"), rule_at_once("nadam"), rule_at_once("lion")
    own_rule, muon = rule_at_once("own_rule"), rule_at_once("muon")
    muon_direction, muon_step = rule_at_once("muon_direction"), rule_at_once("muon_step")
    orthogonalized = at_once("orthogonalized")

    def dropout(self, x: Array, mask: Array, out: Array) -> Any:
        return super().dropout(x, mask, out) if x.itemsize == 2 else np.multiply(x, mask, out=out)


_large_gemm, _take = at_once("gemm"), at_once("take")
