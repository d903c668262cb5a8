"""Arrays of the strict device: memory on the host, and a GPU's restrictions on indexing and operators."""

import operator
from types import SimpleNamespace
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ffnn_gpu.arrays.array_types import Array, HostArray

Axis: TypeAlias = int | tuple[int, ...] | None
SCALARS = (bool, int, float, complex, np.generic)


class Refusal(TypeError):  # noqa: N818 - CuPy raises TypeError
    """An operation that a GPU rejects, or that is slow or wrong on one."""


class StrictArray:
    """An array of a strict device, with the part of cupy.ndarray that this package uses."""

    __slots__ = ("__weakref__", "device_id", "host", "xp")
    __array_ufunc__ = None  # NumPy's operators call the reflected ones here
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, xp: Any, host: HostArray, device_id: int) -> None:
        self.xp, self.host, self.device_id = xp, host, device_id

    shape = property(lambda self: self.host.shape)
    dtype = property(lambda self: self.host.dtype)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    itemsize = property(lambda self: self.host.itemsize)
    nbytes = property(lambda self: self.host.nbytes)
    strides = property(lambda self: self.host.strides)
    data = property(lambda self: SimpleNamespace(ptr=self.host.ctypes.data))
    flags = property(lambda self: self.host.flags)
    T = property(lambda self: self._view(self.host.T))
    device = property(lambda self: self.xp.cuda.Device(self.device_id))
    __cuda_array_interface__ = property(lambda self: {"shape": self.shape, "version": 3})

    def __len__(self) -> int:
        return len(self.host)

    def __repr__(self) -> str:
        return f"strict.array({self.host!r}, device={self.device_id})"

    def _view(self, host: HostArray) -> "StrictArray":
        return StrictArray(self.xp, host, self.device_id)

    def reshape(self, *shape: Any) -> "StrictArray":
        return self._view(self.host.reshape(*shape))

    def astype(self, dtype: DTypeLike, copy: bool = True) -> Array:
        return self.xp.make(lambda host: host.astype(dtype), self)

    def sum(
        self, axis: Axis = None, dtype: DTypeLike | None = None, out: Array = None, keepdims: bool = False
    ) -> Array:
        return self.xp.sum(self, axis, dtype, out, keepdims)

    def max(self, axis: Axis = None, out: Array = None, keepdims: bool = False) -> Array:
        return self.xp.reduce(np.max, self, axis, None, out, keepdims)

    def all(self, axis: Axis = None) -> Array:
        return self.xp.make(lambda host: host.all(axis), self)

    def __getattr__(self, name: str) -> Any:
        """Return another method of NumPy's arrays, for users' layers."""
        if name.startswith("__") or not callable(getattr(np.ndarray, name, None)):
            raise AttributeError(f"a strict array has no attribute {name!r}")
        method = getattr(np.ndarray, name)
        return lambda *args, **options: self.xp.passed(method, self, *args, **options)

    # ---- methods that wait for the device

    def get(self) -> HostArray:
        self.xp.wait()
        return self.host.copy()

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __format__(self, spec: str) -> str:
        return format(self.get()[()], spec)

    # ---- operations that are never allowed

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NoReturn:
        raise Refusal("Implicit conversion to a NumPy array is not allowed")

    def __iter__(self) -> NoReturn:
        raise Refusal("iteration over a device array costs one launch or copy per element")

    def __index__(self) -> NoReturn:
        raise Refusal("a device array cannot be an index")

    # ---- indexing

    def __getitem__(self, key: Any) -> Array:
        if not isinstance(key, (StrictArray, np.ndarray, list)):
            return self._view(self.host[_plain(key, at_least_0d=True)])
        return self.xp.make(lambda host, at: host[at], self, self.xp.index(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, (StrictArray, np.ndarray, list)):
            self.xp.alter(lambda host, new, at: host.__setitem__(at, new), self, value, self.xp.index(key))
            return
        if not isinstance(value, (StrictArray, *SCALARS)):
            raise Refusal("non-scalar numpy.ndarray cannot be used for fill")
        self.xp.alter(lambda host, new: host.__setitem__(key, new), self, value)


def _plain(key: Any, at_least_0d: bool) -> Any:
    """Return a key for the same view, as an array even if NumPy would return a scalar."""
    keys = key if isinstance(key, tuple) else (key,)
    if any(isinstance(k, (StrictArray, np.ndarray, list)) for k in keys):
        raise Refusal("this device accepts a single index array only")
    return (*keys, Ellipsis) if at_least_0d and Ellipsis not in keys else key


_OPERATORS = "add sub mul truediv floordiv mod pow matmul and or xor rshift lshift"
for _name in _OPERATORS.split():
    _do, _do_in_place = getattr(operator, f"__{_name}__"), getattr(operator, f"__i{_name}__")
    setattr(StrictArray, f"__{_name}__", lambda self, other, f=_do: self.xp.compute(f, self, other))
    setattr(StrictArray, f"__r{_name}__", lambda self, other, f=_do: self.xp.compute(f, other, self))
    setattr(StrictArray, f"__i{_name}__", lambda self, other, f=_do_in_place: self.xp.alter(f, self, other))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    _do = getattr(operator, _name)
    setattr(StrictArray, f"__{_name}__", lambda self, other, f=_do: self.xp.compute(f, self, other))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(StrictArray, f"__{_name}__", lambda self, f=getattr(operator, _name): self.xp.compute(f, self))
