"""A stand-in for a GPU: NumPy's arithmetic with the restrictions of a GPU. `assert_parity` runs layers on it.

It rejects what CuPy rejects (read in the sources of CuPy 14.2):
- NumPy arrays mixed with device arrays, in operators, functions and assignments; `__array__`; `__index__`;
- keyword arguments that CuPy's functions lack (`take` has no mode, reductions have no where);
- a product into an `out` that is not C-contiguous or of another dtype;
- an array of one device in a kernel launched on another.

It also rejects what CuPy allows but is slow or wrong on a GPU:
- float64 results without a float64 device array among the arguments, unless `dtype=` is given;
- iteration;
- while `within_a_step()`: waiting for the device (`float`, `int`, `bool`, `item`, `get`, boolean masks) and
  copies from the host, which a graph capture forbids.

It counts `synchronizations`, `uploads`, `allocations` and `launches`.

It cannot detect faults of CUDA itself:
- races between streams, asynchronous copies from memory that changes, alignment;
- the rounding and the order of sums of a GPU, memory pools, run time;
- wrong kernels, and differences between driver versions.

Indices out of range raise here and wrap around in CuPy. Scalars are computed as NumPy scalars, so that
results are bitwise equal to the reference on NumPy. Functions that NumPy and CuPy share are passed on to
NumPy if not defined below.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends import Backend
from ffnn_gpu.testing.strict_array import REDUCTIONS, SCALARS, Refusal, StrictArray

Shape: TypeAlias = int | tuple[int, ...]
Order: TypeAlias = Any  # "C", "F" or None
WIDE = (np.float64, np.complex128)
# of an NVIDIA H200
ATTRIBUTES = {"ComputeCapabilityMajor": 9, "MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 232448}


class OutOfMemoryError(MemoryError):
    """The counterpart of cupy.cuda.memory.OutOfMemoryError."""


class StrictModule:
    """The array module: CuPy's functions with CuPy's signatures, on `count` devices of `total` bytes."""

    ndarray = StrictArray

    def __init__(self, count: int = 1, total: int = 1 << 34) -> None:
        self.total, self._thread = total, threading.local()
        self.synchronizations = self.uploads = self.allocations = self.launches = 0
        self.entered = dict.fromkeys(range(count), 0)  # device → how often it became the current one
        module = self

        class Device:
            mem_info = property(lambda device: (module.total, module.total))
            attributes = ATTRIBUTES

            def __init__(self, id: int) -> None:
                self.id = id

            def synchronize(self) -> None:
                module.synchronize()

            def __enter__(self) -> "Device":
                module.entered[self.id] += 1
                module._state().devices.append(self.id)
                return self

            def __exit__(self, *_: object) -> None:
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

    # ---- overridden by a subclass that captures graphs

    def act(self, work: Callable[[], Any], *written: HostArray) -> None:
        """Run `work`, which writes into the host arrays `written`."""
        work()

    def note_new(self, host: HostArray) -> None:
        """Called before `host` becomes an array of this device."""

    def note_made(self, made: StrictArray, function: Callable[[], Any]) -> None:
        """Called after `made` has received the result of `function`."""

    def require_no_capture(self, what: str) -> None:
        """Raise Refusal during a graph capture."""

    @contextlib.contextmanager
    def within_a_step(self) -> Iterator[None]:
        """Reject waiting for the device and copying from the host within this context."""
        self._state().steps += 1
        try:
            yield
        finally:
            self._state().steps -= 1

    @contextlib.contextmanager
    def outside_steps(self) -> Iterator[None]:
        """Allow waiting and copying within this context, as in the first call of a step on a GPU."""
        state = self._state()
        steps, state.steps = state.steps, 0
        try:
            yield
        finally:
            state.steps = steps

    # ---- restrictions

    def synchronize(self) -> None:
        self.wait()

    def wait(self) -> None:
        self.require_no_capture("a synchronization")
        if self._state().steps:
            raise Refusal("a synchronization within a step")
        self.synchronizations += 1

    def check(self, array: StrictArray) -> None:
        here = self._state().devices[-1]
        if array.device_id != here:
            raise Refusal(f"an array of device {array.device_id} in a kernel of device {here}")

    def refuse(self, value: object) -> NoReturn:
        raise Refusal(f"Unsupported type {type(value)}")

    def read(self, value: Any) -> Any:
        """Return the host memory of a device array, or a scalar."""
        if isinstance(value, SCALARS):
            return value
        if not isinstance(value, StrictArray):
            self.refuse(value)
        self.check(value)
        return value.host if value.ndim else value.host[()]

    def index(self, key: Any) -> Array:
        if not isinstance(key, StrictArray):
            return self.asarray(key)
        if key.dtype == bool:
            self.wait()
        return key

    def new(self, host: HostArray, asked: bool = True, given: tuple[Any, ...] = ()) -> StrictArray:
        """Return `host` as a new array of the current device.

        Raises Refusal for a float64 result if it was neither asked for nor given.
        """
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

    def make(self, function: Callable[..., Any], *args: Any, asked: bool = True) -> StrictArray:
        """Return a new array with the result of `function`."""
        made = self.new(function(*map(self.read, args)), asked, args)
        self.note_made(made, lambda: function(*map(self.read, args)))
        return made

    def alter(self, function: Callable[..., Any], target: StrictArray, *args: Any) -> StrictArray:
        """Run `function`, which writes into the memory of its first argument, and return that argument."""
        self.check(target)
        self.act(lambda: function(target.host, *map(self.read, args)), target.host)
        return target

    def compute(
        self,
        function: Callable[..., Any],
        *args: Any,
        dtype: DTypeLike | None = None,
        out: Array = None,
        **options: Any,
    ) -> Array:
        self.launches += 1
        if dtype is not None:
            options["dtype"] = dtype
        if out is None:
            return self.make(lambda *hosts: function(*hosts, **options), *args, asked=dtype is not None)
        return self.alter(lambda host, *hosts: function(*hosts, out=host, **options), out, *args)

    # ---- functions, with their signatures in CuPy

    def empty(self, shape: Shape, dtype: DTypeLike = float, order: Order = "C") -> Array:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if size > self.total:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: 0 bytes).")
        return self.new(np.empty(shape, dtype, order), asked=dtype is not float)

    def ones(self, shape: Shape, dtype: DTypeLike = float, order: Order = "C") -> Array:
        return self.make(lambda: np.ones(shape, dtype, order), asked=dtype is not float)

    def full(
        self, shape: Shape, fill_value: Any, dtype: DTypeLike | None = None, order: Order = "C"
    ) -> Array:
        return self.make(lambda: np.full(shape, fill_value, dtype, order), asked=dtype is not None)

    def eye(
        self, N: int, M: int | None = None, k: int = 0, dtype: DTypeLike = float, order: Order = "C"
    ) -> Array:
        return self.make(lambda: np.eye(N, M, k, dtype, order), asked=dtype is not float)

    def where(self, condition: Array, x: Any, y: Any) -> Array:
        return self.compute(np.where, condition, x, y)

    def clip(self, a: Array, a_min: Any, a_max: Any, out: Array = None) -> Array:
        return self.compute(np.clip, a, a_min, a_max, out=out)

    def flatnonzero(self, a: Array) -> Array:
        self.wait()
        return self.new(np.flatnonzero(self.read(a)))

    def broadcast_arrays(self, *args: Array) -> tuple[Array, ...]:
        hosts = np.broadcast_arrays(*map(self.read, args))
        return tuple(a._view(host) for a, host in zip(args, hosts, strict=True))

    def take(self, a: Array, indices: Array, axis: int | None = None, out: Array = None) -> Array:
        return self.compute(lambda rows, at, **o: np.take(rows, at, axis, **o), a, indices, out=out)

    def matmul(self, a: Array, b: Array, out: Array = None) -> Array:
        if out is not None and not (out.flags.c_contiguous and out.dtype == a.dtype == b.dtype):
            raise Refusal("Output array must be C-contiguous and of the operands' dtype")
        if out is None or a.dtype.itemsize > 2:
            return self.compute(np.matmul, a, b, out=out)
        # cuBLAS adds products of 16-bit types in float32.
        out[...] = self.compute(np.matmul, a.astype(np.float32), b.astype(np.float32))
        return out

    # ---- between host and device

    def asarray(self, a: Any, dtype: DTypeLike | None = None, order: Order = None) -> Array:
        if isinstance(a, StrictArray):
            if a.device_id != self._state().devices[-1]:
                self.require_no_capture("a copy from another device")
                a = self.new(a.host.copy())
            return a if dtype is None or a.dtype == dtype else a.astype(dtype)
        host = np.array(a, dtype, order=order or "K")
        known = host.dtype.kind in "?iufbc" or host.dtype.name == "bfloat16"
        if not known or host.dtype.itemsize > 16 - 8 * (host.dtype.kind != "c"):
            raise ValueError(f"Unsupported dtype {host.dtype}")
        self.require_no_capture("a copy from the host")
        if self._state().steps:
            raise Refusal("a copy from the host within a step")
        self.uploads += 1
        return self.new(host)

    def ascontiguousarray(self, a: Array, dtype: DTypeLike | None = None) -> Array:
        if not isinstance(a, StrictArray):
            self.refuse(a)
        same = a.flags.c_contiguous and (dtype is None or a.dtype == dtype)
        return a if same else self.make(lambda host: np.ascontiguousarray(host, dtype), a)

    def asnumpy(self, a: Any) -> HostArray:
        return a.get() if isinstance(a, StrictArray) else np.asarray(a)

    def __getattr__(self, name: str) -> Any:
        """Return another function or constant of NumPy, for users' layers."""
        found = getattr(np, name)
        if not callable(found) or isinstance(found, type):
            return found
        return lambda *args, **options: self.passed(found, *args, **options)

    def passed(
        self, function: Callable[..., Any], *args: Any, dtype: Any = None, out: Any = None, **options: Any
    ) -> Any:
        """Return `function` of arguments that may contain device arrays, also within tuples and lists."""

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


