"""A CUDA GPU: products by cublasLt (fused_products.py), fused kernels (fused.py), and for the rest the reference on CuPy.
The sole `import cupy` is in `load_cupy`.

Why every operation makes its device current: CuPy launches a kernel on the current device, and refuses or warns where an
array lies on another one. So "cupy:0" and "cupy:1" work side by side in one process, as long as nothing but operations
touches an array; taking views needs no device. An allocation that finds no room becomes an error that says what to change.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ffnn_gpu.arrays.boundary import host_array
from ffnn_gpu.backends.cuda.graphs import CapturedStep
from ffnn_gpu.backends.cuda.products import FusedProducts
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.errors import DeviceOutOfMemoryError

HOST_ONLY = (
    "dtype",
    "owns",
    "require_own",
    "capture",
    "steps_per_launch",
)  # launch nothing; `capture` returns what does
ROWS_PER_LAUNCH, MOST_STEPS_PER_LAUNCH = 2**16, 16
Class = TypeVar("Class", bound=type)


def load_cupy() -> Any:
    """The module cupy. Raises whatever its import raises."""
    import cupy

    return cupy


def _lies_on_a_gpu(array: Any) -> bool:
    return hasattr(
        array, "__cuda_array_interface__"
    )  # CuPy, PyTorch, JAX and Numba arrays, of any CUDA device


def operations_on_device(cls: Class) -> Class:
    """The class with each of its operations, inherited ones included, run by `CupyBackend.on_device`."""

    def with_device(operation: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(operation)
        def run(self: "CupyBackend", *args: Any, **kwargs: Any) -> Any:
            return self.on_device(operation, self, *args, **kwargs)

        return run

    for name in dir(Backend):
        operation = getattr(cls, name)
        if callable(operation) and not name.startswith("_") and name not in HOST_ONLY:
            setattr(cls, name, with_device(operation))
    return cls


@operations_on_device
class CupyBackend(FusedProducts):
    """Every operation on arrays of one CUDA device.

    Args:
        index: of the device.
        tf32, autotune: as in FusedProducts.
    """

    name = "cupy"
    steps_between_reads = 256
    use_graphs = True  # False gives plain steps, to compare with

    def __init__(self, index: int = 0, *, tf32: bool = False, autotune: int = 0) -> None:
        super().__init__(load_cupy(), index, tf32, autotune)
        self.name = "cupy" if index == 0 else f"cupy:{index}"
        self.device = self.xp.cuda.Device(index)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(CupyBackend, tf32=self.tf32, autotune=self.autotune), (self.index,)

    def on_device(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """work(…) with this backend's device current. Raises DeviceOutOfMemoryError where it finds no room."""
        try:
            with self.device:
                return work(*args, **kwargs)
        except self.xp.cuda.memory.OutOfMemoryError as error:
            raise DeviceOutOfMemoryError(self._explain(error)) from error

    def capture(self, step: Callable[..., Any]) -> Callable[..., Any]:
        return functools.partial(self.on_device, CapturedStep(self, step) if self.use_graphs else step)

    def steps_per_launch(self, rows: int) -> int:
        return max(1, min(MOST_STEPS_PER_LAUNCH, ROWS_PER_LAUNCH // max(rows, 1))) if self.use_graphs else 1

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        if not _lies_on_a_gpu(array):
            array = host_array(array)
            if dtype is not None and array.dtype.itemsize > np.dtype(dtype).itemsize:
                array = array.astype(dtype)  # half the transfer; and CuPy knows no long double
        return self.xp.ascontiguousarray(self.xp.asarray(array), dtype=dtype)

    def admit(self, array: Any) -> Any:
        return self.asarray(array) if _lies_on_a_gpu(array) else super().admit(array)

    def owns(self, array: Any) -> bool:
        return isinstance(array, self.xp.ndarray) and array.device.id == self.index

    def to_host(self, array: Any) -> np.ndarray:
        return self.xp.asnumpy(array)

    def synchronize(self) -> None:
        self.xp.cuda.get_current_stream().synchronize()  # all of the device would spoil what another thread records

    def memory(self) -> tuple[int, int]:
        return self.device.mem_info

    def _explain(self, error: Exception) -> str:
        free, total = self.device.mem_info
        return (
            f"GPU {self.index} has no room: {str(error).rstrip('.')}; {free:,} of {total:,} bytes are free. Use a smaller "
            "batch_size, accumulate=… for micro-batches, or a smaller network"
        )
