"""The form of a command, and how it finds its chunk of the arrays.

A command is function(null, operands, chunk, chunks). `operands` holds addresses, sizes, and the bits of real
numbers, in the order in which the function unpacks them. The type of the null pointer `like` gives the
arrays' dtype. The function does chunk `chunk` of `chunks` of its work. Chunks do not depend on each other,
and no bit depends on which thread does them.

Each command follows the loop that it calls, in the same file, and its name ends in _command.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, njit

from ffnn_gpu.backends.cpu.loops.intrinsics import pointer

# Chunks of a vector are multiples of UNIT numbers, so that two threads do not write to one cache line.
UNIT = 16

# Why NumPy's error model: a division by zero gives ∞, as in the formulas. Python's raises, and the check
# alone keeps the compiler from using vector instructions (Adam of 670,000 parameters: 1560 µs; 240 µs without
# the check).
kernel: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(cache=True, nogil=True, error_model="numpy")
inlined: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(inline="always")


@inlined
def bounds(n: int, unit: int, chunk: int, chunks: int) -> tuple[int, int]:
    """Return the range [start, stop) of one chunk of n, in multiples of `unit`."""
    units = (n + unit - 1) // unit
    return min(n, units * chunk // chunks * unit), min(n, units * (chunk + 1) // chunks * unit)


@inlined
def vector(like: Any, address: int, n: int) -> Any:
    """Return the array (n,) at this address."""
    return carray(pointer(like, address), (n,))


@inlined
def matrix(like: Any, address: int, rows: int, columns: int) -> Any:
    """Return the array (rows, columns) at this address."""
    return carray(pointer(like, address), (rows, columns))


@inlined
def scalars(address: int) -> Any:
    """Return the float64 array [t, η, Π] at this address."""
    return carray(pointer(np.float64, address), (3,))


@inlined
def vector_chunk(like: Any, address: int, n: int, chunk: int, chunks: int) -> Any:
    """Return one chunk of the vector (n,) at this address."""
    start, stop = bounds(n, UNIT, chunk, chunks)
    return carray(pointer(like, address), (n,))[start:stop]


@inlined
def rows_chunk(like: Any, address: int, rows: int, columns: int, chunk: int, chunks: int) -> Any:
    """Return one chunk of the rows of the matrix at this address."""
    start, stop = bounds(rows, 1, chunk, chunks)
    return carray(pointer(like, address), (rows, columns))[start:stop]
