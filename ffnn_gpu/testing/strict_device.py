"""A device for laptops without a GPU: the manners of one, the arithmetic of NumPy. `assert_parity` runs layers on it.

What it refuses, and CuPy refuses too (read in the sources of CuPy 14.2):
- NumPy arrays mixed with device arrays, in operators, functions and assignments; `__array__`; `__index__`;
- keyword arguments that CuPy's functions lack (`take` has no mode, reductions have no where);
- a product into an `out` that is not C-contiguous or of another dtype;
- an array of one device in a kernel launched on another.

What it refuses besides, because on a GPU it is slow or wrong although CuPy allows it:
- float64 results of arguments none of which is a float64 device array, unless `dtype=` asks for them;
- iteration;
- while `within_a_step()`: waiting for the device (`float`, `int`, `bool`, `item`, `get`, boolean masks) and copies from the
  host, which a graph capture forbids.

What it counts: `synchronizations`, `uploads`, `allocations`, `launches`.

What it cannot see: CUDA itself. Races between streams, asynchronous copies from memory that changes, alignment, the rounding
and the order of sums of a GPU, memory pools, the cost of anything, wrong kernels, and what depends on a driver's version.
Indices out of range raise here and wrap around in CuPy. Scalars are computed as NumPy's scalars, so that results are
bitwise those of the reference on NumPy. NumPy's functions that CuPy has under the same name and that are not written out
below are passed on.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.testing.strict_array import SCALARS, Refusal, StrictArray

WIDE = (np.float64, np.complex128)


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory.OutOfMemoryError."""


