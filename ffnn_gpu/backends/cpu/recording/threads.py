"""The thread pool that runs commands, without Python and its lock.

A step is a table of commands. Every thread claims chunks of the current command that no other has claimed,
and goes on to the next command when all chunks are done. The calling thread never depends on a helper: a
helper that arrives late finds no chunk left. A helper looks for a step for about 0.4 ms, then sleeps until a
caller wakes it. If two Python threads train, they take turns step by step, because the numbers must not
depend on how many threads are available. docs/cpu_kernels.md says why there is a pool of our own.
"""

import functools
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from ffnn_gpu.backends.cpu.loops.compiled_function import CompiledFunction
from ffnn_gpu.backends.cpu.loops.intrinsics import add, call, exchange, give_way, load, pause, store
from ffnn_gpu.backends.cpu.loops.values import INT64
from ffnn_gpu.backends.cpu.recording.cores import cores, environment_threads, threads_set

WORD, LINE = 8, 64  # bytes
# Of a table: the address of a command, of its operands, the number of chunks, and the address of its marks.
COLUMNS = 4
# Cache lines of the pool's shared memory.
OPEN, EPOCH, ANNOUNCED, TABLE, LENGTH, FAILED, BUSY, SEEN, ASLEEP = range(9)
HELPERS = 3  # cache lines of each helper, the last three of these
PATIENCE = 4000  # polls, about 0.1 ms; then a waiting thread yields its core
# Polls; then a helper sleeps. Why four times as many: to wake it takes as long as a small prediction. One row
# through 784-512-512-10 by `predict`, which spends 50 µs between two replays: 212 µs before, 109 µs now.
AWAKE = 4 * PATIENCE


def wait(address: int, value: int) -> None:
    """Wait until the int64 at `address` is `value`. After PATIENCE polls, yield the core to other threads."""
    polls = 0
    while load(address) != value:
        polls += 1
        if polls < PATIENCE:
            pause()
        else:
            give_way()


