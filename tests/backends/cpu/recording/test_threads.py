"""A helper thread sleeps only while no step is announced, and takes part in every step it is awake for."""

import threading
import time

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from ffnn_gpu.backends.cpu.loops.chunks import command_of
from ffnn_gpu.backends.cpu.loops.compiled_function import CompiledFunction
from ffnn_gpu.backends.cpu.loops.intrinsics import give_way, load, store
from ffnn_gpu.backends.cpu.loops.values import INT64, TRUTH
from ffnn_gpu.backends.cpu.recording import threads

LIMIT = 60  # seconds


may_sleep = CompiledFunction(threads.may_sleep, TRUTH, INT64, INT64)


def meeting(like, operands, chunk, chunks):
    """Set a flag in chunk 1, and wait for the flag in chunk 0."""
    flag = operands[0]
    if chunk == 1:
        store(flag, 1)
    while load(flag) == 0:
        give_way()


def wake(pool):
    if pool.announce(pool.shared, pool.helpers):
        pool.wake()


def address(array):
    return array.__array_interface__["data"][0]


@pytest.fixture
def pool(monkeypatch):
    """Return a pool with one helper that never starts, so that the test plays the helper."""
    monkeypatch.setattr(threads.threading.Thread, "start", lambda thread: None)
    return threads.ThreadPool(2)


def test_helper_may_sleep_after_it_has_seen_every_step(pool):
    pool.asleep[0][0] = 0
    assert may_sleep(pool.shared, 0)
    assert pool.asleep[0][0] == 1


def test_helper_stays_awake_from_the_announcement_of_a_step_to_its_end(pool):
    pool.asleep[0][0] = 0
    wake(pool)  # finds no helper asleep, so it rings no bell
    assert pool.bells[0].locked()
    assert not may_sleep(pool.shared, 0)
    assert pool.asleep[0][0] == 0
    threads.Native.lead(pool.shared, 0, 0, 0, pool.shared)
    assert not may_sleep(pool.shared, 0)  # it has not seen the step


def test_withdrawn_announcement_lets_the_helper_sleep(pool):
    wake(pool)
    threads.Native.withdraw(pool.shared)
    assert may_sleep(pool.shared, 0)


def test_waking_twice_rings_the_bell_once(pool):
    wake(pool)
    wake(pool)
    assert not pool.bells[0].locked()
    pool.bells[0].acquire()
    wake(pool)  # the helper has not run yet, so it still counts as asleep
    assert not pool.bells[0].locked()


def test_helper_returns_when_no_step_comes(pool):
    threads.Native.help(pool.shared, 0, 1)
    assert pool.asleep[0][0] == 1


def test_announced_helper_takes_part_in_a_step_that_begins_late():
    """Chunk 0, which the caller claims, waits until chunk 1 has run, which only a helper can do."""
    pool = threads.ThreadPool(2)
    marks, flag, failed = np.zeros(3, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64)
    operands = np.array([address(flag)])
    command = command_of(meeting, np.dtype(np.float32))
    table = np.array([[command.address, address(operands), 2, address(marks)]])
    wake(pool)
    time.sleep(0.05)  # much longer than PATIENCE
    leader = threading.Thread(
        target=lambda: threads.Native.lead(pool.shared, 1, address(table), 1, address(failed)), daemon=True
    )
    leader.start()
    leader.join(LIMIT)
    assert not leader.is_alive(), "the helper did not take part"
