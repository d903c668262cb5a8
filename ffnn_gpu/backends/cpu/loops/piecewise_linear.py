"""Commands of piecewise linear embeddings.

Of the bins of a column, those below x count in full and the ones above not at all. So a row needs the sum of
the rows of V below its bin, which is made once per column, and one more row of V. The gradient is summed bin
by bin, and then from the last bin to the first.
"""

from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.chunks import bounds, zeros
from ffnn_gpu.backends.cpu.loops.intrinsics import address_of, matrix, release, vector


def bin_of(value: Any, lower: Array, n: int) -> int:
    """Return the last of n bins whose lower end is below the value; 0 if there is none."""
    first, last = 0, n - 1
    while first < last:
        middle = (first + last + 1) // 2
        if value > lower[middle]:
            first = middle
        else:
            last = middle - 1
    return first


def piecewise_linear_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = (w_1 x_1 + c_1 + p_1 V_1, …, x_{F+1}, …). The chunks divide the columns."""
    B, I, F, T, D = n[8], n[9], n[10], n[11], n[12]
    O = F * D + I - F
    x, out, counts = matrix(like, n[0], B, I), matrix(like, n[7], B, O), vector(np.int64, n[6], F)
    w, c, V = matrix(like, n[1], F, D), matrix(like, n[2], F, D), matrix(like, n[3], F * T, D)
    lower, inverse = matrix(like, n[4], F, T), matrix(like, n[5], F, T)
    start, stop = bounds(F, 1, chunk, chunks)
    memory = address_of(zeros(T * D))
    below = matrix(np.float64, memory, T, D)
    for f in range(start, stop):
        for d in range(D):
            total = np.float64(c[f, d])
            for t in range(T):
                below[t, d] = total
                total += V[f * T + t, d]
        for r in range(B):
            value = x[r, f]
            t = bin_of(value, lower[f], counts[f])
            part = (value - lower[f, t]) * inverse[f, t]
            for d in range(D):
                out[r, f * D + d] = w[f, d] * value + (below[t, d] + part * V[f * T + t, d])
    top, bottom = bounds(B, 1, chunk, chunks)
    for r in range(top, bottom):
        for i in range(F, I):
            out[r, F * (D - 1) + i] = x[r, i]
    release(memory)


def piecewise_linear_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """dw_f = Σ x_f de_f,  dc = Σ de,  dV_f = p_fᵀ de_f,  dx_f = de_f · (w_f + p_f′ V_f)

    The chunks divide the columns; dx may be 0.
    """
    B, I, F, T, D = n[11], n[12], n[13], n[14], n[15]
    O = F * D + I - F
    da, x, dx = matrix(like, n[0], B, O), matrix(like, n[1], B, I), matrix(like, n[10], B, I)
    w, V, counts = matrix(like, n[2], F, D), matrix(like, n[3], F * T, D), vector(np.int64, n[6], F)
    lower, inverse = matrix(like, n[4], F, T), matrix(like, n[5], F, T)
    dw, dc, dV = matrix(like, n[7], F, D), matrix(like, n[8], F, D), matrix(like, n[9], F * T, D)
    start, stop = bounds(F, 1, chunk, chunks)
    memory = address_of(zeros((2 * T + 2) * D))
    sums = matrix(np.float64, memory, 2 * T + 2, D)  # Σ part de and Σ de of each bin, Σ x de, Σ de
    for f in range(start, stop):
        for t in range(2 * T + 2):
            for d in range(D):
                sums[t, d] = 0
        for r in range(B):
            value = x[r, f]
            t = bin_of(value, lower[f], counts[f])
            part, slope = (value - lower[f, t]) * inverse[f, t], 0 * value
            for d in range(D):
                de = da[r, f * D + d]
                sums[2 * t, d] += np.float64(part) * de
                sums[2 * t + 1, d] += de
                sums[2 * T, d] += np.float64(value) * de
                slope += de * (w[f, d] + inverse[f, t] * V[f * T + t, d])
            if n[10]:
                dx[r, f] = slope
        for d in range(D):
            total = 0.0
            for before in range(T):
                t = T - 1 - before
                dV[f * T + t, d] = sums[2 * t, d] + total
                total += sums[2 * t + 1, d]
            dw[f, d], dc[f, d] = sums[2 * T, d], total
    if n[10]:
        top, bottom = bounds(B, 1, chunk, chunks)
        for r in range(top, bottom):
            for i in range(F, I):
                dx[r, i] = da[r, F * (D - 1) + i]
    release(memory)
