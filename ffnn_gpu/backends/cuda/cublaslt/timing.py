"""How long work takes on the GPU, by its own clock.

Why in a graph: a product of a small layer takes the GPU less time than Python needs to launch it, so launches one by one
would measure Python. Work that cannot be recorded is launched so all the same: then fewer launches win.
Why the shortest of a few rounds: whatever else disturbs a round makes it longer.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

RUNS, ROUNDS = 10, 3


def milliseconds(cupy: Any, work: Callable[[], Any]) -> float:
    """The time of one `work()`, which launches on the current stream: the shortest of a few rounds. It runs before."""
    cupy.cuda.get_current_stream().synchronize()  # what `work` reads may still be under way there
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
    """RUNS times `work` as one launch; None where it cannot be recorded."""
    stream.begin_capture()
    try:
        _repeated(work)
        graph = stream.end_capture()
    except Exception:  # CuPy's own products, for one
        _abandon(stream)
        return None
    return lambda: graph.launch(stream)


def _abandon(stream: Any) -> None:
    try:
        stream.end_capture()
    except Exception:  # it was spoilt; what matters is that it has ended
        return
