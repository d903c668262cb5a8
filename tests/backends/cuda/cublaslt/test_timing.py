"""Timing of work on a stream, with a simulated clock."""

import contextlib
from types import SimpleNamespace

import pytest

from ffnn_gpu.backends.cuda.cublaslt.timing import milliseconds
from tests.backends.cuda.host_memory import FakeCupy


def work_on(cupy, runs, before):
    """Return work that takes 500 ms for `before` runs, then 3 ms, 2 ms and 7 ms in rounds of ten runs."""

    def run():
        runs.append(cupy.clock)
        past = len(runs) - before
        cupy.clock += 500 if past <= 0 else 3 if past <= 10 else 2 if past <= 20 else 7

    return run


def test_time_is_the_time_per_run_of_the_fastest_round():
    cupy, runs = FakeCupy(), []
    # 21 runs before the first round: one unrecorded, ten that the fake records, ten that fill the stream
    run = work_on(cupy, runs, before=21)
    assert milliseconds(cupy, lambda: cupy.act(run)) == 2
    assert len(runs) == 51


def test_work_is_queued_before_the_first_event():
    cupy, order = FakeCupy(), []
    event = cupy.cuda.Event
    cupy.cuda.Event = lambda: SimpleNamespace(
        record=lambda stream, made=event(): order.append("event") or setattr(made, "time", 0),
        synchronize=lambda: order.append("wait"),
        time=0,
    )
    milliseconds(cupy, lambda: cupy.act(lambda: order.append("work")))
    timed = order[order.index("event") - 10 :]
    assert timed == (["work"] * 10 + ["event"]) * 4 + ["wait"]


def test_recorded_work_is_timed_by_its_launches():
    """Work of the host while recording takes no time on the GPU."""
    cupy, host = FakeCupy(), []

    def work():
        host.append(1)
        cupy.act(lambda: setattr(cupy, "clock", cupy.clock + 4))

    assert milliseconds(cupy, work) == 4
    assert len(host) == 11 and [graph.launched for graph in cupy.graphs] == [4]


def test_work_that_cannot_be_recorded_is_timed_one_by_one():
    cupy, runs = FakeCupy(), []
    run = work_on(cupy, runs, before=11)

    def work():
        cupy.forbidden_in_a_capture("a product of cuBLAS", NotImplementedError)
        run()

    assert milliseconds(cupy, work) == 2
    assert not cupy.graphs and not cupy.stream.is_capturing()


def test_work_that_suppresses_the_error_of_its_recording_is_timed_one_by_one():
    cupy, runs = FakeCupy(), []
    run = work_on(cupy, runs, before=21)

    def work():
        with contextlib.suppress(NotImplementedError):
            cupy.forbidden_in_a_capture("a query", NotImplementedError)
        run()

    assert milliseconds(cupy, work) == 2 and not cupy.graphs


def test_error_of_the_work_itself_is_raised():
    def work():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        milliseconds(FakeCupy(), work)
