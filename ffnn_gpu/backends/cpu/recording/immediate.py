"""Run one operation at once, by the same commands that a recorded step has.

Why large products do not go to a BLAS: it has threads of its own, which wait for each other and spin
meanwhile. Beside one other busy program on two cores, a step by BLAS products took 40 times as long.
"""

import functools
import os
from array import array as numbers
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends.cpu.loops import formulas
from ffnn_gpu.backends.cpu.recording.arguments import NotRecordedError, address, word
from ffnn_gpu.backends.cpu.recording.cores import THREADS
from ffnn_gpu.backends.cpu.recording.losses import INDICES
from ffnn_gpu.backends.cpu.recording.operations import Operations
from ffnn_gpu.backends.cpu.recording.partition import SHARES, Partition
from ffnn_gpu.backends.cpu.recording.threads import Native, thread_pool, threads

FLOATS = np.dtype(np.float32), np.dtype(np.float64)


class Immediate(Operations):
    """Runs the commands of one operation of a CompiledBackend, then is discarded."""

    def __init__(self, backend: Any) -> None:
        self.backend, self._copies, self._current, self._bfloat16 = backend, {}, set(), set()

    def _use(self, dtype: np.dtype) -> None:
        if dtype not in FLOATS:
            raise NotRecordedError(f"an array is {dtype}")
        self.dtype, self.partition = (
            dtype,
            _partition(dtype, os.environ.get(THREADS), getattr(self.backend, "threads", None)),
        )

    @cached_property
    def losses(self) -> HostArray:  # type: ignore[override]
        return np.zeros(SHARES * self.partition.threads)

    @cached_property
    def failed(self) -> HostArray:  # type: ignore[override]
        return np.zeros(1, np.int64)

    def _loss(self) -> Any:
        return self.dtype.type(self.losses.sum())

    def embedding(self, *args: Any, **named: Any) -> Any:
        try:
            return super().embedding(*args, **named)
        except IndexError:  # NumPy's operation words the error
            raise NotRecordedError("a value is no code") from None

    def _class_indices(self, y: Any) -> Any:
        return y if y.dtype in INDICES else y.astype(np.int64)

    def squared_norm(self, grad: Any) -> Any:
        return np.float64(super().squared_norm(grad).sum())

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)

    def _run(self, function: Any, operands: tuple[Any, ...], chunks: int) -> None:
        memory = numbers("q", map(word, operands))
        start, _ = memory.buffer_info()
        if chunks == 1:
            function.call(None, start, 0, 1)
        else:
            marks = numbers("q", bytes(8 * (1 + chunks)))
            table = numbers("q", (function.address, start, chunks, marks.buffer_info()[0]))
            pool = thread_pool(self.partition.threads)
            pool.run(Native.lead, table.buffer_info()[0], 1, address(self.failed))
        if "failed" in vars(self) and self.failed[0]:
            raise IndexError("a class index or a code is out of range")


@functools.cache
def _partition(dtype: np.dtype, setting: str | None, count: int | None) -> Partition:
    """Return the partition for this value of FFNN_GPU_THREADS, or for `count` threads.

    Counting cores takes longer than a loop.
    """
    return Partition(count or threads(), dtype.itemsize)


def try_out(backend: Any) -> None:
    """Compile and run one command. Raises whatever llvmlite raises where it does not work."""
    Immediate(backend).column_sum(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))


def all_finite(array: HostArray) -> bool | None:
    """Return whether no value is NaN or infinite, or None if there is no command for this array."""
    if array.dtype not in FLOATS:
        return None
    try:
        start = word(array)
    except NotRecordedError:
        return None
    count = numbers("d", [0.0])
    operands = numbers("q", (1, array.size, start, array.nbytes, count.buffer_info()[0]))
    formulas.elementwise(array.dtype, "non_finite").call(None, operands.buffer_info()[0], 0, 1)
    return count[0] == 0
