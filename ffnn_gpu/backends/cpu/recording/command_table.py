"""A list of recorded commands as memory that threads can run without Python."""

from array import array as numbers
from itertools import chain, pairwise
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends.cpu.loops.compiled_function import CompiledFunction
from ffnn_gpu.backends.cpu.loops.intrinsics import as_real, load, store
from ffnn_gpu.backends.cpu.loops.layers import ROW
from ffnn_gpu.backends.cpu.loops.values import FLOAT64, INT64, Pointer
from ffnn_gpu.backends.cpu.recording.arguments import address
from ffnn_gpu.backends.cpu.recording.recorder import Recorder
from ffnn_gpu.backends.cpu.recording.threads import COLUMNS, WORD, lead, run_alone, thread_pool, withdraw

# Places in the header: addresses, most of them followed by the number of entries there.
TABLE, LENGTH, FAILED, PATCHES, N_PATCHES, LOSSES, N_LOSSES, KNOWN, N_KNOWN, GIVEN, N_GIVEN = range(11)


def overlaps(header: Any) -> bool:
    """Return whether an argument shares memory with the arrays that the commands use."""
    found = False
    for k in range(header[N_GIVEN]):
        given = header[GIVEN] + 2 * WORD * k
        start, stop = load(given), load(given) + load(given + WORD)
        for i in range(header[N_KNOWN]):
            known = header[KNOWN] + 2 * WORD * i
            found |= start < load(known + WORD) and load(known) < stop
    return found


def run(shared: int, helpers: int, header: Any) -> float:
    """Run the commands with the given arguments and return the loss.

    A 1 at `failed` means that they were refused.

    shared: the address of the thread pool's memory; 0 to use this thread alone.
    """
    table, length, failed = header[TABLE], header[LENGTH], header[FAILED]
    if overlaps(header):
        store(failed, 1)
        if shared:
            withdraw(shared)
        return 0.0
    for k in range(header[N_PATCHES]):
        patch = header[PATCHES] + 2 * WORD * k
        store(load(patch), load(header[GIVEN] + 2 * WORD * load(patch + WORD)))
    if shared == 0:
        run_alone(table, length, failed)
    else:
        lead(shared, helpers, table, length, failed)
    total = 0.0
    for k in range(header[N_LOSSES]):
        total += as_real(load(header[LOSSES] + WORD * k))
    return total


run_table = CompiledFunction(run, FLOAT64, INT64, INT64, Pointer())


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
        self.read = sorted({which for *_, which in recorder.patches})
        # The address and the bytes of each argument. What no command reads stays 0, and may have any type.
        self.given = numbers("q", bytes(2 * WORD * (1 + max(self.read, default=-1))))
        self.kept_alive, self.places = (recorder.known, commands), np.array(recorder.places)
        arrays = self.patches, recorder.losses, self.places
        ends = [(address(array), len(array)) for array in arrays]
        ends.append((self.given.buffer_info()[0], len(self.given) // 2))
        self.calls = *recorder.calls, None
        bounds = [0, *(call.commands for call in recorder.calls), len(commands)]
        self.headers = [self._header(start, stop, ends) for start, stop in pairwise(bounds)]
        self.addresses = [address(header) for header in self.headers]
        self.threads, self.step = recorder.partition.threads if most > 1 else 0, run_table.call

    def _header(self, start: int, stop: int, ends: list[tuple[int, int]]) -> HostArray:
        """Return the header of the commands from one call of Python code to the next.

        All of them set and check the addresses, and sum the losses. Only the last sum counts.
        """
        table = address(self.rows) + self.rows.itemsize * COLUMNS * start
        return np.array([table, stop - start, address(self.failed), *chain(*ends)])

    def begin_at(self, row: int) -> None:
        """Set the index of the batch's first row, from which dropout computes its bits."""
        if row == self.row:
            return
        for operands in self.masks:
            operands[ROW] = row
        self.row = row

    def run(self, *given: Array | None) -> float | None:
        """Return the loss, or None if the arguments were refused; then θ and other state are unchanged."""
        loss = 0.0
        for k in self.read:
            array = given[k]
            assert array is not None  # the recording is for calls with this argument
            self.given[2 * k], self.given[2 * k + 1] = address(array), array.nbytes
        for header, call in zip(self.addresses, self.calls, strict=True):
            if self.threads:
                loss = thread_pool(self.threads).run(self.step, header)
            else:
                loss = self.step(0, 0, header)
            if self.failed[0]:
                self.failed[0] = 0
                return None
            if call is not None:
                call(given)
        return loss
