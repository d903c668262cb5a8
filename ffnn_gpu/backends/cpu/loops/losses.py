"""Losses with value and gradient in one pass. Each loop is followed by the command for a chunk of it."""

import math
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.chunks import bounds, kernel, matrix, vector
from ffnn_gpu.backends.cpu.loops.intrinsics import store
from ffnn_gpu.backends.cpu.loops.softmax import exponentials, maximum


def normalized_weight_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = w/Σ w, zeros where Σ w = 0"""
    weight, out, B = vector(like, n[0], n[2]), vector(like, n[1], n[2]), n[2]
    total = 0.0
    for b in range(B):
        total += weight[b]
    for b in range(B):
        out[b] = weight[b] / (1.0 if total == 0 else total)


@kernel
def in_range(y: Array, C: int) -> bool:
    """Return whether every y is one of 0, …, C − 1."""
    inside = True
    for index in y:
        inside &= 0 <= index < C
    return inside


@kernel
def softmax_cross_entropy(z: Array, y: Array, scale: Array, uniform: float, dz: Array) -> float:
    """Σ_b w_b (log Σ_c e^{z_bc} − z_{b y_b}) in float64        dz = w_b (softmax(z_b) − q_b)

    scale: (B,) the weights w_b; empty if all are `uniform`.
    """
    T, total = z.dtype.type, 0.0
    B, C = z.shape
    if len(y) != B:
        raise ValueError("one class index for each row of z")
    for r in range(B):
        if not 0 <= y[r] < C:
            raise IndexError("a class index out of range")  # it would overwrite other memory
        w = uniform if len(scale) == 0 else np.float64(scale[r])
        largest = maximum(z, r)
        norm = exponentials(z, r, largest, dz)
        total += w * (math.log(norm) - np.float64(z[r, y[r]] - largest))
        factor = T(w / norm)
        for c in range(C):
            dz[r, c] *= factor
        dz[r, y[r]] -= T(w)
    return total


def softmax_cross_entropy_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """losses[chunk] and the rows of dz in this chunk; `failed` ← 1 if a class index is out of range"""
    z, y, y_size, scale, dz, B, C, losses, failed = n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]
    start, stop = bounds(B, 1, chunk, chunks)
    z, dz = matrix(like, z, B, C)[start:stop], matrix(like, dz, B, C)[start:stop]
    scale, uniform = vector(like, scale, B if scale else 0)[start:stop], 1 / max(B, 1)
    wide, narrow = vector(np.int64, y, B if y_size == 8 else 0), vector(np.int32, y, B if y_size == 4 else 0)
    if not in_range(wide, C) or not in_range(narrow, C):
        store(failed, 1)
    elif y_size == 8:
        loss = softmax_cross_entropy(z, wide[start:stop], scale, uniform, dz)
        vector(np.float64, losses, chunks)[chunk] = loss
    else:
        loss = softmax_cross_entropy(z, narrow[start:stop], scale, uniform, dz)
        vector(np.float64, losses, chunks)[chunk] = loss