def work(table: int, length: int, failed: int, rank: int, size: int) -> None:
    """Take part in the commands of a table, first to last, until one has failed.

    Each of `size` threads begins with chunks of its own, so that it finds in its cache what it has written in
    the command before. A command that is one chunk runs in the leading thread.
    """
    for k in range(length):
        row = table + WORD * COLUMNS * k
        function, operands, chunks = load(row), load(row + WORD), load(row + 2 * WORD)
        marks = load(row + 3 * WORD)  # how many chunks are done, and for each chunk whether it is claimed
        for i in range(chunks if chunks > 1 or rank == 0 else 0):
            chunk = (rank * chunks // size + i) % chunks
            if exchange(marks + WORD * (1 + chunk), 1) == 0:
                call(function, operands, chunk, chunks)
                add(marks, 1)
        wait(marks, chunks)
        if load(failed):
            return


def run_alone(table: int, length: int, failed: int) -> None:
    """Run all chunks of all commands in this thread, until one has failed."""
    for k in range(length):
        row = table + WORD * COLUMNS * k
        chunks = load(row + 2 * WORD)
        for chunk in range(chunks):
            call(load(row), load(row + WORD), chunk, chunks)
        if load(failed):
            return


def announce(shared: int, helpers: int) -> int:
    """Announce a step. Return the number of helpers that are asleep."""
    store(shared + LINE * ANNOUNCED, 1)
    asleep = 0
    for helper in range(helpers):
        asleep += load(shared + LINE * (ASLEEP + HELPERS * helper))
    return asleep


def withdraw(shared: int) -> None:
    """Take back an announcement."""
    store(shared + LINE * ANNOUNCED, 0)


def lead(shared: int, helpers: int, table: int, length: int, failed: int) -> None:
    """Run a step in this thread and the helpers that are awake."""
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
    work(table, length, failed, 0, helpers + 1)
    store(shared + LINE * OPEN, 0)
    store(shared + LINE * ANNOUNCED, 0)
    for helper in range(helpers):  # the table may be freed when this returns
        wait(shared + LINE * (BUSY + HELPERS * helper), 0)


def may_sleep(shared: int, helper: int) -> bool:
    """Mark the helper as asleep, unless a step is announced or it has not seen one.

    Why: `announce` announces a step, then reads the marks. This function writes its mark, then reads whether
    a step is announced. In every order of these four, at least one of the two reads what the other wrote, so
    no helper sleeps while a step is announced.
    """
    own = shared + LINE * HELPERS * helper
    store(own + LINE * ASLEEP, 1)
    if load(shared + LINE * ANNOUNCED) == 0 and load(shared + LINE * EPOCH) == load(own + LINE * SEEN):
        return True
    store(own + LINE * ASLEEP, 0)
    return False


def help(shared: int, helper: int, helpers: int) -> None:
    """Take part in steps until there has been none for AWAKE polls."""
    own, polls = shared + LINE * HELPERS * helper, 0
    store(own + LINE * ASLEEP, 0)
    while polls < AWAKE or not may_sleep(shared, helper):
        polls += 1
        epoch = load(shared + LINE * EPOCH)
        if epoch != load(own + LINE * SEEN):
            store(own + LINE * BUSY, 1)
            if load(shared + LINE * OPEN):
                table, length = load(shared + LINE * TABLE), load(shared + LINE * LENGTH)
                work(table, length, load(shared + LINE * FAILED), helper + 1, helpers + 1)
            store(own + LINE * BUSY, 0)
            store(own + LINE * SEEN, epoch)
            polls = 0
        if polls < AWAKE:
            pause()
        else:  # a step is announced, but the caller has not begun it yet
            give_way()


class Native:
    """The functions above that Python calls, as machine code."""

    announce = CompiledFunction(announce, INT64, INT64, INT64)
    withdraw = CompiledFunction(withdraw, None, INT64)
    lead = CompiledFunction(lead, None, *[INT64] * 5)
    help = CompiledFunction(help, None, *[INT64] * 3)


class ThreadPool:
    """`size` − 1 helpers. They serve one calling thread at a time."""

    leading = threading.Lock()  # one for the whole process, because its cores are shared too

    def __init__(self, size: int) -> None:
        self.helpers = size - 1
        self.memory = np.zeros((BUSY + HELPERS * self.helpers) * LINE // WORD + LINE // WORD, np.int64)
        self.announce = Native.announce.call
        self.shared = -(-self.memory.ctypes.data // LINE) * LINE
        first = (self.shared - self.memory.ctypes.data) // WORD
        starts = [first + (ASLEEP + HELPERS * k) * LINE // WORD for k in range(self.helpers)]
        self.asleep = [self.memory[start:][:1] for start in starts]
        self.bells = [threading.Lock() for _ in range(self.helpers)]
        for k, bell in enumerate(self.bells):
            bell.acquire()
            self.asleep[k][0] = 1
            name = f"ffnn_gpu helper {k + 1}"
            with suppress(RuntimeError):  # no more threads can be started: the others do its chunks
                threading.Thread(target=self._help, args=(k,), name=name, daemon=True).start()

    def run(self, step: Callable[..., Any], *args: int) -> Any:
        """Return step(shared, helpers, *args), during which the helpers are awake."""
        with ThreadPool.leading:
            try:
                if self.announce(self.shared, self.helpers):
                    self.wake()
                return step(self.shared, self.helpers, *args)
            except BaseException:  # Ctrl-C between the two
                Native.withdraw(self.shared)
                raise

    def wake(self) -> None:
        """Wake the helpers that sleep."""
        for asleep, bell in zip(self.asleep, self.bells, strict=True):
            if asleep[0] and bell.locked():  # locked: this helper was not woken since it fell asleep
                bell.release()

    def _help(self, k: int) -> None:
        while True:
            self.bells[k].acquire()
            Native.help(self.shared, k, self.helpers)


@functools.cache
def thread_pool(size: int) -> ThreadPool:
    """Return the process's pool of this size.

    A forked process gets another, because it has no threads but its own.
    """
    return ThreadPool(size)


def _after_fork() -> None:
    """Forget pools and lock in the child, whose only thread leads no step."""
    thread_pool.cache_clear()
    ThreadPool.leading = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def threads() -> int:
    """Return the number of threads: FFNN_GPU_THREADS, else the numerical libraries' setting, else all cores.

    Raises ConfigurationError if FFNN_GPU_THREADS is not a positive whole number.
    """
    return threads_set() or environment_threads() or cores()
