"""A list of recorded commands as memory that threads can run without Python."""

from array import array as numbers
from itertools import chain, pairwise
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends.cpu.loops.chunks import command_of
from ffnn_gpu.backends.cpu.loops.compiled_function import CompiledFunction
from ffnn_gpu.backends.cpu.loops.intrinsics import as_real, load, store
from ffnn_gpu.backends.cpu.loops.layers import ROW
from ffnn_gpu.backends.cpu.loops.values import FLOAT64, INT64, Pointer
from ffnn_gpu.backends.cpu.recording.arguments import address
from ffnn_gpu.backends.cpu.recording.members import Together
from ffnn_gpu.backends.cpu.recording.recorder import Recorder
from ffnn_gpu.backends.cpu.recording.threads import COLUMNS, WORD, lead, run_alone, thread_pool, withdraw

# Places in the header: addresses, most of them followed by the number of entries there.
PATCH = 3  # numbers of a patch: the address to write to, the index of the argument, bytes from its start
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
        patch = header[PATCHES] + PATCH * WORD * k
        argument = load(header[GIVEN] + 2 * WORD * load(patch + WORD))
        store(load(patch), argument + load(patch + 2 * WORD))
    if shared == 0:
        run_alone(table, length, failed)
    else:
        lead(shared, helpers, table, length, failed)
    total = 0.0
    for k in range(header[N_LOSSES]):
        total += as_real(load(header[LOSSES] + WORD * k))
    return total


def members_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """Run all chunks of all commands of the lane `chunk` of a pack, until one has failed."""
    run_alone(n[1 + 2 * chunk], n[2 + 2 * chunk], n[0])


run_members = command_of(members_command, np.dtype(np.float64))
run_table = CompiledFunction(run, FLOAT64, INT64, INT64, Pointer())


class CommandTable:
    """Commands, their operands, and the marks by which threads claim their chunks."""

    def __init__(self, recorder: Recorder) -> None:
        commands, self.failed = recorder.commands, recorder.failed
        most = max((command.chunks for command in commands), default=1)
        self.operands, self.tables = dict[int, HostArray](), list[HostArray]()
        self.marks = np.zeros((len(commands), 1 + most), np.int64)
        self.rows = self._rows(commands, self.marks)
        self.masks, self.row = [self.operands[id(operands)] for operands in recorder.masks], -1
        self.patches = np.array(
            [
                (address(self.operands[id(operands)]) + WORD * place, which, offset)
                for operands, place, which, offset in recorder.patches
            ]
        )
        self.read = sorted({which for _, _, which, _ in recorder.patches})
        self.dtype = recorder.dtype
        self.losses_of_members = recorder.losses_of_members
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

    def _rows(self, commands: list[Any], marks: HostArray) -> HostArray:
        """Return the rows of a table, and keep the operands of its commands."""
        rows = []
        for each, mark in zip(commands, marks, strict=True):
            if isinstance(each, Together):
                function, operands = run_members, self._operands_of_lanes(each)
            else:
                function, operands = each.function, np.array(each.operands)
                self.operands[id(each.operands)] = operands
            rows.append((function.address, address(operands), each.chunks, address(mark)))
        return np.array(rows)

    def _operands_of_lanes(self, together: Together) -> HostArray:
        """Return the operands of `run_members`: `failed`, and each lane's table with its length."""
        operands = [address(self.failed)]
        for commands in together.lanes:
            table = self._rows(commands, np.zeros((len(commands), 1), np.int64))
            operands += address(table), len(commands)
            self.tables.append(table)
        self.tables.append(np.array(operands))
        return self.tables[-1]

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

    def vector(self, loss: float) -> HostArray:
        """Return the losses of a pack's members (R,) after `run` has returned `loss`."""
        losses = [loss] if self.losses_of_members is None else self.losses_of_members
        return np.array(losses, self.dtype)

    def run(self, *given: Array | None) -> float | None:
        """Return the loss, or None if the arguments were refused; then θ and other state are unchanged."""
        loss = 0.0
        for k in self.read:
            array = given[k]
            assert array is not None  # the recording is for calls with this argument
            self.given[2 * k], self.given[2 * k + 1] = address(array), array.nbytes
        for header, python_call in zip(self.addresses, self.calls, strict=True):
            if self.threads:
                loss = thread_pool(self.threads).run(self.step, header)
            else:
                loss = self.step(0, 0, header)
            if self.failed[0]:
                self.failed[0] = 0
                return None
            if python_call is not None:
                python_call(given)
        return loss
