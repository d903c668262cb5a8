"""Time work on the GPU by the GPU's own clock.

Why in a graph: a small layer's product takes less time than Python needs to launch it, so separate launches
would measure Python. Work that cannot be recorded is launched separately; then work with fewer launches wins.
Why the shortest of a few rounds: any disturbance makes a round longer.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

RUNS, ROUNDS = 10, 3


def milliseconds(cupy: Any, work: Callable[[], Any]) -> float:
    """Return the time of one `work()`, which launches on the current stream. It also runs once before."""
    cupy.cuda.get_current_stream().synchronize()  # the inputs of `work` may still be computed there
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        work()
        launch = _recorded(stream, work) or (lambda: _repeated(work))
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        shortest = np.inf
        for _ in range(ROUNDS):
            start.record(stream)
            launch()
            stop.record(stream)
            stop.synchronize()
            shortest = min(shortest, cupy.cuda.get_elapsed_time(start, stop) / RUNS)
    return shortest


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
