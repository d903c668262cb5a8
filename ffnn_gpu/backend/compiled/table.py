"""What `recorder` has noted, as memory that threads can run without Python."""

from typing import Any

import numpy as np
from numba import njit

from ffnn_gpu.backend.compiled.native import as_real, get_number, load, set_number, store
from ffnn_gpu.backend.compiled.recorder import Recorder, address
from ffnn_gpu.backend.compiled.team import WORD, alone, asked_threads, lead, team

NONE = np.empty(0)  # the place of an argument that there is none of
TABLE, LENGTH, FAILED, PATCHES, PATCHED, LOSSES, SUMMED, THREADS, SET_THREADS, ASKED = range(10)  # places in a header


@njit(cache=True, nogil=True)
def run(header: Any, shared: int, helpers: int, x: Any, y: Any, weight: Any, lr: Any) -> float:
    """The loss of what is recorded, done with these arguments. A command that refuses its numbers marks `failed`.

    shared: the memory of the team that is led; 0 for this thread alone.
    """
    for k in range(header[PATCHED]):
        patch = header[PATCHES] + 2 * WORD * k
        place, which = load(patch), load(patch + WORD)
        if which == 0: store(place, x.ctypes.data)
        elif which == 1: store(place, y.ctypes.data)
        elif which == 2: store(place, weight.ctypes.data)
        else: store(place, lr.ctypes.data)
    before = get_number(header[THREADS])
    if shared == 0:
        alone(header[TABLE], header[LENGTH], header[FAILED])
    else:
        set_number(header[SET_THREADS], 1)
        if before > 1 or header[ASKED]: lead(shared, helpers, header[TABLE], header[LENGTH], header[FAILED])
        else: alone(header[TABLE], header[LENGTH], header[FAILED])               # somebody has asked the BLAS for that
        set_number(header[SET_THREADS], before)
    total = 0.0
    for k in range(header[SUMMED]): total += as_real(load(header[LOSSES] + WORD * k))
    return total


class Table:
    """Commands, what they read, and the marks that a team puts on their parts."""

    def __init__(self, recorder: Recorder) -> None:
        notes, self.failed = recorder.notes, recorder.failed
        most = max((note.parts for note in notes), default=1)
        self.numbers = [np.array(note.numbers) for note in notes]
        self.marks = np.zeros((len(notes), 1 + most), np.int64)
        self.rows = np.array([
            (note.command.address, address(numbers), note.parts, address(marks))
            for note, numbers, marks in zip(notes, self.numbers, self.marks, strict=True)
        ])
        self.patches = np.array([(address(self.numbers[k]) + WORD * place, which) for k, place, which in recorder.patches])
        self.kept = recorder.known, notes                                        # known to the commands by address only
        self.header = np.array([
            address(self.rows), len(notes), address(self.failed), address(self.patches), len(self.patches),
            address(recorder.losses), len(recorder.losses), recorder.blas.threads, recorder.blas.set_threads,
            int(asked_threads() > 0),
        ])
        self.threads = recorder.threads if most > 1 else 1

    def run(self, *arguments: Any) -> float | None:
        """The loss; None where a command has refused its numbers, and none after it was run."""
        arguments = tuple(NONE if argument is None else argument for argument in arguments)
        loss = run(self.header, 0, 0, *arguments) if self.threads == 1 else self._shared(*arguments)
        if not self.failed[0]: return loss
        self.failed[0] = 0
        return None

    def _shared(self, *arguments: Any) -> float:
        """By the team, if no other thread leads it."""
        helped = team(self.threads)                                              # a forked process has another
        if not helped.lock.acquire(blocking=False): return run(self.header, 0, 0, *arguments)
        try:
            helped.wake()
            return run(self.header, helped.shared, helped.helpers, *arguments)
        finally:
            helped.lock.release()
