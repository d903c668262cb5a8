"""What `recorder` has noted, as memory that threads can run without Python."""

from typing import Any

import numpy as np
from numba import njit

from ffnn_gpu.backends.cpu.loops.intrinsics import as_real, load, store
from ffnn_gpu.backends.cpu.loops.layers import ROW
from ffnn_gpu.backends.cpu.recording.recorder import Recorder, address
from ffnn_gpu.backends.cpu.recording.threads import WORD, Team, alone, lead, team

NONE = np.empty(0)  # the place of an argument that there is none of
TABLE, LENGTH, FAILED, PATCHES, PATCHED, LOSSES, SUMMED, KNOWN, PLACES = range(9)  # of a header


@njit(cache=True, nogil=True)
def overlaps(header: Any, array: Any) -> bool:
    """Whether some of the array is memory that the commands know."""
    start, inside = array.ctypes.data, False
    for k in range(header[PLACES]):
        place = header[KNOWN] + 2 * WORD * k
        inside |= start < load(place + WORD) and load(place) < start + array.nbytes
    return inside


@njit(cache=True, nogil=True)
def run(header: Any, shared: int, helpers: int, x: Any, y: Any, weight: Any, lr: Any) -> float:
    """The loss of what is recorded, done with these arguments. A mark at `failed` says that they have been refused.

    shared: the memory of the team that is led; 0 for this thread alone.
    """
    if overlaps(header, x) or overlaps(header, y) or overlaps(header, weight) or overlaps(header, lr):
        store(header[FAILED], 1)
        return 0.0
    for k in range(header[PATCHED]):
        patch = header[PATCHES] + 2 * WORD * k
        place, which = load(patch), load(patch + WORD)
        if which == 0:
            store(place, x.ctypes.data)
        elif which == 1:
            store(place, y.ctypes.data)
        elif which == 2:
            store(place, weight.ctypes.data)
        else:
            store(place, lr.ctypes.data)
    if shared == 0:
        alone(header[TABLE], header[LENGTH], header[FAILED])
    else:
        lead(shared, helpers, header[TABLE], header[LENGTH], header[FAILED])
    total = 0.0
    for k in range(header[SUMMED]):
        total += as_real(load(header[LOSSES] + WORD * k))
    return total


class Table:
    """Commands, what they read, and the marks that a team puts on their parts."""

    def __init__(self, recorder: Recorder) -> None:
        notes, self.failed = recorder.notes, recorder.failed
        most = max((note.parts for note in notes), default=1)
        self.numbers = [np.array(note.numbers) for note in notes]
        self.marks = np.zeros((len(notes), 1 + most), np.int64)
        self.rows = np.array(
            [
                (note.command.address, address(numbers), note.parts, address(marks))
                for note, numbers, marks in zip(notes, self.numbers, self.marks, strict=True)
            ]
        )
        self.masks, self.row = [self.numbers[k] for k in recorder.masks], -1
        self.patches = np.array(
            [(address(self.numbers[k]) + WORD * place, which) for k, place, which in recorder.patches]
        )
        self.kept, self.places = (recorder.known, notes), np.array(recorder.places)
        self.header = np.array(
            [
                address(self.rows),
                len(notes),
                address(self.failed),
                address(self.patches),
                len(self.patches),
                address(recorder.losses),
                len(recorder.losses),
                address(self.places),
                len(self.places),
            ]
        )
        self.threads = recorder.cuts.threads if most > 1 else 0

    def begin_at(self, row: int) -> None:
        """Dropout draws the bits of a batch whose first row this is."""
        if row == self.row:
            return
        for numbers in self.masks:
            numbers[ROW] = row
        self.row = row

    def run(self, x: Any, y: Any = NONE, weight: Any = NONE, lr: Any = NONE) -> float | None:
        """The loss; None where the arguments have been refused, and nothing that lasts was changed."""
        loss = self._led(x, y, weight, lr) if self.threads else run(self.header, 0, 0, x, y, weight, lr)
        if not self.failed[0]:
            return loss
        self.failed[0] = 0
        return None

    def _led(self, *arguments: Any) -> float:
        with Team.leading:
            helped = team(self.threads)
            helped.wake()
            return run(self.header, helped.shared, helped.helpers, *arguments)
