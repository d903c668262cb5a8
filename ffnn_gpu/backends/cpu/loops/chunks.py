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

from ffnn_gpu.backends.cpu.loops.compiled_function import CompiledFunction
from ffnn_gpu.backends.cpu.loops.intrinsics import allocate, matrix, vector
from ffnn_gpu.backends.cpu.loops.values import INT64, Like, Pointer

# Chunks of a vector are multiples of UNIT numbers, so that two threads do not write to one cache line.
UNIT = 16


def command_of(body: Callable[..., None], dtype: np.dtype) -> CompiledFunction:
    """Return the command with this body for arrays of this type."""
    return CompiledFunction(body, None, Like(dtype), Pointer(), INT64, INT64)


def bounds(n: int, unit: int, chunk: int, chunks: int) -> tuple[int, int]:
    """Return the range [start, stop) of one chunk of n, in multiples of `unit`."""
    units = (n + unit - 1) // unit
    return min(n, units * chunk // chunks * unit), min(n, units * (chunk + 1) // chunks * unit)


def zeros(n: int) -> Any:
    """Return a new float64 vector (n,) of zeros, which `release` must give back."""
    found = vector(np.float64, allocate(8 * n), n)
    for i in range(n):
        found[i] = 0
    return found


def sum_in_order(x: Any) -> Any:
    """Return Σ x in float64, added in memory order."""
    total = 0.0
    for i in range(len(x)):
        total += x[i]
    return total


def scalars(address: int) -> Any:
    """Return the float64 array [t, η, Π] at this address."""
    return vector(np.float64, address, 3)


def rows_chunk(like: Any, address: int, rows: int, columns: int, chunk: int, chunks: int) -> Any:
    """Return one chunk of the rows of the matrix at this address."""
    start, stop = bounds(rows, 1, chunk, chunks)
    return matrix(like, address, rows, columns)[start:stop]
