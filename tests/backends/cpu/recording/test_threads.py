"""A helper thread sleeps only if it has seen every announced step, and is woken exactly once."""

import numpy as np
import pytest

threads = pytest.importorskip("ffnn_gpu.backends.cpu.recording.threads")


class Looked(np.ndarray):
    """A mark of the shared memory that runs `then` after each read."""

    def __getitem__(self, index):
        value = int(super().__getitem__(index))
        self.then()
        return value


@pytest.fixture
def pool(monkeypatch):
    """Return a pool with one helper that never starts, so that the test plays the helper."""
    monkeypatch.setattr(threads.threading.Thread, "start", lambda thread: None)
    return threads.ThreadPool(2)


def asleep(pool):
    return int(np.asarray(pool.asleep[0])[0])


def test_helper_sleeps_after_it_has_seen_every_step(pool):
    pool.asleep[0][0] = 0
    assert threads.may_sleep(pool.shared, 0)
    assert asleep(pool) == 1


def test_helper_stays_awake_if_a_step_is_announced_before_it_marks_itself(pool):
    pool.asleep[0][0] = 0
    pool.wake()  # finds no helper asleep, so it rings no bell
    assert pool.bells[0].locked()
    assert not threads.may_sleep(pool.shared, 0)
    assert asleep(pool) == 0


def test_helper_that_marks_itself_after_wake_looked_has_seen_the_announcement(pool):
    pool.asleep[0][0] = 0
    slept = []
    pool.asleep[0] = pool.asleep[0].view(Looked)
    pool.asleep[0].then = lambda: slept.append(threads.may_sleep(pool.shared, 0))
    pool.wake()
    assert slept == [False]


def test_waking_twice_rings_the_bell_once(pool):
    pool.wake()
    pool.wake()
    assert not pool.bells[0].locked()
    pool.bells[0].acquire()
    pool.wake()  # the helper has not run yet: it still counts as asleep
    assert not pool.bells[0].locked()


def test_woken_helper_takes_part_until_no_step_comes(pool):
    pool.wake()
    threads.help(pool.shared, 0)  # returns after PATIENCE polls
    assert asleep(pool) == 1
    assert threads.may_sleep(pool.shared, 0)
