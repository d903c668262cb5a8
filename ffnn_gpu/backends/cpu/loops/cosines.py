"""Commands of waves with a gain, tile by tile as in periodic.py."""

from typing import Any

from ffnn_gpu.backends.cpu.loops.chunks import bounds, zeros
from ffnn_gpu.backends.cpu.loops.intrinsics import address_of, allocate, matrix, release, size_of, vector
from ffnn_gpu.backends.cpu.loops.normalization import sum_of, sum_of_products
from ffnn_gpu.backends.cpu.loops.periodic import (
    OF_TURN,
    TILE,
    TURN,
    column_of,
    turns_of,
    write_cosines,
    write_waves,
)


def cosines_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = (gain_1 ⊙ (x_1, cos 2π(w_1 x_1 + b_1)) + bias_1, …, x_{F+1}, …)"""
    B, I, F, K = n[6], n[7], n[8], n[9]
    D, size = K + 1, size_of(like)
    O = F * D + I - F
    x, out = matrix(like, n[0], B, I), matrix(like, n[5], B, O)
    w, b = matrix(like, n[1], F, K), matrix(like, n[2], F, K)
    gain, bias = matrix(like, n[3], F, D), matrix(like, n[4], F, D)
    top, bottom = bounds(B, 1, chunk, chunks)
    memory = allocate(size * TILE * D)
    for first in range(top, bottom, TILE):
        rows = min(TILE, bottom - first)
        z, xs = matrix(like, memory, K, rows), vector(like, memory + size * K * TILE, rows)
        for f in range(F):
            column_of(x, first, f, xs)
            turns_of(xs, w[f], b[f], 1.0, z)
            write_cosines(like, memory, K * rows)
            for r in range(rows):
                out[first + r, f * D] = gain[f, 0] * xs[r] + bias[f, 0]
                for k in range(K):
                    out[first + r, f * D + 1 + k] = gain[f, 1 + k] * z[k, r] + bias[f, 1 + k]
        for r in range(first, first + rows):
            for i in range(F, I):
                out[r, F * (D - 1) + i] = x[r, i]
    release(memory)


def cosines_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """dgain_f = Σ de_f ⊙ v_f,  dbias = Σ de,  dθ = −sin θ ⊙ gain ⊙ de,  db = 2π Σ dθ,  dw_f = 2π Σ x_f dθ_f,

    dx_f = gain_f0 de_f0 + 2π dθ_f w_f. The chunks divide the columns; dx may be 0.
    """
    B, I, F, K = n[10], n[11], n[12], n[13]
    D, size = K + 1, size_of(like)
    O = F * D + I - F
    da, x, dx = matrix(like, n[0], B, O), matrix(like, n[1], B, I), matrix(like, n[9], B, I)
    w, b, gain = matrix(like, n[2], F, K), matrix(like, n[3], F, K), matrix(like, n[4], F, D)
    dw, db = matrix(like, n[5], F, K), matrix(like, n[6], F, K)
    dgain, dbias = matrix(like, n[7], F, D), matrix(like, n[8], F, D)
    start, stop = bounds(F, 1, chunk, chunks)
    memory, sums = allocate(size * TILE * (2 * K + 3)), zeros(4 * D)
    for f in range(start, stop):
        for i in range(4 * D):
            sums[i] = 0
        for first in range(0, B, TILE):
            rows = min(TILE, B - first)
            z, s = matrix(like, memory, K, rows), matrix(like, memory + size * K * TILE, K, rows)
            xs = vector(like, memory + size * 2 * K * TILE, rows)
            de = vector(like, memory + size * (2 * K + 1) * TILE, rows)
            slope = vector(like, memory + size * (2 * K + 2) * TILE, rows)
            column_of(x, first, f, xs)
            column_of(da, first, f * D, de)
            sums[0] += sum_of_products(de, xs)
            sums[D] += sum_of(de)
            factor = gain[f, 0] * dx.dtype.type(OF_TURN)
            for r in range(rows):
                slope[r] = factor * de[r]
            turns_of(xs, w[f], b[f], 1.0, z)
            write_waves(like, memory, memory, address_of(s), K * rows)
            for k in range(K):
                column_of(da, first, f * D + 1 + k, de)
                sums[1 + k] += sum_of_products(de, z[k])
                sums[D + 1 + k] += sum_of(de)
                factor, frequency, sine = gain[f, 1 + k], w[f, k], s[k]
                for r in range(rows):
                    sine[r] = -sine[r] * (factor * de[r])
                    slope[r] += frequency * sine[r]
                sums[2 * D + k] += sum_of(sine)
                sums[3 * D + k] += sum_of_products(sine, xs)
            if n[9]:
                for r in range(rows):
                    dx[first + r, f] = slope[r] * dx.dtype.type(TURN)
        for d in range(D):
            dgain[f, d], dbias[f, d] = sums[d], sums[D + d]
        for k in range(K):
            db[f, k], dw[f, k] = TURN * sums[2 * D + k], TURN * sums[3 * D + k]
    if n[9]:
        top, bottom = bounds(B, 1, chunk, chunks)
        for r in range(top, bottom):
            for i in range(F, I):
                dx[r, i] = da[r, F * (D - 1) + i]
    release(memory)
    release(address_of(sums))
