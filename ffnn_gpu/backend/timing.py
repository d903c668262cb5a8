"""How long work on a stream takes, by the GPU's own clock.

Why the shortest of a few rounds: whatever else disturbs a round makes it longer. Work that the host takes longer to launch
than the GPU to do is timed by the host's pace: between such, fewer launches win.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

RUNS, ROUNDS = 10, 3


def milliseconds(cupy: Any, stream: Any, work: Callable[[], Any]) -> float:
    """The time of one `work()`, which launches on `stream`: the shortest of a few rounds. It runs once before."""
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    shortest = np.inf
    work()
    for _ in range(ROUNDS):
        start.record(stream)
        for _ in range(RUNS):
            work()
        stop.record(stream)
        stop.synchronize()
        shortest = min(shortest, cupy.cuda.get_elapsed_time(start, stop) / RUNS)
    return shortest
