"""The command that copies rows of a data set into a minibatch, cast and standardized, in one pass."""

import functools
from typing import Any

import numpy as np

from ffnn_gpu.backends.cpu.loops.chunks import bounds, command_of
from ffnn_gpu.backends.cpu.loops.compiled_function import CompiledFunction
from ffnn_gpu.backends.cpu.loops.intrinsics import vector


@functools.cache
def gather_of(rows: np.dtype, out: np.dtype) -> CompiledFunction:
    """Return the command for rows and output of these types."""
    kind, size, width = rows.type, rows.itemsize, out.itemsize

    def gather(like: Any, n: Any, chunk: int, chunks: int) -> None:
        """out_r = rows[index_r], or (rows[index_r] − mean) / scale in float64, cast to out's type

        n: the addresses of rows, index, out, mean and scale, then the shape of `out`. Without mean, it casts.
        """
        cast, B, d = n[3] == 0, n[5], n[6]
        index = vector(np.int64, n[1], B)
        mean, scale = vector(np.float64, n[3], d), vector(np.float64, n[4], d)
        first, last = bounds(B, 1, chunk, chunks)
        for r in range(first, last):
            row, copy = vector(kind, n[0] + index[r] * d * size, d), vector(like, n[2] + r * d * width, d)
            if cast:
                for c in range(d):
                    copy[c] = row[c]
            else:
                for c in range(d):
                    copy[c] = (row[c] - mean[c]) / scale[c]

    gather.__name__ = f"gather_{rows}"  # the name of its machine code
    return command_of(gather, out)
