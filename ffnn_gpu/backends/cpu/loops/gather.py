"""Rows of a data set: check them, or copy them into a minibatch, cast and standardized, in one pass."""

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.chunks import kernel


@kernel
def all_finite(values: Array) -> bool:
    """Return whether no value (n,) is NaN or infinite."""
    finite = True
    for i in range(len(values)):
        finite &= abs(values[i]) < np.inf
    return finite


@kernel
def gather(rows: Array, index: Array, out: Array) -> None:
    """out_r = rows[index_r], cast to out's type"""
    for r in range(len(index)):
        row = rows[index[r]]
        for c in range(len(row)):
            out[r, c] = row[c]


@kernel
def gather_standardized(rows: Array, index: Array, out: Array, mean: Array, scale: Array) -> None:
    """out_r = (rows[index_r] − mean) / scale in float64, cast to out's type"""
    for r in range(len(index)):
        row = rows[index[r]]
        for c in range(len(row)):
            out[r, c] = (row[c] - mean[c]) / scale[c]
