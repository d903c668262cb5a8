"""The threads that share a recorded step: they need neither Python nor its lock while they work.

Why not Numba's threads or the BLAS's: each of them waits spinning for more work, on the core that the other needs. Here one
team does both, loops and parts of products.

How: a step is a table of commands. Whoever is there takes the parts of a command that nobody has taken, and goes on to the
next command when all parts are done. The caller never needs a helper: one that is late finds nothing left to do. A helper
without a step looks for one for about a tenth of a millisecond, then sleeps; the caller wakes it with the next. Two threads
that train at a time take turns, step by step: what a step computes must not depend on who else is there.
"""

import functools
import os
import threading
from contextlib import suppress

import numpy as np
from numba import njit

from ffnn_gpu.backends.cpu.loops.intrinsics import add, call, exchange, give_way, load, pause, store
from ffnn_gpu.backends.cpu.recording.cores import OURS, cores, told
from ffnn_gpu.errors import ConfigurationError

WORD, LINE = 8, 64  # bytes
COLUMNS = 4  # of a table: a command's address, that of its numbers, its parts, that of its marks
OPEN, EPOCH, TABLE, LENGTH, FAILED, BUSY, SEEN, ASLEEP = range(8)  # lines of the memory that a team shares
HELPERS = 3  # lines of each helper, the last three
PATIENCE = (
    4000  # looks for what is to come, a tenth of a millisecond: then a helper sleeps, and who waits gives way
)
compiled = njit(cache=True, nogil=True)


@compiled
def wait(address: int, value: int) -> None:
    """Until the int64 there is `value`; not on a core that the one who is to write it may need."""
    looks = 0
    while load(address) != value:
        looks += 1
        if looks < PATIENCE:
            pause()
        else:
            give_way()


@compiled
def work(table: int, length: int, failed: int, rank: int) -> None:
    """Take part in the commands of a table, first to last, until one has failed."""
    for k in range(length):
        row = table + WORD * COLUMNS * k
        function, numbers, parts, marks = (
            load(row),
            load(row + WORD),
            load(row + 2 * WORD),
            load(row + 3 * WORD),
        )
        for i in range(parts):
            part = (rank + i) % parts
            if exchange(marks + WORD * (1 + part), 1) == 0:
                call(function, numbers, part, parts)
                add(marks, 1)
        wait(marks, parts)
        if load(failed):
            return


@compiled
def alone(table: int, length: int, failed: int) -> None:
    """All parts of all commands, until one has failed."""
    for k in range(length):
        row = table + WORD * COLUMNS * k
        parts = load(row + 2 * WORD)
        for part in range(parts):
            call(load(row), load(row + WORD), part, parts)
        if load(failed):
            return


@compiled
def lead(shared: int, helpers: int, table: int, length: int, failed: int) -> None:
    """A step by the caller and the helpers that are awake."""
    for k in range(length):
        row = table + WORD * COLUMNS * k
        marks = load(row + 3 * WORD)
        for i in range(load(row + 2 * WORD) + 1):
            store(marks + WORD * i, 0)
    store(shared + LINE * TABLE, table)
    store(shared + LINE * LENGTH, length)
    store(shared + LINE * FAILED, failed)
    store(shared + LINE * OPEN, 1)
    add(shared + LINE * EPOCH, 1)
    work(table, length, failed, 0)
    store(shared + LINE * OPEN, 0)
    for helper in range(helpers):  # the table may go when this returns
        wait(shared + LINE * (BUSY + HELPERS * helper), 0)


@compiled
def help(shared: int, helper: int) -> None:
    """Take part in steps until there has been none for a while."""
    own, looks = shared + LINE * HELPERS * helper, 0
    while looks < PATIENCE:
        looks += 1
        epoch = load(shared + LINE * EPOCH)
        if epoch != load(own + LINE * SEEN):
            store(own + LINE * BUSY, 1)
            if load(shared + LINE * OPEN):
                work(
                    load(shared + LINE * TABLE),
                    load(shared + LINE * LENGTH),
                    load(shared + LINE * FAILED),
                    helper + 1,
                )
            store(own + LINE * BUSY, 0)
            store(own + LINE * SEEN, epoch)
            looks = 0
        pause()
    store(own + LINE * ASLEEP, 1)


class Team:
    """`size` − 1 helpers of one thread at a time, which holds `leading` and calls `wake` before it leads."""

    leading = threading.Lock()  # of the whole process, because the cores are

    def __init__(self, size: int) -> None:
        self.helpers = size - 1
        self.memory = np.zeros((BUSY + HELPERS * self.helpers) * LINE // WORD + LINE // WORD, np.int64)
        self.shared = -(-self.memory.ctypes.data // LINE) * LINE
        first = (self.shared - self.memory.ctypes.data) // WORD
        self.asleep = [
            self.memory[first + (ASLEEP + HELPERS * k) * LINE // WORD :][:1] for k in range(self.helpers)
        ]
        self.bells = [threading.Lock() for _ in range(self.helpers)]
        for k, bell in enumerate(self.bells):
            bell.acquire()
            self.asleep[k][0] = 1
            with suppress(RuntimeError):  # no more threads: the others do its parts
                threading.Thread(
                    target=self._help, args=(k,), name=f"ffnn_gpu helper {k + 1}", daemon=True
                ).start()

    def wake(self) -> None:
        """Ring for the helpers that sleep."""
        for asleep, bell in zip(self.asleep, self.bells, strict=True):
            if asleep[0]:
                asleep[0] = 0
                bell.release()

    def _help(self, k: int) -> None:
        while True:
            self.bells[k].acquire()
            help(self.shared, k)


@functools.cache
def team(size: int) -> Team:
    """The process's team of this size. A forked process, which has no threads but its own, gets another."""
    return Team(size)


def _after_fork() -> None:
    """The child has one thread, which leads nobody, whoever led when it was made."""
    team.cache_clear()
    Team.leading = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def threads() -> int:
    """Into how many parts a step is cut: FFNN_GPU_THREADS, else what numerical libraries are told, else all cores.

    Raises ConfigurationError where FFNN_GPU_THREADS is no number from 1 on.
    """
    text = os.environ.get(OURS, "").strip()
    if text:
        if text.isdecimal() and int(text):
            return int(text)
        raise ConfigurationError(f"{OURS} must be a whole number from 1 on, not {text!r}")
    return told() or cores()
