"""A CuPy whose arrays have addresses and no content: it records what is launched while a stream captures.

Arrays are NumPy arrays that nobody touches, so the system never gives them memory. Values that are read are
garbage. Streams and events carry dependencies as CUDA's do: a launch follows the work before it on its
stream, and the work before every event that its stream waits for.
"""

import contextlib
import itertools
import sys
import weakref
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from benchmarks.gpu_model import traffic
from benchmarks.gpu_model.paper_cublaslt import PaperCublasLt
from ffnn_gpu.backends.cuda.kernels import OF_MEMBERS
from ffnn_gpu.testing.strict_array import StrictArray
from ffnn_gpu.testing.strict_device import StrictModule

KEPT = 2**16  # bytes


@dataclass(frozen=True)
class Launch:
    """One node of a graph.

    Attributes:
        reads, writes: extents of memory, (first address, address after the last byte).
        moved: bytes read and written.
        flop: type of the product → FLOP.
        instructions: warp instructions, 0 if memory decides the time.
        shared: bytes of shared memory read and written, 0 if they are few.
        after: numbers of the nodes that must end before.
    """

    name: str
    reads: tuple
    writes: tuple
    moved: int
    flop: dict = field(default_factory=dict)
    instructions: float = 0.0
    after: frozenset = frozenset()
    shared: float = 0.0


class PaperArray(StrictArray):
    """An array without content."""

    __slots__ = ()

    def _view(self, host):
        return PaperArray(self.xp, host, self.device_id)


PaperArray.__module__ = "cupy"  # the package checks the module of an array's class


class PaperCupy(StrictModule):
    """See the module.

    Attributes:
        nodes: the launches of the capture that is under way.
        graphs: the launches of each capture that has ended.
    """

    ndarray = PaperArray

    def __init__(self):
        super().__init__(1, 1 << 40)
        self.nodes, self.graphs, self.kept = [], [], []
        self._streams, self.bindings = [], PaperCublasLt(self)
        numbers, module = itertools.count(7), self

        class Stream:
            def __init__(self, non_blocking=False):
                self.ptr, self.tail, self.capturing = next(numbers), frozenset(), False
                module._by_number[self.ptr] = self

            def __enter__(self):
                module._streams.append(self)
                return self

            def __exit__(self, *_):
                module._streams.pop()

            def is_capturing(self):
                return self.capturing

            def synchronize(self):
                assert not self.capturing, "a synchronization in a capture"

            def wait_event(self, event):
                self.tail, self.capturing = self.tail | event.tail, self.capturing or event.capturing
                module._forked.add(self.ptr)

            def begin_capture(self, mode=None):
                self.tail, self.capturing = frozenset(), True
                module.nodes, module._forked = [], {self.ptr}

            def end_capture(self):
                return module._end_capture(self)

        class Event:
            def __init__(self, **_):
                self.tail, self.capturing = frozenset(), False

            def record(self, stream=None):
                stream = stream or module.cuda.get_current_stream()
                self.tail, self.capturing = stream.tail, stream.capturing

            def synchronize(self):
                """Return at once: nothing runs."""

        def without_driver():
            raise RuntimeError("paper has no driver, so that no algorithm is stored for it")

        self._by_number, self._forked = weakref.WeakValueDictionary(), set()
        default = Stream()
        self.cuda.Stream, self.cuda.Event = Stream, Event
        self.cuda.get_current_stream = lambda: (self._streams or [default])[-1]
        self.cuda.MemoryPool = lambda: SimpleNamespace(malloc=None, free_all_blocks=lambda: None)
        self.cuda.using_allocator = lambda allocator: contextlib.nullcontext()
        self.cuda.get_elapsed_time = lambda start, stop: 0.0
        self.cuda.Device.compute_capability = "90"
        self.cuda.runtime.getDeviceProperties = lambda index: {"name": b"paper"}
        self.cuda.runtime.driverGetVersion = without_driver

    def _end_capture(self, stream):
        ends = set(range(len(self.nodes))) - set().union(*(node.after for node in self.nodes))
        assert ends <= stream.tail, "cudaErrorStreamCaptureUnjoined: a stream was not joined"
        for number in self._forked:
            assert number in self._by_number, "a stream was destroyed while it was captured"
            self._by_number[number].capturing = False
        self.graphs.append(tuple(self.nodes))
        return SimpleNamespace(launch=lambda stream=None: None, upload=lambda stream=None: None)

    def launched(self, name, reads, writes, moved, *, flop=None, instructions=0.0, shared=0.0, stream=None):
        """Record a launch on the stream with this number, or on the current one."""
        stream = self.cuda.get_current_stream() if stream is None else self._by_number[stream]
        if stream.capturing:
            where = tuple(reads), tuple(writes)
            node = Launch(name, *where, moved, flop or {}, instructions, stream.tail, shared)
            self.nodes.append(node)
            stream.tail = frozenset({len(self.nodes) - 1})

    # ---- what StrictModule computes

    def new(self, host, asked=True, given=()):
        made = PaperArray(self, _aligned(np.asarray(host)), 0)
        if self.cuda.get_current_stream().capturing:
            self.kept.append(made)  # as a pool whose memory no one else uses while the graph lives
        return made

    def make(self, function, *args, asked=True):
        with np.errstate(all="ignore"):
            made = self.new(function(*map(self.read, args)))
        self._array_function(args, made)
        return made

    def alter(self, function, target, *args):
        self._array_function(args, target)
        return target

    def _array_function(self, args, written):
        arrays = [each for each in args if isinstance(each, StrictArray)]
        moved = sum(each.nbytes for each in arrays) + written.nbytes
        self.launched("array function", map(traffic.extent, arrays), [traffic.extent(written)], moved)

    def RawModule(self, *, code, options):  # noqa: N802 - CuPy's name
        of_members = OF_MEMBERS in options
        return SimpleNamespace(get_function=lambda name: self._function(name, code, of_members))

    def _function(self, name, code, of_members):
        kernel = traffic.kernel_of(name, code)
        accesses = traffic.accesses_of_members if of_members else traffic.accesses

        def launch(grid, block, arguments, shared_mem=0):
            reads, writes, moved, work = accesses(kernel, arguments, code)
            self.launched(
                kernel, reads, writes, moved,
                flop=work.flop, instructions=work.instructions, shared=work.shared,
            )  # fmt: skip

        return launch


def _aligned(host):
    """Return an array at a multiple of 512 bytes, like CuPy's. Only small ones keep their values."""
    whole = np.empty(host.nbytes + 512, np.uint8)
    placed = np.ndarray(host.shape, host.dtype, whole, -whole.ctypes.data % 512)
    if host.nbytes <= KEPT:
        placed[...] = host
    return placed


@contextlib.contextmanager
def installed():
    """Return a PaperCupy, which `import cupy` imports meanwhile, with its cublasLt."""
    cupy = PaperCupy()
    modules = {"cupy": cupy, "nvmath.bindings.cublasLt": cupy.bindings}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield cupy
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
