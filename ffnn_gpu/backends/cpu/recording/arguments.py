"""Check the arguments of an operation, and translate them into the int64 numbers that a command reads.

Why so strictly: a command reads and writes memory by its address, without any check.
"""

import ctypes
import functools
import inspect
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.precision import is_16_bit

FLOAT32 = np.dtype(np.float32)
FLOAT64, INT64 = struct.Struct("d"), struct.Struct("q")
ARRAYS = np.ndarray, np.memmap  # a subclass may mean something else, as a masked array does


class NotRecordedError(Exception):
    """An operation has no command for its arguments."""


def address(array: HostArray) -> int:
    """Return the address of an array's first byte.

    Why not __array_interface__: it takes 0.9 µs, this 0.15 µs, and a step asks for up to four addresses.
    Reference: NumPy C-API, struct PyArrayObject, whose first field after the object's header is `data`.
    """
    return ctypes.c_size_t.from_address(id(array) + object.__basicsize__).value


def place_of(array: HostArray) -> tuple[int, int]:
    """Return the addresses of an array's first byte and of the byte after its last."""
    return address(array), address(array) + array.nbytes


def word(value: Any) -> int:
    """Return the int64 that a command reads: an address, an integer, or the bits of a float64.

    Raises NotRecordedError for an array with gaps, and for anything else.
    """
    if type(value) is int:
        return value
    if value is None:
        return 0
    if type(value) in ARRAYS:
        if not (value.flags.c_contiguous and value.flags.aligned):
            raise NotRecordedError("an array has gaps")
        return address(value)
    if isinstance(value, float | np.floating):
        bits: int = INT64.unpack(FLOAT64.pack(value))[0]
        return bits
    if isinstance(value, int | np.integer | np.bool):
        return int(value)
    raise NotRecordedError(f"an argument is a {type(value).__name__}")


def checked(*, apart: bool = False, **arrays: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: raise NotRecordedError unless the arrays of an operation are as described.

    `checked(x="BI", out="BO!", b="O?")`: x (B, I) is read, out (B, O) is written, and b (O,) may be None.
    Equal letters mean equal sizes. "*" is any shape, the same one wherever it stands. All arrays have one
    type. An array that is written shares no memory with another one, or all of it unless `apart`.

    The operation receives 16-bit arrays as float32; those it writes are then rounded, as by the reference's
    `in_float32`. An array that is written is not read, unless it is the first parameter.
    """

    def decorate(operation: Callable[..., Any]) -> Callable[..., Any]:
        names = [*inspect.signature(operation).parameters][1:]
        places = [
            (names.index(name), name, text.rstrip("!?"), "!" in text, "?" in text)
            for name, text in arrays.items()
        ]

        @functools.wraps(operation)
        def run(self: Any, *args: Any, **named: Any) -> Any:
            sizes: dict[str, Any] = {}
            ranges, dtype, narrow = [], None, {}
            for place, name, axes, written, optional in places:
                array: Any = args[place] if place < len(args) else named.get(name)
                if array is None and optional:
                    continue
                if type(array) not in ARRAYS or array.ndim == 0:
                    raise NotRecordedError(f"{name} is no array with axes")
                kind = array.dtype
                if array.itemsize == 2 and kind.isnative and is_16_bit(kind):
                    kind, narrow[name] = FLOAT32, (place == 0 or not written, written)
                if dtype is None:
                    dtype = kind
                    self._use(dtype)
                if kind != dtype or (written and not array.flags.writeable):
                    raise NotRecordedError(f"{name} is {array.dtype}, or cannot be written")
                shape = (array.shape,) if axes == "*" else array.shape
                if len(shape) != len(axes) or any(
                    sizes.setdefault(axis, size) != size for axis, size in zip(axes, shape, strict=True)
                ):
                    raise NotRecordedError(f"{name} has shape {array.shape}")
                start = address(array)
                ranges.append((start, start + array.nbytes, written))
            _require_apart(ranges, apart)
            if narrow:
                return self._in_float32(operation, dict(zip(names, args, strict=False)) | named, narrow)
            return operation(self, *args, **named)

        return run

    return decorate


def _require_apart(ranges: list[tuple[int, int, bool]], apart: bool) -> None:
    """Raise NotRecordedError if an array that is written overlaps another one, or equals it if `apart`."""
    for k, (start, stop, written) in enumerate(ranges):
        for first, last, also in ranges[:k]:
            overlap = (written or also) and start < last and first < stop
            if overlap and (apart or (start, stop) != (first, last)):
                raise NotRecordedError("an output overlaps another array")
