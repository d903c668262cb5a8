"""The loss of class indices, value and gradient in one pass, and what cross-entropies share."""

import math
from typing import Any

import numpy as np

from ffnn_gpu.backends.cpu.loops.chunks import bounds
from ffnn_gpu.backends.cpu.loops.intrinsics import matrix, store, vector
from ffnn_gpu.backends.cpu.loops.softmax import exponentials, maximum


def normalized_weight_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = w/Σ w, zeros where Σ w = 0"""
    weight, out, B = vector(like, n[0], n[2]), vector(like, n[1], n[2]), n[2]
    total = 0.0
    for b in range(B):
        total += weight[b]
    for b in range(B):
        out[b] = weight[b] / (1.0 if total == 0 else total)


def class_index(y: int, y_size: int, b: int) -> int:
    """Return y_b of the class indices at the address y, each of y_size bytes: int64 or int32."""
    found: int = vector(np.int64, y, b + 1)[b] if y_size == 8 else vector(np.int32, y, b + 1)[b]
    return found


def in_range(y: int, y_size: int, B: int, C: int) -> bool:
    """Return whether every y_b is one of 0, …, C − 1; another index would read or overwrite other memory."""
    inside = True
    for b in range(B):
        inside &= 0 <= class_index(y, y_size, b) < C
    return inside


def softmax_cross_entropy_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """losses[chunk] = Σ_b w_b (log Σ_c e^{z_bc} − z_{b y_b})        dz = w_b (softmax(z_b) − onehot(y_b))

    `scale` has the weights w_b; without it they are 1/B. `failed` ← 1 if a class index is out of range.
    """
    y, y_size, scale, B, C, total = n[1], n[2], n[3], n[5], n[6], 0.0
    z, dz, weights = matrix(like, n[0], B, C), matrix(like, n[4], B, C), vector(like, scale, B)
    if not in_range(y, y_size, B, C):
        store(n[8], 1)
        return
    first, last = bounds(B, 1, chunk, chunks)
    for b in range(first, last):
        w = np.float64(weights[b]) if scale else 1 / B
        largest, label = maximum(z, b), class_index(y, y_size, b)
        norm = exponentials(z, b, largest, dz)
        total += w * (math.log(norm) - np.float64(z[b, label] - largest))
        factor = z.dtype.type(w / norm)
        for c in range(C):
            dz[b, c] *= factor
        dz[b, label] -= z.dtype.type(w)
    vector(np.float64, n[7], chunks)[chunk] = total
