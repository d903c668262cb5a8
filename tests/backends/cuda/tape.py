"""Stream capture for the strict device: recorded work has no effect until its graph is launched.

- While recording, all work runs, because later work needs the shapes of its results.
- At the end of the capture, all memory is restored, and memory allocated during the capture is filled
  with garbage.
- A launch runs the recorded work and reads all arrays again. A frozen number gives a wrong result.
- Work on a stream follows the work before it on this stream and before the events that the stream waited
  for, and nothing else: a launch runs the newest work first wherever that is allowed. A missing edge gives
  a wrong result. A stream that was not joined is refused.
- A capture raises on synchronization, on copies from the host and on allocations from the common pool,
  whose memory could be in other use when the graph is launched.
"""

import contextlib
import heapq
import itertools

import numpy as np

from ffnn_gpu.testing.strict_device import Refusal, StrictArray, StrictModule

StrictArray.__module__ = "cupy"  # the package checks the module of an array's class


class CudaRuntimeError(RuntimeError):
    """Fake of cupy_backends.cuda.api.runtime.CUDARuntimeError."""


def garbage(host):
    """Fill with NaN (floats), −1 (signed integers) or the largest number (unsigned integers)."""
    host.reshape(-1).view(np.uint8)[...] = 0xFF


def root(host):
    while isinstance(host.base, np.ndarray):
        host = host.base
    return host


class Tape:
    """The work that one capture has recorded so far, and the memory to restore."""

    def __init__(self):
        self.work, self.after, self.saved, self.made, self.spoilt = [], [], {}, [], ""

    def add(self, work, stream):
        """Record work on a stream."""
        assert stream.capturing, "work on a stream that is not captured"
        self.work.append(work)
        self.after.append(stream.tail)
        stream.tail = frozenset({len(self.work) - 1})

    def save(self, host):
        """Save a copy of the memory under `host` before its first write."""
        whole = root(host)
        self.saved.setdefault(id(whole), (whole, whole.copy()))

    def end(self, stream):
        """Return the graph of a capture that this stream began and ends."""
        for whole, before in self.saved.values():
            whole[...] = before
        for host in self.made:
            garbage(host)
        if self.spoilt:
            raise CudaRuntimeError(f"cudaErrorStreamCaptureInvalidated: {self.spoilt}")
        ends = set(range(len(self.work))).difference(*self.after)
        if not ends <= stream.tail:
            raise CudaRuntimeError("cudaErrorStreamCaptureUnjoined: a stream was not joined")
        return Graph(self.work, newest_first(self.after))


def newest_first(after):
    """Return the numbers of recorded work in the order that differs most from theirs and keeps its edges."""
    waits, followers = [len(each) for each in after], [[] for _ in after]
    for number, each in enumerate(after):
        for earlier in each:
            followers[earlier].append(number)
    ready, order = [-number for number, n in enumerate(waits) if not n], []
    heapq.heapify(ready)
    while ready:
        order.append(-heapq.heappop(ready))
        for number in followers[order[-1]]:
            waits[number] -= 1
            if not waits[number]:
                heapq.heappush(ready, -number)
    return order


class Graph:
    """Fake of cupy.cuda.Graph. It holds references only to arrays that the recorded work needs."""

    def __init__(self, work, order):
        self.work, self.order, self.launched = work, order, 0

    def launch(self, stream=None):
        self.launched += 1
        for number in self.order:
            self.work[number]()


class Event:
    """Fake of cupy.cuda.Event: the work that a stream had when the event was recorded."""

    def __init__(self, cupy):
        self.cupy, self.tail, self.capturing = cupy, frozenset(), False

    def record(self, stream):
        self.tail, self.capturing = stream.tail, stream.capturing


