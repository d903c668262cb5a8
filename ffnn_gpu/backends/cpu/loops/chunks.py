"""The form of a command, and how it finds its chunk of the arrays.

A command is function(null, operands, chunk, chunks). `operands` holds addresses, sizes, and the bits of real
numbers, in the order in which the function unpacks them. The type of the null pointer `like` gives the
arrays' dtype. The function does chunk `chunk` of `chunks` of its work. Chunks do not depend on each other,
and no bit depends on which thread does them.

The name of a command ends in _command. The arguments are not checked; recording/arguments.py does that.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types

from ffnn_gpu.backends.cpu.loops.intrinsics import allocate, matrix, vector

# Chunks of a vector are multiples of UNIT numbers, so that two threads do not write to one cache line.
UNIT = 16

# Why NumPy's error model: a division by zero gives ∞, as in the formulas. Python's raises, and the check
# alone keeps the compiler from using vector instructions (Adam of 670,000 parameters: 1560 µs; 240 µs without
# the check). Why without Numba's runtime for arrays (_nrt): it takes 0.35 s to start, in each process.
kernel: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(error_model="numpy", _nrt=False)
inlined: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(inline="always")


def command_signature(dtype: np.dtype) -> Any:
    """Return the signature of a command for arrays of this type."""
    like = types.CPointer({4: types.float32, 8: types.float64}[dtype.itemsize])
    return types.void(like, types.CPointer(types.int64), types.int64, types.int64)


@inlined
def bounds(n: int, unit: int, chunk: int, chunks: int) -> tuple[int, int]:
    """Return the range [start, stop) of one chunk of n, in multiples of `unit`."""
    units = (n + unit - 1) // unit
    return min(n, units * chunk // chunks * unit), min(n, units * (chunk + 1) // chunks * unit)


@inlined
def zeros(n: int) -> Any:
    """Return a new float64 vector (n,) of zeros, which `release` must give back."""
    found = vector(np.float64, allocate(8 * n), n)
    for i in range(n):
        found[i] = 0
    return found


@inlined
def scalars(address: int) -> Any:
    """Return the float64 array [t, η, Π] at this address."""
    return vector(np.float64, address, 3)


@inlined
def rows_chunk(like: Any, address: int, rows: int, columns: int, chunk: int, chunks: int) -> Any:
    """Return one chunk of the rows of the matrix at this address."""
    start, stop = bounds(rows, 1, chunk, chunks)
    return matrix(like, address, rows, columns)[start:stop]
