"""How a command finds its part of the arrays that it is told of.

A command is function(null, numbers, chunk, chunks): `numbers` holds addresses, sizes, and the bits of real numbers, in the
order in which the function takes them apart; the null pointer `like` tells by its type which numbers the arrays hold. It
does part `chunk` of `chunks` of its work. Parts do not depend on each other, and which thread does them changes no bit.

A command stands in one file with the loops that it calls, under them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, njit

from ffnn_gpu.backends.cpu.loops.intrinsics import pointer

UNIT = 16  # numbers that parts are whole multiples of, so that two threads do not write into one cache line

# Under NumPy's error model a division by zero gives ∞, as in the formulas; under Python's it would raise, and the check
# alone keeps the compiler from using vector instructions (Adam of 670,000 parameters: 1560 µs against 240).
kernel: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(cache=True, nogil=True, error_model="numpy")
inlined: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(inline="always")


@inlined
def part(n: int, unit: int, chunk: int, chunks: int) -> tuple[int, int]:
    """[start, stop) of one part of n."""
    units = (n + unit - 1) // unit
    return min(n, units * chunk // chunks * unit), min(n, units * (chunk + 1) // chunks * unit)


@inlined
def vector(like: Any, address: int, n: int) -> Any:
    return carray(pointer(like, address), (n,))


@inlined
def matrix(like: Any, address: int, rows: int, columns: int) -> Any:
    return carray(pointer(like, address), (rows, columns))


@inlined
def scalars(address: int) -> Any:
    return carray(pointer(np.float64, address), (3,))


@inlined
def piece(like: Any, address: int, n: int, chunk: int, chunks: int) -> Any:
    """One part of a vector of n."""
    start, stop = part(n, UNIT, chunk, chunks)
    return carray(pointer(like, address), (n,))[start:stop]


@inlined
def rows_of(like: Any, address: int, rows: int, columns: int, chunk: int, chunks: int) -> Any:
    """One part of the rows of a matrix."""
    start, stop = part(rows, 1, chunk, chunks)
    return carray(pointer(like, address), (rows, columns))[start:stop]
