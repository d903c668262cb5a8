"""Copy rows of a data set into a minibatch, cast and standardized, in one pass."""

import functools
from typing import Any

import numpy as np
from numba import from_dtype, types

from ffnn_gpu.backends.cpu.loops.compiled_function import CompiledFunction
from ffnn_gpu.backends.cpu.loops.intrinsics import matrix, vector


def gather(source: Any, target: Any, n: Any) -> None:
    """out_r = rows[index_r], or (rows[index_r] − mean) / scale in float64, cast to out's type

    n: the addresses of rows, index, out, mean and scale, then the shape of `out`. Without mean, it casts.
    """
    cast, B, d = n[3] == 0, n[5], n[6]
    index, out = vector(np.int64, n[1], B), matrix(target, n[2], B, d)
    mean, scale = vector(np.float64, n[3], d), vector(np.float64, n[4], d)
    for r in range(B):
        row = matrix(source, n[0], index[r] + 1, d)[index[r]]
        for c in range(d):
            out[r, c] = row[c] if cast else (row[c] - mean[c]) / scale[c]


@functools.cache
def gather_of(rows: np.dtype, out: np.dtype) -> CompiledFunction:
    """Return `gather` for rows and output of these types."""
    pointers = (types.CPointer(from_dtype(dtype)) for dtype in (rows, out))
    return CompiledFunction(gather, types.void(*pointers, types.CPointer(types.int64)))
