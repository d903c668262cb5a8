"""Stream capture for the strict device: what is captured does not happen, and happens anew with every launch.

Everything that would write runs while it is recorded, because its results have shapes; afterwards all memory gets back what
it held, and what was allocated meanwhile holds garbage. A launch runs the recorded work in order, reading all arrays again.
So a number that was frozen shows as a wrong result. Refused while capturing: waiting for the device, copies from the host,
memory from the common pool, which somebody else would own when the graph is launched.
"""

import contextlib
import itertools

import numpy as np

from ffnn_gpu.testing.strict_device import Refusal, StrictArray, StrictModule

StrictArray.__module__ = "cupy"  # the boundary asks an array's class where it comes from


class CudaRuntimeError(RuntimeError):
    """As cupy_backends.cuda.api.runtime.CUDARuntimeError."""


def garbage(host):
    """Fill with NaN, or −1, or the largest number."""
    host.reshape(-1).view(np.uint8)[...] = 0xFF


def root(host):
    while isinstance(host.base, np.ndarray):
        host = host.base
    return host


class Tape:
    """What one capture has recorded so far."""

    def __init__(self):
        self.work, self.saved, self.made, self.spoilt = [], {}, [], ""

    def save(self, host):
        """Remember what the memory under `host` holds, before it is written for the first time."""
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
    """As cupy.cuda.Graph; it keeps no array alive that the recorded work does not need."""

    def __init__(self, work):
        self.work, self.launched = work, 0

    def launch(self, stream=None):
        self.launched += 1
        for work in self.work:
            work()


class Capturing:
    """Mixed into a stand-in for CuPy: streams, pools, and who is recording."""

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
            """As CuPy's, it keeps what it was given back, also when it goes itself."""

            def __init__(self):
                module.pools_to_free.add(id(self))

            def malloc(self, size):
                raise NotImplementedError(
                    "stands for a pool: what is allocated while it is in use is NumPy's own memory"
                )

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
        """Do `work`, which writes into the host arrays `written`; while capturing, remember it instead."""
        if self.tape is not None:
            for host in written:
                self.tape.save(host)
            self.tape.work.append(work)
        work()

    def wait(self):
        self.forbidden_in_a_capture("a synchronization", CudaRuntimeError)

    def wait_for_the_device(self):
        """Refused while any thread records: a device encompasses its streams (CUDA C++ Programming Guide, "CUDA Graphs")."""
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
    """The strict module with streams that record. State is per thread."""

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
