"""One operation outside a recorded step, as a table of commands that the thread pool runs at once.

Why: a BLAS has threads of its own, which wait for each other and spin meanwhile. Beside one other busy
program on two cores, a step by BLAS products took 40 times as long.
"""

import threading
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends.cpu.recording.command_table import CommandTable
from ffnn_gpu.backends.cpu.recording.recorder import NotRecordedError, Recorder
from ffnn_gpu.backends.cpu.recording.threads import threads

MOST_TABLES = 256  # per thread, one for each kind of arguments
ALIGNED = 0x100  # flag of a NumPy array


class SingleOperations(threading.local):
    """Tables of this thread, because a table holds the addresses of the call under way."""

    def __init__(self) -> None:
        self.tables: dict[Any, CommandTable | None] = {}

    def run(self, backend: Any, name: str, *arrays: Array) -> bool:
        """Run the operation on up to four arrays, the last one its output. Return False if it has no table.

        Arrays of several types have no table, nor arrays that are the same or overlap the output.
        """
        if any(array.dtype != arrays[-1].dtype for array in arrays):
            return False
        key = (
            name,
            *((array.shape, array.strides, array.dtype, array.flags.num & ALIGNED) for array in arrays),
        )
        if key not in self.tables:
            if len(self.tables) == MOST_TABLES:
                self.tables.clear()
            self.tables[key] = _table(backend, name, arrays)
        table, out = self.tables[key], arrays[-1]
        if table is None or any(np.may_share_memory(array, out) for array in arrays[:-1]):
            return False
        return table.run(*map(_in_memory, arrays)) is not None


def _table(backend: Any, name: str, arrays: tuple[Array, ...]) -> CommandTable | None:
    try:
        memory: list[Any] = [*map(_in_memory, arrays)]
        recorder = Recorder(backend, threads(), [np.empty(1, arrays[-1].dtype)], memory)
        getattr(recorder, name)(*arrays)
        return CommandTable(recorder)
    except NotRecordedError:
        return None


def _in_memory(array: Array) -> HostArray:
    """Return the array, or the row-major array that it is the transpose of."""
    memory: HostArray = array if array.flags.c_contiguous else array.T
    return memory
