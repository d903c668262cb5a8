"""Times of work on a stream, on the clock of a stand-in."""

from ffnn_gpu.backend.timing import milliseconds
from tests.backend.host_memory import FakeCupy


def test_time_is_that_of_one_run_in_the_quietest_round_after_one_run_for_nothing():
    cupy, runs = FakeCupy(), []

    def work():
        runs.append(cupy.clock)
        cupy.clock += 500 if len(runs) == 1 else 3 if len(runs) < 12 else 2 if len(runs) < 22 else 7

    assert milliseconds(cupy, cupy.stream, work) == 2
    assert len(runs) == 31
