"""A CUDA GPU: matrix products by cublasLt, kernels of kernels.cu, and otherwise the reference on CuPy.

`CupyBackend` begins with the list of operations that are computed elsewhere than in the reference, and where.

Why every operation makes its device current: CuPy launches a kernel on the current device, and refuses or
warns if an array is on another one. So "cupy:0" and "cupy:1" work side by side in one process, provided that
only operations touch arrays. Taking a view needs no device.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.arrays.boundary import host_array
from ffnn_gpu.arrays.precision import loss_gradient, master
from ffnn_gpu.backends.cuda import losses, normalization, operations, updates
from ffnn_gpu.backends.cuda import products as matrix_products
from ffnn_gpu.backends.cuda.branches import Branches
from ffnn_gpu.backends.cuda.cublaslt import matmul
from ffnn_gpu.backends.cuda.fused import waiting as fused
from ffnn_gpu.backends.cuda.fused.waiting import PASSED, Waiting
from ffnn_gpu.backends.cuda.graphs import CapturedStep
from ffnn_gpu.backends.cuda.kernels import SUFFIX, Kernels, NoKernelError, or_reference
from ffnn_gpu.backends.cuda.members import PackOnDevice
from ffnn_gpu.backends.cuda.probe import load_cupy
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.errors import BackendUnavailableError, DeviceOutOfMemoryError

# Operations that launch nothing; the function that `capture` returns makes the device current itself.
HOST_ONLY = ("dtype", "owns", "require_own", "capture", "steps_per_launch", "pack", "member")
ROWS_PER_LAUNCH, MOST_STEPS_PER_LAUNCH = 2**16, 16
Class = TypeVar("Class", bound=type)


def _is_on_a_gpu(array: Any) -> bool:
    """Return whether this is an array of CuPy, PyTorch, JAX or Numba on any CUDA device."""
    return hasattr(array, "__cuda_array_interface__")


def operations_on_device(cls: Class) -> Class:
    """Class decorator: run each operation, inherited ones included, through `CupyBackend.on_device`.

    If there is no kernel for its arguments, run the reference's.
    """

    def with_device(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        complete = or_reference(operation)

        @functools.wraps(operation)
        def run(self: "CupyBackend", *args: Any, **kwargs: Any) -> Any:
            waiting = self.waiting
            if waiting is not None and name not in PASSED:
                return waiting.take(name, args, kwargs)
            branches = self.branches
            if branches is not None:
                return self.on_device(branches.run, name, operation, *args, **kwargs)
            return self.on_device(complete, self, *args, **kwargs)

        return run

    for name in dir(Backend):
        operation = getattr(cls, name)
        if callable(operation) and not name.startswith("_") and name not in HOST_ONLY:
            setattr(cls, name, with_device(name, operation))
    return cls


@operations_on_device
class CupyBackend(Backend):
    """Every operation on arrays of one CUDA device.

    Args:
        index: of the device.
        tf32: whether cublasLt may round float32 factors to TF32 (10 bits of mantissa).
        autotune: the number of algorithms to time at the first product of each kind, and whether to time
            epilogues against kernels; 0 times nothing.
    """

    # products by cublasLt, or CuPy
    gemm, affine = matrix_products.gemm, matrix_products.affine
    affine_gradients = matrix_products.affine_gradients

    # kernels of fused/
    run_step, run_forward = fused.run_step, fused.run_forward

    # kernels of kernels.cu
    activate, activation_backward = operations.activate, operations.activation_backward
    dropout_mask, dropout, scaled = operations.dropout_mask, operations.dropout, operations.scaled
    dropout_forward, dropout_backward = operations.dropout_forward, operations.dropout_backward
    take, column_sum = operations.take, operations.column_sum
    embedding, embedding_backward = operations.embedding, operations.embedding_backward
    periodic, periodic_backward = operations.periodic, operations.periodic_backward
    softmax, softmax_backward = operations.softmax, operations.softmax_backward
    log_softmax, log_softmax_backward = operations.log_softmax, operations.log_softmax_backward
    layer_norm, layer_norm_backward = normalization.layer_norm, normalization.layer_norm_backward
    batch_norm, batch_norm_backward = normalization.batch_norm, normalization.batch_norm_backward
    batch_norm_inference = normalization.batch_norm_inference
    pointwise_loss, cross_entropy = losses.pointwise_loss, losses.cross_entropy
    softmax_cross_entropy = losses.softmax_cross_entropy
    advance, advance_product = updates.advance, updates.advance_product
    clip_by_value, gradient_factor = updates.clip_by_value, updates.gradient_factor
    sgd, rmsprop, adagrad = updates.sgd, updates.rmsprop, updates.adagrad
    adam, nadam, lion, average = updates.adam, updates.nadam, updates.lion, updates.average
    own_rule, orthogonalized = updates.own_rule, updates.orthogonalized
    muon_direction, muon_step = updates.muon_direction, updates.muon_step

    name = "cupy"
    steps_between_reads = 256
    records_passes = False
    use_graphs = True  # False runs plain steps, for comparison
    use_kernels = True  # False runs the reference's array functions, for comparison
    use_branches = True  # False captures every step as a chain, for comparison
    use_fused = True  # False runs narrow networks layer by layer, for comparison

    def __init__(self, index: int = 0, *, tf32: bool = False, autotune: int = 0) -> None:
        super().__init__(load_cupy())
        self.index, self.tf32, self.autotune = index, tf32, autotune
        self.name = "cupy" if index == 0 else f"cupy:{index}"
        self.device, self.kernels = self.xp.cuda.Device(index), Kernels(self.xp)
        usable, self._why = matmul.available()
        self._bindings = matmul.load_bindings() if usable else None
        self._of_thread = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(CupyBackend, tf32=self.tf32, autotune=self.autotune), (self.index,)

    # ------------------------------------------------------------------ the device

    def on_device(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return work(…) with this backend's device current.

        Raises DeviceOutOfMemoryError if memory runs out.
        """
        try:
            with self.device:
                return work(*args, **kwargs)
        except self.xp.cuda.memory.OutOfMemoryError as error:
            free, total = self.device.mem_info
            raise DeviceOutOfMemoryError(
                f"GPU {self.index} has no room: {str(error).rstrip('.')}; {free:,} of {total:,} bytes are "
                "free. Use a smaller batch_size, accumulate=… for micro-batches, or a smaller network"
            ) from error

    def may_wait(self) -> bool:
        return not self.xp.cuda.get_current_stream().is_capturing()

    def synchronize(self) -> None:
        # Why the stream alone: synchronizing the device would break a capture that another thread has under
        # way.
        self.xp.cuda.get_current_stream().synchronize()

    def memory(self) -> tuple[int, int]:
        free, total = self.device.mem_info
        return free, total

    # ------------------------------------------------------------------ arrays

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        if not _is_on_a_gpu(array):
            array = host_array(array)
            if dtype is not None and array.dtype.itemsize > np.dtype(dtype).itemsize:
                array = array.astype(dtype)  # half the transfer; and CuPy has no long double
        return self.xp.ascontiguousarray(self.xp.asarray(array), dtype=dtype)

    def admit(self, array: Any) -> Any:
        return self.asarray(array) if _is_on_a_gpu(array) else super().admit(array)

    def owns(self, array: Any) -> bool:
        return isinstance(array, self.xp.ndarray) and array.device.id == self.index

    def to_host(self, array: Array) -> HostArray:
        host: HostArray = self.xp.asnumpy(array)
        return host

    # ------------------------------------------------------------------ CUDA graphs

    def capture(
        self, step: Callable[..., Any], operations_only: bool = False, repeats: bool = False
    ) -> Callable[..., Any]:
        overlap = operations_only and self.use_branches
        captured = CapturedStep(self, step, overlap, repeats) if self.use_graphs else step
        return functools.partial(self.on_device, captured)

    def steps_per_launch(self, rows: int) -> int:
        return max(1, min(MOST_STEPS_PER_LAUNCH, ROWS_PER_LAUNCH // max(rows, 1))) if self.use_graphs else 1

    def can_capture(self) -> tuple[bool, str]:
        """Return whether a CUDA graph can contain this backend's steps, and a sentence with the reason."""
        return self._bindings is not None, self.products

    @property
    def branches(self) -> Branches | None:
        """The branches of this thread's capture; None outside of one, and in the capture of a chain."""
        found: Branches | None = getattr(self._of_thread, "branches", None)
        return found

    @contextlib.contextmanager
    def branching(self, streams: list[Any]) -> Iterator[Branches]:
        """Distribute this thread's operations over these streams. The first one captures."""
        self._of_thread.branches = branches = Branches(self, streams)
        try:
            yield branches
            branches.join()
        finally:
            del self._of_thread.branches

    def reserve(self, streams: int) -> None:
        """Make scratch memory for this number of streams, before a capture."""
        self.kernels.reserve(streams)
        if self.cublaslt is not None:
            self.cublaslt.reserve(streams)

    @contextlib.contextmanager
    def stream_number(self, number: int) -> Iterator[None]:
        """Use the scratch memory of a stream."""
        self.kernels.use(number)
        if self.cublaslt is not None:
            self.cublaslt.use(number)
        try:
            yield
        finally:
            self.kernels.use(0)
            if self.cublaslt is not None:
                self.cublaslt.use(0)

    def thread_memory(self) -> tuple[Any, ...]:
        """Return the memory that this thread's kernels and products use. A graph must keep it alive."""
        return self.cublaslt, *self.kernels.scratches()

    # ------------------------------------------------------------------ kernels and products

    def pack(self, R: int) -> PackOnDevice:
        return PackOnDevice(self, R)

    def table(self, numbers: tuple[int, ...]) -> Array:
        """Return these int64 on the device; None if they are new, and a capture forbids to copy them."""
        known = (numbers, np.dtype(np.int64)) in self._constants
        return self.constant(numbers, np.int64) if known or self.may_wait() else None

    @property
    def waiting(self) -> Waiting | None:
        """The operations of this thread's pass that wait to be launched together; None if none may."""
        found: Waiting | None = getattr(self._of_thread, "waiting", None)
        return found

    @waiting.setter
    def waiting(self, waiting: Waiting | None) -> None:
        self._of_thread.waiting = waiting

    @functools.cached_property
    def multiprocessors(self) -> int:
        return int(self.device.attributes["MultiProcessorCount"])

    @functools.cached_property
    def shared_memory(self) -> int:
        """The bytes of shared memory that a block may have; 0 if there are no tensor cores for bfloat16."""
        has_cores = self.device.attributes["ComputeCapabilityMajor"] >= 8
        return int(self.device.attributes["MaxSharedMemoryPerBlockOptin"]) if has_cores else 0

    def require_kernels(self) -> None:
        if not self.use_kernels:
            raise NoKernelError

    def suffix(self, first: Array, *others: Array, wide: tuple[Any, ...] = (), dz: Array = None) -> str:
        """Return the suffix of the kernels of the first array's dtype ("f32", …), or raise NoKernelError.

        Every array must be contiguous or None: `others` of the same dtype, `wide` of its master dtype, and
            `dz` of the dtype of a loss's gradient.
        """
        dtype = first.dtype
        groups = (dtype, (first, *others)), (master(dtype), wide), (loss_gradient(dtype), (dz,))
        fit = all(
            a is None or (a.dtype == wanted and a.flags.c_contiguous)
            for wanted, arrays in groups
            for a in arrays
        )
        if not fit or not self.use_kernels or dtype.name not in SUFFIX:
            raise NoKernelError
        return SUFFIX[dtype.name]

    @property
    def products(self) -> str:
        """One sentence: which library computes the matrix products, and why."""
        if self._bindings is None:
            return f"cupy.matmul, which no CUDA graph can hold: {self._why}"
        algorithms = f"fastest of {self.autotune} algorithms" if self.autotune else "recommended algorithms"
        return f"cublasLt, {algorithms}, float32 {'as TF32' if self.tf32 else 'unrounded'}: {self._why}"

    @property
    def cublaslt(self) -> matmul.CublasLt | None:
        """The object that computes this thread's products; None if nvmath-python is missing.

        One per thread, like `Kernels.scratch`, because it serves one stream at a time. It lives as long as
        its thread or any other holder. A captured graph must hold it.
        """
        if self._bindings is None:
            return None
        if not hasattr(self._of_thread, "made"):
            if self.xp.cuda.get_current_stream().is_capturing():
                raise BackendUnavailableError(
                    "this thread has made no product yet: run the step once before capturing"
                )
            options = {"tf32": self.tf32, "autotune": self.autotune, "bindings": self._bindings}
            self._of_thread.made = matmul.CublasLt(self.xp, self.index, **options)
        made: matmul.CublasLt = self._of_thread.made
        return made
