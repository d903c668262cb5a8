"""Time work on the GPU by the GPU's own clock.

Why in a graph: a small layer's product takes less time than Python needs to launch it, so separate launches
would measure Python. Work that cannot be recorded is launched separately; then work with fewer launches wins.
Why the shortest of a few rounds: any disturbance makes a round longer. Why a round before them that is not
timed: an event that is recorded on an idle stream comes before the latency of the first launch.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

RUNS, ROUNDS = 10, 3


def milliseconds(cupy: Any, work: Callable[[], Any]) -> float:
    """Return the time of one `work()`, which launches on the current stream. It also runs once before."""
    cupy.cuda.get_current_stream().synchronize()  # the inputs of `work` may still be computed there
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        work()
        launch = _recorded(stream, work) or (lambda: _repeated(work))
        events = [cupy.cuda.Event() for _ in range(ROUNDS + 1)]
        for event in events:
            launch()
            event.record(stream)
        events[-1].synchronize()
        times = [cupy.cuda.get_elapsed_time(start, stop) for start, stop in pairwise(events)]
    return float(min(times)) / RUNS


def _repeated(work: Callable[[], Any]) -> None:
    for _ in range(RUNS):
        work()


def _recorded(stream: Any, work: Callable[[], Any]) -> Callable[[], Any] | None:
    """Return RUNS times `work` as one launch; None if it cannot be recorded."""
    stream.begin_capture()
    try:
        _repeated(work)
        graph = stream.end_capture()
    except Exception:  # for example, CuPy's own products
        _abandon(stream)
        return None
    return lambda: graph.launch(stream)


def _abandon(stream: Any) -> None:
    try:
        stream.end_capture()
    except Exception:  # the capture was invalid; it has ended
        return
