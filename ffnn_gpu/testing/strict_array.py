"""Arrays of the strict device: memory on the host, and a GPU's restrictions on indexing and operators."""

import functools
import operator
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from ffnn_gpu.arrays.array_types import Array, HostArray

REDUCTIONS = ("sum", "mean", "max")
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

    data = property(lambda self: SimpleNamespace(ptr=self.host.ctypes.data))
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

    def transpose(self, *axes: int) -> "StrictArray":
        return self._view(self.host.transpose(*axes))

    def astype(self, dtype: DTypeLike, copy: bool = True) -> Array:
        if not copy and self.dtype == dtype:
            return self
        return self.xp.make(lambda host: host.astype(dtype), self)

    def __getattr__(self, name: str) -> Any:
        """Return another method of NumPy's arrays."""
        if name.startswith("__") or not callable(getattr(np.ndarray, name, None)):
            raise AttributeError(f"a strict array has no attribute {name!r}")
        if name in REDUCTIONS:
            return functools.partial(getattr(self.xp, name), self)

        def method(host: HostArray, *args: Any, **options: Any) -> Any:
            return getattr(host, name)(*args, **options)

        return functools.partial(self.xp.passed, method, self)

    # ---- methods that wait for the device

    def get(self) -> HostArray:
        self.xp.wait()
        return self.host.copy()

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
        if isinstance(key, (StrictArray, np.ndarray, list)):
            return self.xp.make(lambda host, at: host[at], self, self.xp.index(key))
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(k, (StrictArray, np.ndarray, list)) for k in keys):
            raise Refusal("this device accepts a single index array only")
        return self._view(self.host[keys if Ellipsis in keys else (*keys, ...)])  # a view even of one element

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, (StrictArray, np.ndarray, list)):
            self.xp.alter(lambda host, new, at: host.__setitem__(at, new), self, value, self.xp.index(key))
            return
        if not isinstance(value, (StrictArray, *SCALARS)):
            raise Refusal("non-scalar numpy.ndarray cannot be used for fill")
        self.xp.alter(lambda host, new: host.__setitem__(key, new), self, value)


for _name in ("shape", "dtype", "ndim", "size", "itemsize", "nbytes", "strides", "flags"):
    setattr(StrictArray, _name, property(operator.attrgetter(f"host.{_name}")))
for _name in ("__float__", "__int__", "__bool__", "item", "tolist"):
    setattr(StrictArray, _name, lambda self, f=operator.methodcaller(_name): f(self.get()))
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