class Capturing:
    """Mixin for a fake of CuPy: streams, memory pools and the state of captures."""

    def add_streams(self):
        module = self

        class Stream:
            def __init__(self, non_blocking=False):
                self.non_blocking, self.capturing, self.ptr = non_blocking, False, next(module.stream_numbers)
                self.tail = frozenset()

            def is_capturing(self):
                return self.capturing

            def synchronize(self):
                module.wait()

            def __enter__(self):
                module._state().streams.append(self)

            def __exit__(self, *_):
                module._state().streams.pop()

            def wait_event(self, event):
                self.tail, self.capturing = self.tail | event.tail, self.capturing or event.capturing
                module.streams_of_capture.append(self)

            def begin_capture(self, mode=None):
                assert module._state().streams[-1:] == [self], "work on another stream is not captured"
                assert self.non_blocking, "a stream that waits for the default stream"
                module._state().tape, self.capturing, self.tail = Tape(), True, frozenset()
                module.under_way.append(module._state().tape)
                module.captures += 1

            def end_capture(self):
                tape, module._state().tape = module._state().tape, None
                for stream in (self, *module.streams_of_capture):
                    stream.capturing = False
                module.streams_of_capture.clear()
                module.under_way.remove(tape)
                graph = tape.end(self)
                module.graphs.append(graph)
                return graph

        class MemoryPool:
            """Like CuPy's, it holds freed memory until free_all_blocks, even if the pool is deleted."""

            def __init__(self):
                module.pools_to_free.add(id(self))

            def malloc(self, size):
                raise NotImplementedError("a fake pool does not allocate: arrays take NumPy memory")

            def free_all_blocks(self):
                module.pools_to_free.discard(id(self))

        @contextlib.contextmanager
        def using_allocator(allocator):
            state = module._state()
            before, state.pool = state.pool, allocator
            try:
                yield
            finally:
                state.pool = before

        self.captures, self.graphs, self.stream_numbers = 0, [], itertools.count(7)
        self.under_way, self.pools_to_free, self.streams_of_capture = [], set(), []
        default = Stream()
        self.cuda.get_current_stream = lambda: (self._state().streams or [default])[-1]
        if not hasattr(self.cuda, "Event"):
            self.cuda.Event = lambda: Event(self)
        self.cuda.Stream, self.cuda.MemoryPool, self.cuda.using_allocator = (
            Stream,
            MemoryPool,
            using_allocator,
        )

    @property
    def tape(self):
        return self._state().tape

    def act(self, work, *written):
        """Do `work`, which writes into the host arrays `written`; while capturing, record it, too."""
        if self.tape is not None:
            for host in written:
                self.tape.save(host)
            self.tape.add(work, self.cuda.get_current_stream())
        work()

    def wait(self):
        self.forbidden_in_a_capture("a synchronization", CudaRuntimeError)

    def wait_for_the_device(self):
        """Raise while any thread captures: a device includes its streams (CUDA C++ Programming Guide)."""
        for tape in self.under_way:
            tape.spoilt = "a synchronization of the device"
        if self.under_way:
            raise CudaRuntimeError("cudaErrorStreamCaptureUnsupported: a stream is being captured")
        self.wait()

    def forbidden_in_a_capture(self, what, error):
        if self.tape is not None:
            self.tape.spoilt = what
            raise error(f"{what} while a stream is being captured")


class CapturingModule(Capturing, StrictModule):
    """The strict device with streams that can be captured. State is per thread."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_streams()

    def _state(self):
        state = super()._state()
        if not hasattr(state, "tape"):
            state.streams, state.tape, state.pool = [], None, None
        return state

    wait = StrictModule.wait

    def synchronize(self):
        self.wait_for_the_device()

    def require_no_capture(self, what):
        self.forbidden_in_a_capture(what, Refusal)

    def note_new(self, host):
        if self.tape is None:
            return
        if self._state().pool is None:
            self.require_no_capture("an allocation from the common pool")
        self.tape.made.append(host)

    def note_made(self, made, function):
        if self.tape is not None:
            work = lambda: np.copyto(made.host, function())  # noqa: E731
            self.tape.add(work, self.cuda.get_current_stream())
