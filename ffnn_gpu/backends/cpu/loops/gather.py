"""Rows of a data set: check them, or copy them into a minibatch, cast and standardized, in one pass."""

from typing import Any

import numpy as np

from ffnn_gpu.backends.cpu.loops.chunks import kernel


@kernel
def all_finite(values: Any) -> bool:
    """Return whether no value (n,) is NaN or infinite."""
    finite = True
    for i in range(len(values)):
        finite &= abs(values[i]) < np.inf
    return finite


@kernel
def gather(rows: Any, index: Any, out: Any) -> None:
    """out_r = rows[index_r], cast to out's type"""
    for r in range(len(index)):
        row = rows[index[r]]
        for c in range(len(row)):
            out[r, c] = row[c]


@kernel
def gather_standardized(rows: Any, index: Any, out: Any, mean: Any, scale: Any) -> None:
    """out_r = (rows[index_r] − mean) / scale in float64, cast to out's type"""
    for r in range(len(index)):
        row = rows[index[r]]
        for c in range(len(row)):
            out[r, c] = (row[c] - mean[c]) / scale[c]
