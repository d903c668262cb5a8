"""A list of recorded commands as memory that threads can run without Python."""

from typing import Any

import numpy as np
from numba import njit

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends.cpu.loops.intrinsics import as_real, load, store
from ffnn_gpu.backends.cpu.loops.layers import ROW
from ffnn_gpu.backends.cpu.recording.recorder import Recorder, address
from ffnn_gpu.backends.cpu.recording.threads import (
    COLUMNS,
    WORD,
    ThreadPool,
    lead,
    run_alone,
    thread_pool,
    withdraw,
)

NONE = np.empty(0)  # passed instead of an argument that is None
# Places in the header: addresses, most of them followed by the number of entries there.
TABLE, LENGTH, FAILED, PATCHES, N_PATCHES, LOSSES, N_LOSSES, KNOWN, N_KNOWN = range(9)


@njit(cache=True, nogil=True)
def overlaps(header: Any, array: Array) -> bool:
    """Return whether the array shares memory with the arrays that the commands use."""
    start, inside = array.ctypes.data, False
    for k in range(header[N_KNOWN]):
        place = header[KNOWN] + 2 * WORD * k
        inside |= start < load(place + WORD) and load(place) < start + array.nbytes
    return inside


@njit(cache=True, nogil=True)
def run(header: Any, shared: int, helpers: int, x: Array, y: Array, weight: Array, lr: Array) -> float:
    """Run the commands with these arguments and return the loss.

    A 1 at `failed` means that they were refused.

    shared: the address of the thread pool's memory; 0 to use this thread alone.
    """
    if overlaps(header, x) or overlaps(header, y) or overlaps(header, weight) or overlaps(header, lr):
        store(header[FAILED], 1)
        if shared:
            withdraw(shared)
        return 0.0
    addresses = x.ctypes.data, y.ctypes.data, weight.ctypes.data, lr.ctypes.data
    for k in range(header[N_PATCHES]):
        patch = header[PATCHES] + 2 * WORD * k
        store(load(patch), addresses[load(patch + WORD)])
    if shared == 0:
        run_alone(header[TABLE], header[LENGTH], header[FAILED])
    else:
        lead(shared, helpers, header[TABLE], header[LENGTH], header[FAILED])
    total = 0.0
    for k in range(header[N_LOSSES]):
        total += as_real(load(header[LOSSES] + WORD * k))
    return total


class CommandTable:
    """Commands, their operands, and the marks by which threads claim their chunks."""

    def __init__(self, recorder: Recorder) -> None:
        commands, self.failed = recorder.commands, recorder.failed
        most = max((command.chunks for command in commands), default=1)
        self.operands = [np.array(command.operands) for command in commands]
        self.marks = np.zeros((len(commands), 1 + most), np.int64)
        each = zip(commands, self.operands, self.marks, strict=True)
        self.rows = np.array([(c.function.address, address(o), c.chunks, address(m)) for c, o, m in each])
        self.masks, self.row = [self.operands[k] for k in recorder.masks], -1
        self.patches = np.array(
            [(address(self.operands[k]) + WORD * place, which) for k, place, which in recorder.patches]
        )
        self.kept_alive, self.places = (recorder.known, commands), np.array(recorder.places)
        arrays = self.rows, self.patches, recorder.losses, self.places
        table, patches, losses, places = ((address(array), len(array)) for array in arrays)
        self.calls, self.has_calls = (*recorder.calls, None), bool(recorder.calls)
        self.read = {which for *_, which in recorder.patches}
        bounds = [0, *(call.commands for call in recorder.calls), len(commands)]
        self.headers = [
            np.array(
                [table[0] + self.rows.itemsize * COLUMNS * start, stop - start, address(self.failed), *ends]
            )
            for start, stop, ends in zip(
                bounds, bounds[1:], _ends(len(bounds) - 1, patches, losses, places), strict=False
            )
        ]
        self.threads = recorder.partition.threads if most > 1 else 0

    def begin_at(self, row: int) -> None:
        """Set the index of the batch's first row, from which dropout computes its bits."""
        if row == self.row:
            return
        for operands in self.masks:
            operands[ROW] = row
        self.row = row

    def run(self, x: Array, y: Array = NONE, weight: Array = NONE, lr: Array = NONE) -> float | None:
        """Return the loss, or None if the arguments were refused; then θ and other state are unchanged."""
        loss, given = 0.0, (x, y, weight, lr)
        if self.has_calls:  # only calls read what no command reads, which may have any type
            x, y, weight, lr = (each if k in self.read else NONE for k, each in enumerate(given))
        for header, call in zip(self.headers, self.calls, strict=True):
            loss = self._run(header, x, y, weight, lr)
            if self.failed[0]:
                self.failed[0] = 0
                return None
            if call is not None:
                call(given)
        return loss

    def _run(self, header: HostArray, *arguments: Array) -> float:
        """Run the commands up to the next call of Python code."""
        if not self.threads:
            return float(run(header, 0, 0, *arguments))
        with ThreadPool.leading:
            pool = thread_pool(self.threads)
            try:
                pool.wake()
                return float(run(header, pool.shared, pool.helpers, *arguments))
            except BaseException:  # Ctrl-C between the two
                pool.dismiss()
                raise


def _ends(n: int, patches: Any, losses: Any, places: Any) -> list[tuple[int, ...]]:
    """Return the ends of n headers: the first sets and checks addresses, the last sums the losses."""
    nothing = 0, 0
    return [
        (
            *(patches if k == 0 else nothing),
            *(losses if k == n - 1 else nothing),
            *(places if k == 0 else nothing),
        )
        for k in range(n)
    ]
