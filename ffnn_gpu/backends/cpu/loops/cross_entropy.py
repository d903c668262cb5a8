"""Cross-entropies of distributions, smoothed classes and weighted classes: each loop, then its command.

The loss of plain class indices is in `losses`: it reads one logit of each row, and is therefore faster.
"""

import math
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.chunks import bounds, kernel, matrix, rows_chunk, vector
from ffnn_gpu.backends.cpu.loops.intrinsics import as_real, store
from ffnn_gpu.backends.cpu.loops.losses import in_range
from ffnn_gpu.backends.cpu.loops.softmax import exponentials, maximum


@kernel
def require_in_range(y: Array, C: int) -> None:
    if not in_range(y, C):
        raise IndexError("a class index out of range")


@kernel
def weight_of_classes(y: Array, class_weight: Array, weight: Array, smoothed: bool, out: Array) -> None:
    """out_b = w_b v_{y_b} / N, or w_b / N if `smoothed`        N = Σ_b w_b v_{y_b}; zeros where N = 0

    weight: (B,) the weights w_b; empty if all are 1.
    """
    T, total = out.dtype.type, 0.0
    if len(out) != len(y):
        raise ValueError("one class index for each row of z")
    require_in_range(y, len(class_weight))  # another index would read other memory
    for b in range(len(y)):
        w = 1.0 if len(weight) == 0 else np.float64(weight[b])
        total += w * class_weight[y[b]]
    divisor = 1.0 if total == 0 else total
    for b in range(len(y)):
        w = 1.0 if len(weight) == 0 else np.float64(weight[b])
        out[b] = T((w if smoothed else w * class_weight[y[b]]) / divisor)


def weight_of_classes_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """`failed` ← 1 if a class index is out of range"""
    y, y_size, class_weight, weight, smoothed, out, B, C, failed = (
        n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8],
    )  # fmt: skip
    wide, narrow = vector(np.int64, y, B if y_size == 8 else 0), vector(np.int32, y, B if y_size == 4 else 0)
    v, weight, out = (
        vector(like, class_weight, C),
        vector(like, weight, B if weight else 0),
        vector(like, out, B),
    )
    if not in_range(wide, C) or not in_range(narrow, C):
        store(failed, 1)
    elif y_size == 8:
        weight_of_classes(wide, v, weight, smoothed != 0, out)
    else:
        weight_of_classes(narrow, v, weight, smoothed != 0, out)


@kernel
def soft_cross_entropy(
    z: Array, y: Array, class_weight: Array, smoothing: float, scale: Array, uniform: float, dz: Array
) -> float:
    """Σ_b w_b Σ_c r_bc (log Σ_k e^{z_bk} − z_bc) in float64        dz = w_b (softmax(z_b)_c Σ_k r_bk − r_bc)

    r_bc = v_c ((1 − ε) q_bc + ε/C) for distributions q = y (B, C), or q_bc = [c = y_b] for class indices y.

    Args:
        class_weight: (C,) the weights v_c; empty if all are 1.
        scale: (B,) the weights w_b; empty if all are `uniform`.
    """
    T, total = z.dtype.type, 0.0
    B, C = z.shape
    if len(y) != B:
        raise ValueError("one target for each row of z")
    if y.ndim == 1:
        require_in_range(y, C)
    kept, spread = 1 - smoothing, smoothing / C
    for b in range(B):
        w = uniform if len(scale) == 0 else np.float64(scale[b])
        largest = maximum(z, b)
        norm = exponentials(z, b, largest, dz)
        logarithm, mass, value = math.log(norm), 0.0, 0.0
        for c in range(C):
            r = _target(y, b, c, kept, spread, class_weight)
            mass += r
            value += r * (logarithm - np.float64(z[b, c] - largest))
        total += w * value
        factor = w * mass / norm
        for c in range(C):
            r = _target(y, b, c, kept, spread, class_weight)
            dz[b, c] = T(factor * dz[b, c] - w * r)
    return total


@kernel
def _target(y: Array, b: int, c: int, kept: float, spread: float, class_weight: Array) -> Any:
    """Return r_bc in float64."""
    q = y[b] == c if y.ndim == 1 else y[b, c]
    r = kept * q + spread
    return r if len(class_weight) == 0 else r * class_weight[c]


def soft_cross_entropy_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """losses[chunk] and the rows of dz in this chunk; `failed` ← 1 if a class index is out of range

    y_size: the bytes of a class index; 0 for distributions.
    """
    y, y_size, class_weight, smoothing, scale = n[1], n[2], n[3], as_real(n[4]), n[5]
    B, C, losses, failed = n[7], n[8], n[9], n[10]
    start, stop = bounds(B, 1, chunk, chunks)
    z, dz = rows_chunk(like, n[0], B, C, chunk, chunks), rows_chunk(like, n[6], B, C, chunk, chunks)
    v = vector(like, class_weight, C if class_weight else 0)
    w, uniform = vector(like, scale, B if scale else 0)[start:stop], 1 / max(B, 1)
    wide, narrow = vector(np.int64, y, B if y_size == 8 else 0), vector(np.int32, y, B if y_size == 4 else 0)
    if not in_range(wide, C) or not in_range(narrow, C):
        store(failed, 1)
        return
    if y_size == 8:
        loss = soft_cross_entropy(z, wide[start:stop], v, smoothing, w, uniform, dz)
    elif y_size == 4:
        loss = soft_cross_entropy(z, narrow[start:stop], v, smoothing, w, uniform, dz)
    else:
        loss = soft_cross_entropy(z, matrix(like, y, B, C)[start:stop], v, smoothing, w, uniform, dz)
    vector(np.float64, losses, chunks)[chunk] = loss


@kernel
def cross_entropy(p: Array, q: Array, scale: Array, uniform: float, smallest: float, dp: Array) -> float:
    """−Σ_b w_b Σ_c q_bc log p_bc in float64        dp = −w_b q_bc / p_bc, with p at least `smallest`

    scale: (B,) the weights w_b; empty if all are `uniform`.
    """
    T, total, floor = p.dtype.type, 0.0, p.dtype.type(smallest)
    for b in range(len(p)):
        w, value = uniform if len(scale) == 0 else np.float64(scale[b]), 0.0
        for c in range(p.shape[1]):
            s = p[b, c] if p[b, c] > floor else floor + 0 * p[b, c]  # NaN stays NaN
            dp[b, c] = q[b, c] / s * -T(w)
            # 0 log s = 0 s without the logarithm, which costs more than all else
            value += np.float64(q[b, c]) * np.float64(s if q[b, c] == 0 else np.log(s))
        total -= w * value
    return total


def cross_entropy_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    scale, smallest, B, C, losses = n[2], as_real(n[3]), n[5], n[6], n[7]
    start, stop = bounds(B, 1, chunk, chunks)
    p, q = rows_chunk(like, n[0], B, C, chunk, chunks), rows_chunk(like, n[1], B, C, chunk, chunks)
    w, dp = vector(like, scale, B if scale else 0)[start:stop], rows_chunk(like, n[4], B, C, chunk, chunks)
    vector(np.float64, losses, chunks)[chunk] = cross_entropy(p, q, w, 1 / max(B, 1), smallest, dp)
