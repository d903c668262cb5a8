"""A step as a CUDA graph: recorded once for each set of arguments, then launched as a whole.

Why: a small network's step is about ten kernels of a few microseconds each. Launching each from Python takes
longer than running it. A graph launches all at once.

A graph freezes every Python number and every address. So whatever changes from call to call must be in arrays
that keep their address. The first call with some arguments runs uncaptured: kernels are compiled, products
planned, constants moved. The second call is recorded. Later calls launch the recording.

Why a recording allocates from its own pool: each launch writes again to memory that was freed during
recording. In the common pool, that memory would belong to another owner by then.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

import numpy as np

log = logging.getLogger("ffnn_gpu")

MOST_GRAPHS = 32  # per step: arguments that are never repeated would otherwise fill the device with graphs
# Arguments compared by value. A bound method is a new object each time it is read.
PLAIN = int, float, str, bool, type(None), np.generic, MethodType


@dataclass(eq=False)
class Recording:
    """One set of arguments: its graph, and everything that must live as long as the graph.

    `free` returns the memory of its pool, because CuPy 14's pools do not (cupy/cuda/memory.pyx, _Arena).
    """

    args: tuple[Any, ...]
    graph: Any = None
    result: Any = None
    memory: tuple[Any, ...] = ()
    free: Callable[[], None] | None = None

    def __del__(self) -> None:
        self.graph = self.result = None
        if self.free is not None:
            self.free()


class CapturedStep:
    """step(…) as a graph, from the second call with the same arguments on.

    The backend's device must be current.

    Arguments are the same if they are equal numbers, strings or methods, or the same object. The next call
    with the same arguments overwrites the result of a call. One thread at a time, because the scratch memory
    belongs to the thread that recorded.

    Attributes:
        reason: why steps run uncaptured from now on; "" if they are captured.
    """

    def __init__(self, backend: Any, step: Callable[..., Any]) -> None:
        usable, why = backend.can_capture()
        self.backend, self.step, self.reason = backend, step, "" if usable else why
        self._recordings: dict[Any, Recording] = {}
        if self.reason:
            log.info("steps run one kernel at a time: %s", self.reason)

    def __call__(self, *args: Any) -> Any:
        key = tuple((type(a), a) if isinstance(a, PLAIN) else id(a) for a in args)
        recording = self._recordings.get(key)
        if recording is not None and recording.graph is None and not self.reason:
            self._record(recording)
        if recording is None or recording.graph is None:
            self._remember(key, args)
            return self.step(*args)
        recording.graph.launch()
        return recording.result

    def _remember(self, key: Any, args: tuple[Any, ...]) -> None:
        """Make a Recording, to be filled at the second call; give up after too many."""
        if self.reason or key in self._recordings:
            return
        if len(self._recordings) == MOST_GRAPHS:
            self._give_up(
                f"it came with more than {MOST_GRAPHS} sets of arguments; pass it the same arrays each time"
            )
        else:
            self._recordings[key] = Recording(args)

    def _record(self, recording: Recording) -> None:
        """Give `recording` its graph, or give up."""
        cuda = self.backend.xp.cuda
        stream, pool = cuda.Stream(non_blocking=True), cuda.MemoryPool()
        recording.free = partial(self.backend.on_device, pool.free_all_blocks)
        with stream, cuda.using_allocator(pool.malloc):
            stream.begin_capture()
            try:
                result = self.step(*recording.args)
            except Exception as error:  # running the step uncaptured raises its own error
                self._give_up(f"recording it ended in {type(error).__name__}: {' '.join(str(error).split())}")
            try:
                graph = stream.end_capture()
            except Exception as error:  # CUDA invalidates a recording that contains a forbidden call
                self._give_up(
                    f"its recording was refused with {type(error).__name__}: {' '.join(str(error).split())}"
                )
        if self.reason:
            recording.free()
        else:
            recording.graph, recording.result, recording.memory = graph, result, self.backend.thread_memory()

    def _give_up(self, reason: str) -> None:
        if not self.reason:
            self.reason = reason
            log.warning("a step runs one kernel at a time: %s", reason)
