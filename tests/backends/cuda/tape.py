"""Stream capture for the strict device: recorded work has no effect until its graph is launched.

- While recording, all work runs, because later work needs the shapes of its results.
- At the end of the capture, all memory is restored, and memory allocated during the capture is filled
  with garbage.
- A launch runs the recorded work in order and reads all arrays again. A frozen number gives a wrong
  result.
- A capture raises on synchronization, on copies from the host and on allocations from the common pool,
  whose memory could be in other use when the graph is launched.
"""

import contextlib
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
        self.work, self.saved, self.made, self.spoilt = [], {}, [], ""

    def save(self, host):
        """Save a copy of the memory under `host` before its first write."""
        whole = root(host)
        self.saved.setdefault(id(whole), (whole, whole.copy()))

    def end(self):
        for whole, before in self.saved.values():
            whole[...] = before
        for host in self.made:
            garbage(host)
        if self.spoilt:
            raise CudaRuntimeError(f"cudaErrorStreamCaptureInvalidated: {self.spoilt}")
        return Graph(self.work)


class Graph:
    """Fake of cupy.cuda.Graph. It holds references only to arrays that the recorded work needs."""

    def __init__(self, work):
        self.work, self.launched = work, 0

    def launch(self, stream=None):
        self.launched += 1
        for work in self.work:
            work()


class Capturing:
    """Mixin for a fake of CuPy: streams, memory pools and the state of captures."""

    def add_streams(self):
        module = self

        class Stream:
            def __init__(self, non_blocking=False):
                self.non_blocking, self.capturing, self.ptr = non_blocking, False, next(module.stream_numbers)

            def is_capturing(self):
                return self.capturing

            def synchronize(self):
                module.wait()

            def __enter__(self):
                module._state().streams.append(self)

            def __exit__(self, *_):
                module._state().streams.pop()

            def begin_capture(self, mode=None):
                assert module._state().streams[-1:] == [self], "work on another stream is not captured"
                assert self.non_blocking, "a stream that waits for the default stream"
                module._state().tape, self.capturing = Tape(), True
                module.under_way.append(module._state().tape)
                module.captures += 1

            def end_capture(self):
                tape, module._state().tape, self.capturing = module._state().tape, None, False
                module.under_way.remove(tape)
                graph = tape.end()
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
        self.under_way, self.pools_to_free = [], set()
        default = Stream()
        self.cuda.get_current_stream = lambda: (self._state().streams or [default])[-1]
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
            self.tape.work.append(work)
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
            self.tape.work.append(lambda: np.copyto(made.host, function()))