def _reduction(function: Callable[..., Any]) -> Callable[..., Array]:
    def reduce(
        xp: Any, a: Array, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Array:
        if not isinstance(a, StrictArray):
            xp.refuse(a)
        return xp.compute(functools.partial(function, axis=axis, keepdims=keepdims), a, dtype=dtype, out=out)

    return reduce


for _name in REDUCTIONS:
    setattr(StrictModule, _name, _reduction(getattr(np, _name)))


class StrictBackend(Backend):
    """The reference on a strict device. A captured step must neither wait for it nor copy from the host."""

    name = "strict"
    steps_between_reads = 64

    def __init__(self, xp: StrictModule | None = None) -> None:
        super().__init__(xp or StrictModule())

    def asarray(self, array: Any, dtype: DTypeLike | None = None) -> Array:
        return super().asarray(array if self.owns(array) else np.asarray(array), dtype)

    def constant(self, values: tuple[float, ...], dtype: Any) -> Array:
        # Why here: a GPU captures the second call of a step, and the first one has moved the constants.
        with self.xp.outside_steps():
            return super().constant(values, dtype)

    def to_host(self, array: Array) -> HostArray:
        host: HostArray = self.xp.asnumpy(array)
        return host

    def may_wait(self) -> bool:
        return not self.xp._state().steps

    def capture(
        self, step: Callable[..., Any], operations_only: bool = False, repeats: bool = False
    ) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            with self.xp.within_a_step():
                return step(*args)

        return run
