"""A step as a CUDA graph: recorded once for each set of arguments, then launched as a whole.

Why: a small network's step is about ten kernels of a few microseconds each. Launching each from Python takes
longer than running it. A graph launches all at once.

A graph freezes every Python number and every address. So whatever changes from call to call must be in arrays
that keep their address. The first call with some arguments runs uncaptured: kernels are compiled, products
planned, constants moved. The second call is recorded. Later calls launch the recording. Of a step that
`repeats`, one uncaptured call serves every number of repetitions, because they use the same kernels.

Why a recording allocates from its own pool: each launch writes again to memory that was freed during
recording. In the common pool, that memory would belong to another owner by then.
"""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

import numpy as np

from ffnn_gpu.backends.cuda.branches import STREAMS

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
        overlap: whether independent operations may run at the same time (branches.py).
        repeats: whether the first argument only says how often the step repeats itself.
    """

    def __init__(
        self, backend: Any, step: Callable[..., Any], overlap: bool = False, repeats: bool = False
    ) -> None:
        usable, why = backend.can_capture()
        self.overlap, self.repeats = overlap, repeats
        self.backend, self.step, self.reason = backend, step, "" if usable else why
        self._recordings: dict[Any, Recording] = {}
        self._have_run: set[Any] = set()
        if self.reason:
            log.info("steps run one kernel at a time: %s", self.reason)

    def __call__(self, *args: Any) -> Any:
        key = tuple((type(a), a) if isinstance(a, PLAIN) else id(a) for a in args)
        recording = self._recordings.get(key)
        has_run = key[self.repeats :] in self._have_run
        if recording is None and not self.reason:
            recording = self._new_recording(key, args)
        if recording is not None and recording.graph is None and has_run and not self.reason:
            self._record(recording)
        if recording is None or recording.graph is None:
            self._have_run.add(key[self.repeats :])
            return self.step(*args)
        recording.graph.launch()
        return recording.result

    def _new_recording(self, key: Any, args: tuple[Any, ...]) -> Recording | None:
        """Make a Recording without a graph; after too many, give up and return None."""
        if len(self._recordings) == MOST_GRAPHS:
            self._give_up(
                f"it came with more than {MOST_GRAPHS} sets of arguments; pass it the same arrays each time"
            )
            return None
        return self._recordings.setdefault(key, Recording(args))

    def _record(self, recording: Recording) -> None:
        """Give `recording` its graph, or give up. A graph of branches that is refused becomes a chain."""
        if self.overlap:
            why = self._capture(recording, STREAMS)
            if why:
                self.overlap = False
                log.info("the operations of a step are captured as a chain: %s", why)
        if recording.graph is None:
            why = self._capture(recording, 1)
            if why:
                self._give_up(why)

    def _capture(self, recording: Recording, streams: int) -> str:
        """Fill `recording` and return "", or return why there is no graph."""
        backend, cuda, why = self.backend, self.backend.xp.cuda, ""
        made, pool = [cuda.Stream(non_blocking=True) for _ in range(streams)], cuda.MemoryPool()
        free = partial(backend.on_device, pool.free_all_blocks)
        if streams > 1:
            try:
                backend.reserve(streams)
            except cuda.memory.OutOfMemoryError as error:
                return _words(error)
        with made[0], cuda.using_allocator(pool.malloc):
            made[0].begin_capture()
            try:
                with backend.branching(made) if streams > 1 else nullcontext() as _held:
                    result = self.step(*recording.args)
            except Exception as error:  # running the step uncaptured raises its own error
                why = f"recording it ended in {_words(error)}"
            try:
                graph = made[0].end_capture()
            except Exception as error:  # CUDA invalidates a recording that contains a forbidden call
                why = why or f"its recording was refused with {_words(error)}"
        if why:
            free()
        else:
            recording.graph, recording.result, recording.free = graph, result, free
            recording.memory = backend.thread_memory()
        return why

    def _give_up(self, reason: str) -> None:
        if not self.reason:
            self.reason = reason
            log.warning("a step runs one kernel at a time: %s", reason)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
