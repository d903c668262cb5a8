"""Arrays with the manners of a GPU and the memory of the host: the half of `strict` that is indexed and computed with."""

import operator
from types import SimpleNamespace
from typing import Any

import numpy as np

SCALARS = (bool, int, float, complex, np.generic)


class Refusal(TypeError):  # noqa: N818 - it is what CuPy raises, a TypeError
    """Something a GPU would refuse, or should have."""


class StrictArray:
    """An array of one strict device, with the part of cupy.ndarray that this package uses."""

    __slots__ = ("__weakref__", "device_id", "host", "xp")
    __array_ufunc__ = None  # NumPy's operators hand over to the reflected ones here
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, xp: Any, host: np.ndarray, device_id: int) -> None:
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

    def __len__(self):
        return len(self.host)

    def __repr__(self):
        return f"strict.array({self.host!r}, device={self.device_id})"

    def _view(self, host):
        return StrictArray(self.xp, host, self.device_id)

    def reshape(self, *shape):
        return self._view(self.host.reshape(*shape))

    def astype(self, dtype, copy=True):
        return self.xp.make(lambda host: host.astype(dtype), self)

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return self.xp.sum(self, axis, dtype, out, keepdims)

    def max(self, axis=None, out=None, keepdims=False):
        return self.xp.reduce(np.max, self, axis, None, out, keepdims)

    def all(self, axis=None):
        return self.xp.make(lambda host: host.all(axis), self)

    def __getattr__(self, name: str) -> Any:
        """Another method of NumPy's arrays: what a layer of somebody's own may call."""
        if name.startswith("__") or not callable(getattr(np.ndarray, name, None)):
            raise AttributeError(f"a strict array has no attribute {name!r}")
        method = getattr(np.ndarray, name)
        return lambda *args, **options: self.xp.passed(method, self, *args, **options)

    # ---- what waits for the device

    def get(self):
        self.xp.wait()
        return self.host.copy()

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __bool__(self):
        return bool(self.get())

    def __format__(self, spec):
        return format(self.get()[()], spec)

    # ---- what is never allowed

    def __array__(self, dtype=None, copy=None):
        raise Refusal("Implicit conversion to a NumPy array is not allowed")

    def __iter__(self):
        raise Refusal("iteration over a device array: one launch or copy per element")

    def __index__(self):
        raise Refusal("a device array is no index")

    # ---- indexing

    def __getitem__(self, key):
        if not isinstance(key, (StrictArray, np.ndarray, list)):
            return self._view(self.host[_plain(key, at_least_0d=True)])
        return self.xp.make(lambda host, at: host[at], self, self.xp.index(key))

    def __setitem__(self, key, value):
        if isinstance(key, (StrictArray, np.ndarray, list)):
            return self.xp.alter(
                lambda host, new, at: host.__setitem__(at, new), self, value, self.xp.index(key)
            )
        if not isinstance(value, (StrictArray, *SCALARS)):
            raise Refusal("non-scalar numpy.ndarray cannot be used for fill")
        return self.xp.alter(lambda host, new: host.__setitem__(key, new), self, value)


def _plain(key, at_least_0d):
    """The same view, as an array also where NumPy would give a scalar."""
    keys = key if isinstance(key, tuple) else (key,)
    if any(isinstance(k, (StrictArray, np.ndarray, list)) for k in keys):
        raise Refusal("this device takes one index array alone")
    return (*keys, Ellipsis) if at_least_0d and Ellipsis not in keys else key


def _operator(name):
    function = getattr(operator, name.strip("_"), None) or getattr(operator, name)

    def apply(self, other):
        if not isinstance(other, (StrictArray, *SCALARS)):
            return self.xp.refuse(other)
        return self.xp.compute(function, self, other)

    def reflected(self, other):
        if not isinstance(other, (StrictArray, *SCALARS)):
            return self.xp.refuse(other)
        return self.xp.compute(function, other, self)

    def in_place(self, other):
        if not isinstance(other, (StrictArray, *SCALARS)):
            return self.xp.refuse(other)
        self.xp.alter(getattr(operator, f"__i{name[2:]}"), self, other)
        return self

    return apply, reflected, in_place


for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
    "rshift",
    "lshift",
):
    for _prefix, _method in zip(("", "r", "i"), _operator(f"__{_name}__"), strict=True):
        setattr(StrictArray, f"__{_prefix}{_name}__", _method)
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(StrictArray, f"__{_name}__", _operator(f"__{_name}__")[0])
for _name in ("neg", "pos", "abs", "invert"):
    setattr(StrictArray, f"__{_name}__", lambda self, f=getattr(operator, _name): self.xp.compute(f, self))
