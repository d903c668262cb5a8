"""Commands of the cross-entropies of distributions, smoothed classes and weighted classes.

The loss of plain class indices is in `losses`: it reads one logit of each row, and is therefore faster.
"""

import math
from typing import Any

import numpy as np

from ffnn_gpu.backends.cpu.loops.chunks import bounds, rows_chunk
from ffnn_gpu.backends.cpu.loops.intrinsics import as_real, matrix, store, vector
from ffnn_gpu.backends.cpu.loops.losses import class_index, in_range
from ffnn_gpu.backends.cpu.loops.softmax import exponentials, maximum


def weight_of_classes_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out_b = w_b v_{y_b} / N, or w_b [v_{y_b} ≠ 0] / N if `smoothed`        N = Σ_b w_b v_{y_b}

    Without `weight`, every w_b is 1. `failed` ← 1 if a class index is out of range.
    """
    y, y_size, weight, smoothed, B, C, total = n[0], n[1], n[3], n[4], n[6], n[7], 0.0
    v, weights, out = vector(like, n[2], C), vector(like, weight, B), vector(like, n[5], B)
    if not in_range(y, y_size, B, C):
        store(n[8], 1)
        return
    for b in range(B):
        total += (np.float64(weights[b]) if weight else 1.0) * v[class_index(y, y_size, b)]
    for b in range(B):
        w = np.float64(weights[b]) if weight else 1.0
        of_class = np.float64(v[class_index(y, y_size, b)])
        factor = 1.0 if smoothed != 0 and of_class != 0 else of_class
        out[b] = out.dtype.type(w * factor / (1.0 if total == 0 else total))


def soft_cross_entropy_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """losses[chunk] = Σ_b w_b Σ_c r_bc (log Σ_k e^{z_bk} − z_bc)

        dz = w_b (softmax(z_b)_c Σ_k r_bk − r_bc)        r_bc = v_c ((1 − ε) q_bc + ε/C)

    q = y (B, C) if y_size is 0; else q_bc = [c = y_b] for class indices of y_size bytes. `scale` has the
    weights w_b; without it they are 1/B. Without `class_weight`, every v_c is 1. `failed` ← 1 if a class
    index is out of range.
    """
    y, y_size, class_weight, smoothing, scale, B, C = n[1], n[2], n[3], as_real(n[4]), n[5], n[7], n[8]
    if y_size != 0 and not in_range(y, y_size, B, C):
        store(n[10], 1)
        return
    z, dz, q = matrix(like, n[0], B, C), matrix(like, n[6], B, C), matrix(like, y, B, C)
    v, weights = vector(like, class_weight, C), vector(like, scale, B)
    kept, spread, total = 1 - smoothing, smoothing / C, 0.0
    first, last = bounds(B, 1, chunk, chunks)
    for b in range(first, last):
        w, label = np.float64(weights[b]) if scale else 1 / B, class_index(y, y_size, b) if y_size else -1
        largest = maximum(z, b)
        norm = exponentials(z, b, largest, dz)
        logarithm, mass, value = math.log(norm), 0.0, 0.0
        for c in range(C):
            r = kept * (np.float64(c == label) if y_size else np.float64(q[b, c])) + spread
            r *= np.float64(v[c]) if class_weight else 1.0
            mass += r
            value += r * (logarithm - np.float64(z[b, c] - largest))
        total += w * value
        factor = w * mass / norm
        for c in range(C):
            r = kept * (np.float64(c == label) if y_size else np.float64(q[b, c])) + spread
            r *= np.float64(v[c]) if class_weight else 1.0
            dz[b, c] = dz.dtype.type(factor * dz[b, c] - w * r)
    vector(np.float64, n[9], chunks)[chunk] = total


def cross_entropy_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """losses[chunk] = −Σ_b w_b Σ_c q_bc log p_bc        dp = −w_b q_bc / p_bc, with p at least `smallest`

    `scale` has the weights w_b; without it they are 1/B.
    """
    scale, B, C, total = n[2], n[5], n[6], 0.0
    p, q = rows_chunk(like, n[0], B, C, chunk, chunks), rows_chunk(like, n[1], B, C, chunk, chunks)
    dp, weights = rows_chunk(like, n[4], B, C, chunk, chunks), vector(like, scale, B)
    first, floor = bounds(B, 1, chunk, chunks)[0], p.dtype.type(as_real(n[3]))
    for b in range(len(p)):
        w, value = np.float64(weights[first + b]) if scale else 1 / B, 0.0
        for c in range(C):
            s = p[b, c] if p[b, c] > floor else floor + 0 * p[b, c]  # NaN stays NaN
            dp[b, c] = q[b, c] / s * -p.dtype.type(w)
            # 0 log s = 0 s without the logarithm, which costs more than all else
            value += np.float64(q[b, c]) * np.float64(s if q[b, c] == 0 else np.log(s))
        total -= w * value
    vector(np.float64, n[7], chunks)[chunk] = total
