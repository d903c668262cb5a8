"""A CUDA GPU: the reference on CuPy. The sole `import cupy` of the package is in `load_cupy`.

Every operation runs with this backend's device current, so "cupy:0" and "cupy:1" work side by side in one process, and an
allocation that finds no room becomes an error that says how much was needed.
Plain CuPy calls for now: fused kernels, matrix products through cublasLt and graph capture override the same operations.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.backend.reference import Backend
from ffnn_gpu.errors import DeviceOutOfMemoryError


def load_cupy() -> Any:
    """The module cupy. Raises whatever its import raises."""
    import cupy

    return cupy


def on_device(operation: Callable[..., Any]) -> Callable[..., Any]:
    """`operation` with the backend's device current and out-of-memory translated."""

    @functools.wraps(operation)
    def run(self: "CupyBackend", *args: Any, **kwargs: Any) -> Any:
        try:
            with self.device:
                return operation(self, *args, **kwargs)
        except self.xp.cuda.memory.OutOfMemoryError as error:
            raise DeviceOutOfMemoryError(self.explain_out_of_memory(error)) from error

    return run


class CupyBackend(Backend):
    """Every operation on arrays of one CUDA device."""

    name = "cupy"
    steps_between_reads = 64

    def __init__(self, index: int = 0) -> None:
        super().__init__(load_cupy())
        self.index = index
        self.name = "cupy" if index == 0 else f"cupy:{index}"
        self.device = self.xp.cuda.Device(index)

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        if not self.owns(array) and not hasattr(array, "__dlpack_device__"):
            array = np.asarray(array)
        return self.xp.ascontiguousarray(self.xp.asarray(array), dtype=dtype)

    def owns(self, array: Any) -> bool:
        return isinstance(array, self.xp.ndarray) and array.device.id == self.index

    def to_host(self, array: Any) -> np.ndarray:
        return self.xp.asnumpy(array)

    def synchronize(self) -> None:
        self.xp.cuda.get_current_stream().synchronize()

    def memory(self) -> tuple[int, int]:
        return self.device.mem_info

    def explain_out_of_memory(self, error: Exception) -> str:
        free, total = self.device.mem_info
        return (
            f"GPU {self.index} has no room: {error}; {free:,} of {total:,} bytes are free. Use a smaller batch_size, "
            "accumulate=… for micro-batches, or a smaller network; the parameters are unchanged"
        )


OPERATIONS = tuple(
    name for name in dir(Backend) if not name.startswith("_") and callable(getattr(Backend, name)) and name != "owns"
)
for _name in OPERATIONS:
    setattr(CupyBackend, _name, on_device(getattr(CupyBackend, _name)))
