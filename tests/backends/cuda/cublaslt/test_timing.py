"""Times of work on a stream, on the clock of a stand-in."""

import contextlib

import pytest

from ffnn_gpu.backends.cuda.cublaslt.timing import milliseconds
from tests.backends.cuda.host_memory import FakeCupy


def work_on(cupy, runs, before):
    """Work that takes 500 ms the first `before` times, then 3 a run for a round, 2 for a round, 7 for a round."""

    def run():
        runs.append(cupy.clock)
        past = len(runs) - before
        cupy.clock += 500 if past <= 0 else 3 if past <= 10 else 2 if past <= 20 else 7

    return run


def test_time_is_that_of_one_run_in_the_quietest_round():
    cupy, runs = FakeCupy(), []
    run = work_on(
        cupy, runs, before=11
    )  # once as it is, ten times where the stand-in finds out what is recorded
    assert milliseconds(cupy, lambda: cupy.act(run)) == 2
    assert len(runs) == 41


def test_recorded_work_is_timed_by_its_launches():
    """What the host does while recording takes no time of the GPU's."""
    cupy, host = FakeCupy(), []

    def work():
        host.append(1)
        cupy.act(lambda: setattr(cupy, "clock", cupy.clock + 4))

    assert milliseconds(cupy, work) == 4
    assert len(host) == 11 and [graph.launched for graph in cupy.graphs] == [3]


def test_work_that_cannot_be_recorded_is_timed_one_by_one():
    cupy, runs = FakeCupy(), []
    run = work_on(cupy, runs, before=1)

    def work():
        cupy.forbidden_in_a_capture("a product of cuBLAS", NotImplementedError)
        run()

    assert milliseconds(cupy, work) == 2
    assert not cupy.graphs and not cupy.stream.is_capturing()


def test_work_that_spoils_its_recording_in_silence_is_timed_one_by_one():
    cupy, runs = FakeCupy(), []
    run = work_on(cupy, runs, before=11)

    def work():
        with contextlib.suppress(NotImplementedError):
            cupy.forbidden_in_a_capture("a query", NotImplementedError)
        run()

    assert milliseconds(cupy, work) == 2 and not cupy.graphs


def test_work_that_fails_by_itself_says_so():
    def work():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        milliseconds(FakeCupy(), work)