class StrictModule:
    """The array module: CuPy's functions with CuPy's signatures, on `count` devices of `total` bytes."""

    ndarray = StrictArray
    float32, float64, int64, uint32, uint64 = np.float32, np.float64, np.int64, np.uint32, np.uint64

    def __init__(self, count=1, total=1 << 34):
        self.total, self._thread = total, threading.local()
        self.synchronizations = self.uploads = self.allocations = self.launches = 0
        self.entered = dict.fromkeys(range(count), 0)  # how often each device was made current
        module = self

        class Device:
            mem_info = property(lambda device: (module.total, module.total))

            def __init__(self, id):
                self.id = id

            def synchronize(self):
                module.synchronize()

            def __enter__(self):
                module.entered[self.id] += 1
                module._state().devices.append(self.id)
                return self

            def __exit__(self, *_):
                module._state().devices.pop()

        self.cuda = SimpleNamespace(
            Device=Device,
            runtime=SimpleNamespace(getDeviceCount=lambda: count),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        )

    def _state(self) -> Any:
        if not hasattr(self._thread, "devices"):
            self._thread.devices, self._thread.steps = [0], 0
        return self._thread

    # ---- what a stand-in that captures graphs overrides

    def act(self, work: Callable[[], Any], *written: np.ndarray) -> None:
        """Do `work`, which writes into the host arrays `written`."""
        work()

    def note_new(self, host: np.ndarray) -> None:
        """`host` is about to become an array of this device."""

    def note_made(self, made: StrictArray, function: Callable[[], Any]) -> None:
        """`made` holds what `function` gives."""

    def require_no_capture(self, what: str) -> None:
        """Raise Refusal while a graph is captured."""

    @contextlib.contextmanager
    def within_a_step(self):
        """While entered, waiting for the device and copying from the host are refused."""
        self._state().steps += 1
        try:
            yield
        finally:
            self._state().steps -= 1

    # ---- the rules

    def synchronize(self):
        self.wait()

    def wait(self):
        self.require_no_capture("a synchronization")
        if self._state().steps:
            raise Refusal("a synchronization within a step")
        self.synchronizations += 1

    def check(self, array):
        if array.device_id != self._state().devices[-1]:
            raise Refusal(
                f"an array of device {array.device_id} in a kernel of device {self._state().devices[-1]}"
            )

    def refuse(self, value):
        raise Refusal(f"Unsupported type {type(value)}")

    def read(self, value):
        """What NumPy computes with: the memory of a device array, or a scalar."""
        if isinstance(value, SCALARS):
            return value
        if not isinstance(value, StrictArray):
            self.refuse(value)
        self.check(value)
        return value.host if value.ndim else value.host[()]

    def index(self, key):
        if not isinstance(key, StrictArray):
            return self.asarray(key)
        if key.dtype == bool:
            self.wait()
        return key

    def new(self, host, asked=True, given=()):
        """`host` as a new array of the current device. Raises Refusal for a float64 nobody gave or asked for."""
        host = np.asarray(host)
        wide = any(isinstance(a, StrictArray) and a.dtype in WIDE for a in given)
        if host.dtype in WIDE and not (asked or wide):
            raise Refusal(f"a float64 result of {[getattr(a, 'dtype', type(a)) for a in given]}")
        if host.nbytes > self.total:
            raise OutOfMemoryError(
                f"Out of memory allocating {host.nbytes:,} bytes (allocated so far: 0 bytes)."
            )
        self.allocations += 1
        self.note_new(host)
        return StrictArray(self, host, self._state().devices[-1])

    def make(self, function, *args, asked=True):
        """A new array with what `function` makes of the arguments."""
        made = self.new(function(*map(self.read, args)), asked, args)
        self.note_made(made, lambda: function(*map(self.read, args)))
        return made

    def alter(self, function, target, *args):
        """`function`, which writes into its first argument's memory."""
        self.check(target)
        self.act(lambda: function(target.host, *map(self.read, args)), target.host)

    def compute(self, function, *args, dtype=None, out=None, **options):
        self.launches += 1
        if dtype is not None:
            options["dtype"] = dtype
        if out is None:
            return self.make(lambda *hosts: function(*hosts, **options), *args, asked=dtype is not None)
        self.alter(lambda host, *hosts: function(*hosts, out=host, **options), out, *args)
        return out

    def reduce(self, function, a, axis, dtype, out, keepdims):
        if not isinstance(a, StrictArray):
            self.refuse(a)
        options = {"axis": axis, "keepdims": keepdims}
        return self.compute(
            lambda host, **o: function(np.asarray(host), **o), a, dtype=dtype, out=out, **options
        )

    # ---- functions, each with the signature it has in CuPy

    def sum(self, a, axis=None, dtype=None, out=None, keepdims=False):
        return self.reduce(np.sum, a, axis, dtype, out, keepdims)

    def mean(self, a, axis=None, dtype=None, out=None, keepdims=False):
        return self.reduce(np.mean, a, axis, dtype, out, keepdims)

    def empty(self, shape, dtype=float, order="C"):
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if size > self.total:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: 0 bytes).")
        return self.new(np.empty(shape, dtype, order), asked=dtype is not float)

    def ones(self, shape, dtype=float, order="C"):
        return self.make(lambda: np.ones(shape, dtype, order), asked=dtype is not float)

    def full(self, shape, fill_value, dtype=None, order="C"):
        return self.make(lambda: np.full(shape, fill_value, dtype, order), asked=dtype is not None)

    def eye(self, N, M=None, k=0, dtype=float, order="C"):
        return self.make(lambda: np.eye(N, M, k, dtype, order), asked=dtype is not float)

    def arange(self, start, stop=None, step=1, dtype=None):
        return self.make(lambda: np.arange(start, stop, step, dtype=dtype))

    def empty_like(self, a):
        return self.new(np.empty_like(self.read(a)))

    def ones_like(self, a):
        return self.make(np.ones_like, a)

    def zeros_like(self, a):
        return self.make(np.zeros_like, a)

    def where(self, condition, x, y):
        return self.compute(np.where, condition, x, y)

    def clip(self, a, a_min, a_max, out=None):
        return self.compute(np.clip, a, a_min, a_max, out=out)

    def flatnonzero(self, a):
        return self.wait() or self.new(np.flatnonzero(self.read(a)))

    def broadcast_arrays(self, *args):
        return tuple(
            a._view(h) for a, h in zip(args, np.broadcast_arrays(*map(self.read, args)), strict=True)
        )

    def stack(self, tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
        return self.make(lambda *hosts: np.stack(hosts, axis, dtype=dtype, casting=casting), *tup)

    def take(self, a, indices, axis=None, out=None):
        return self.compute(lambda rows, at, **o: np.take(rows, at, axis, **o), a, indices, out=out)

    def matmul(self, a, b, out=None):
        if out is not None and not (out.flags.c_contiguous and out.dtype == a.dtype == b.dtype):
            raise Refusal("Output array must be C-contiguous and of the operands' dtype")
        if out is None or a.dtype.itemsize > 2:
            return self.compute(np.matmul, a, b, out=out)
        out[...] = self.compute(
            np.matmul, a.astype(np.float32), b.astype(np.float32)
        )  # cuBLAS sums 16 bits in float32
        return out

    # ---- between host and device

    def asarray(self, a, dtype=None, order=None):
        if isinstance(a, StrictArray):
            here = a if a.device_id == self._state().devices[-1] else self._from_another_device(a)
            return here if dtype is None or here.dtype == dtype else here.astype(dtype)
        host = np.array(a, dtype, order=order or "K")
        known = host.dtype.kind in "?iufbc" or host.dtype.name == "bfloat16"
        if not known or host.dtype.itemsize > 16 - 8 * (host.dtype.kind != "c"):
            raise ValueError(f"Unsupported dtype {host.dtype}")
        self.require_no_capture("a copy from the host")
        if self._state().steps:
            raise Refusal("a copy from the host within a step")
        self.uploads += 1
        return self.new(host)

    def ascontiguousarray(self, a, dtype=None):
        if not isinstance(a, StrictArray):
            self.refuse(a)
        same = a.flags.c_contiguous and (dtype is None or a.dtype == dtype)
        return a if same else self.make(lambda host: np.ascontiguousarray(host, dtype), a)

    def _from_another_device(self, a):
        self.require_no_capture("a copy from another device")
        return self.new(a.host.copy())

    def asnumpy(self, a):
        return a.get() if isinstance(a, StrictArray) else np.asarray(a)

    def __getattr__(self, name: str) -> Any:
        """Another function of NumPy's, or a constant: what a layer of somebody's own may call."""
        found = getattr(np, name)
        if not callable(found) or isinstance(found, type):
            return found
        return lambda *args, **options: self.passed(found, *args, **options)

    def passed(
        self, function: Callable[..., Any], *args: Any, dtype: Any = None, out: Any = None, **options: Any
    ) -> Any:
        """`function` of device arrays, also within tuples and lists, and of whatever is no array."""

        def arrays(value: Any) -> Iterator[Any]:
            if isinstance(value, (tuple, list)):
                yield from (a for entry in value for a in arrays(entry))
            elif isinstance(value, (StrictArray, np.ndarray)):
                yield value

        def filled(value: Any, hosts: Iterator[Any]) -> Any:
            if isinstance(value, (tuple, list)):
                return type(value)(filled(entry, hosts) for entry in value)
            return next(hosts) if isinstance(value, (StrictArray, np.ndarray)) else value

        def call(*hosts: Any, **o: Any) -> Any:
            return function(*filled(args, iter(hosts)), **o, **options)

        return self.compute(call, *arrays(args), dtype=dtype, out=out)


def _ufunc(function):
    def call(self, *args, out=None, dtype=None):
        return self.compute(function, *args, out=out, dtype=dtype)

    return call


for _name in (
    "add",
    "subtract",
    "multiply",
    "right_shift",
    "bitwise_and",
    "maximum",
    "minimum",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "square",
    "tanh",
    "sign",
    "isfinite",
):
    setattr(StrictModule, _name, _ufunc(getattr(np, _name)))


class StrictBackend(Backend):
    """The reference on a strict device. A captured step may neither wait for the device nor copy from the host."""

    name = "strict"
    steps_between_reads = 64

    def __init__(self, xp=None):
        super().__init__(xp or StrictModule())

    def asarray(self, array, dtype=None):
        return super().asarray(array if self.owns(array) else np.asarray(array), dtype)

    def to_host(self, array):
        return self.xp.asnumpy(array)

    def capture(self, step):
        def run(*args):
            with self.xp.within_a_step():
                return step(*args)

        return run
