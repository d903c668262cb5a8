"""Fake device arrays of every type at known host addresses, and the part of CuPy that CublasLt uses.

bfloat16 is stored as uint16, the upper half of a float32, so that only NumPy is needed.
"""

import math
from types import SimpleNamespace

import numpy as np

from tests.backends.cuda import tape
from tests.backends.cuda.tape import Capturing

STORAGE = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": np.uint16}


def to_bits(values):
    """Convert floats to the bits of bfloat16 as uint16, rounding to nearest even."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def decode(host, name):
    """Convert stored elements to float64."""
    return ((host.astype(np.uint32) << 16).view(np.float32) if name == "bfloat16" else host).astype(
        np.float64
    )


def encode(values, name):
    """Convert float64 to stored elements."""
    return to_bits(values) if name == "bfloat16" else values.astype(STORAGE[name])


class Array:
    """The attributes of cupy.ndarray that a product reads, over host memory."""

    def __init__(self, host, name):
        self.host = host
        self.dtype = SimpleNamespace(name=name, itemsize=host.itemsize)
        self.shape, self.strides = host.shape, host.strides
        self.data = SimpleNamespace(ptr=host.ctypes.data)

    T = property(lambda self: Array(self.host.T, self.dtype.name))
    turned = property(lambda self: Array(self.host.transpose(0, 2, 1), self.dtype.name))
    values = property(lambda self: decode(self.host, self.dtype.name))

    def __getitem__(self, key):
        return Array(self.host[key], self.dtype.name)


class Memory:
    """The allocations of the device; an access outside of them raises."""

    def __init__(self):
        self.blocks = []

    def empty(self, shape, dtype, alignment=256):
        """Return an array at an address with exactly this alignment, full of NaN or the largest number."""
        name = "bfloat16" if dtype == "bfloat16" else np.dtype(dtype).name
        storage = np.dtype(STORAGE.get(name, dtype))
        count = math.prod(shape) if isinstance(shape, tuple) else shape
        block = np.empty(count * storage.itemsize + 1024, np.uint8)
        block[: 2**20] = 0xFF
        start = -block.ctypes.data % 512 + alignment
        self.blocks.append((block.ctypes.data + start, count * storage.itemsize, block))
        return Array(block[start : start + count * storage.itemsize].view(storage).reshape(shape), name)

    def array(self, values, dtype, alignment=256):
        made = self.empty(np.shape(values), dtype, alignment)
        made.host[...] = encode(np.asarray(values, np.float64), made.dtype.name)
        return made

    def view(self, pointer, name, rows, columns, ld):
        """Return the column-major (rows, columns) matrix at `pointer`; raise if it leaves its allocation."""
        storage = np.dtype(STORAGE[name])
        size = ((columns - 1) * ld + rows) * storage.itemsize
        for start, length, block in self.blocks:
            if start <= pointer and pointer + size <= start + length:
                offset = pointer - block.ctypes.data
                flat = block[offset : offset + size].view(storage)
                return np.lib.stride_tricks.as_strided(
                    flat, (rows, columns), (storage.itemsize, ld * storage.itemsize)
                )
        raise IndexError(f"illegal address: {size} bytes at {pointer:#x} lie in no allocation")


class FakeCupy(Memory, Capturing):
    """The part of CuPy that CublasLt uses."""

    def __init__(self, capability="90"):
        super().__init__()
        self.clock = 0.0
        self.entered = []  # numbers of devices made current
        self.own = SimpleNamespace(streams=[], tape=None, pool=None)
        device = SimpleNamespace(compute_capability=capability)
        self.cuda = SimpleNamespace(
            Device=lambda index: _Entered(device, index, self.entered),
            Event=lambda: Event(self),
            get_elapsed_time=lambda start, stop: stop.time - start.time,
            runtime=SimpleNamespace(
                getDeviceProperties=lambda index: {"name": b"NVIDIA Paper 100 (80 GB)"},
                driverGetVersion=lambda: 13000,
            ),
        )
        self.add_streams()

    stream = property(lambda self: self.cuda.get_current_stream())

    def _state(self):
        return self.own


class _Entered:
    def __init__(self, device, index, entered):
        self.device, self.index, self.entered = device, index, entered

    def __exit__(self, *raised):
        return None

    def __enter__(self):
        self.entered.append(self.index)
        return self.device


class Event(tape.Event):
    """Fake of cupy.cuda.Event, on the simulated clock of a fake CuPy."""

    def record(self, stream):
        super().record(stream)
        self.time = self.cupy.clock

    def synchronize(self):
        assert not self.cupy.stream.capturing
