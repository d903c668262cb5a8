"""Commands of periodic embeddings.

A column is embedded TILE rows at a time. Within a tile the rows lie side by side, so each inner loop is one
over contiguous rows, and LLVM makes vectors of it. Sums over the batch are float64, tile by tile.
"""

import math
from typing import Any

from llvmlite import ir

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.chunks import bounds, zeros
from ffnn_gpu.backends.cpu.loops.compiler import instruction
from ffnn_gpu.backends.cpu.loops.intrinsics import address_of, allocate, matrix, release, size_of, vector
from ffnn_gpu.backends.cpu.loops.normalization import sum_of, sum_of_products
from ffnn_gpu.backends.cpu.loops.softmax import over_row
from ffnn_gpu.backends.elementwise.functions import waves
from ffnn_gpu.backends.elementwise.lanes import I64, REGISTER, Lanes

TILE = 256  # rows; the waves of 16 frequencies are then 16 KiB of float32
TURN, OF_TURN = 2 * math.pi, 1 / (2 * math.pi)


@instruction
def write_waves(builder: Any, like: Any, turns: Any, cosines: Any, sines: Any, n: Any) -> None:
    """cosines = cos(2π turns) and sines = sin(2π turns), n numbers each, given three addresses

    cosines may be turns.
    """
    v = Lanes(builder, like.dtype.itemsize, REGISTER)

    def part(c: Any, mask: Any) -> None:
        moved = builder.mul(c, ir.Constant(I64, v.size))
        both = waves(v, v.load(builder.add(turns, moved), mask))
        for lane, target in zip(both, (cosines, sines), strict=True):
            v.store(lane, builder.add(target, moved), mask)

    over_row(builder, v, n, part)


@instruction
def write_cosines(builder: Any, like: Any, turns: Any, n: Any) -> None:
    """turns ← cos(2π turns), n numbers at this address"""
    v = Lanes(builder, like.dtype.itemsize, REGISTER)

    def part(c: Any, mask: Any) -> None:
        place = builder.add(turns, builder.mul(c, ir.Constant(I64, v.size)))
        v.store(waves(v, v.load(place, mask))[0], place, mask)

    over_row(builder, v, n, part)


def turns_of(xs: Array, w: Array, b: Array, unit: float, z: Array) -> None:
    """z_k = w_k x + unit b_k for each frequency k of one column"""
    for k in range(len(w)):
        factor, shift, row = w[k], b[k] * b.dtype.type(unit), z[k]
        for r in range(len(xs)):
            row[r] = factor * xs[r] + shift


def column_of(x: Array, first: int, f: int, xs: Array) -> None:
    """xs = x[first:, f] for as many rows as xs has"""
    for r in range(len(xs)):
        xs[r] = x[first + r, f]


def periodic_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = (cos(2π w_1 x_1 + b_1) A_1 + c_1, …, x)"""
    B, I, F, K, D = n[6], n[7], n[8], n[9], n[10]
    O, size = F * D + I, size_of(like)
    x, out, w, b = (
        matrix(like, n[0], B, I),
        matrix(like, n[5], B, O),
        matrix(like, n[1], F, K),
        matrix(like, n[2], F, K),
    )
    A, c = matrix(like, n[3], F * K, D), matrix(like, n[4], F, D)
    top, bottom = bounds(B, 1, chunk, chunks)
    memory = allocate(size * TILE * (K + 2))
    for first in range(top, bottom, TILE):
        rows = min(TILE, bottom - first)
        z = matrix(like, memory, K, rows)
        xs, e = (
            vector(like, memory + size * K * TILE, rows),
            vector(like, memory + size * (K + 1) * TILE, rows),
        )
        for f in range(F):
            column_of(x, first, f, xs)
            turns_of(xs, w[f], b[f], OF_TURN, z)
            write_cosines(like, memory, K * rows)
            for d in range(D):
                start = c[f, d]
                for r in range(rows):
                    e[r] = start
                for k in range(K):
                    factor, row = A[f * K + k, d], z[k]
                    for r in range(rows):
                        e[r] += factor * row[r]
                for r in range(rows):
                    out[first + r, f * D + d] = e[r]
        for r in range(first, first + rows):
            for i in range(I):
                out[r, F * D + i] = x[r, i]
    release(memory)


def periodic_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """dA_f = z_fᵀ de_f,  dc = Σ de,  dθ_f = −sin θ_f ⊙ (de_f A_fᵀ),  db = Σ dθ,  dw_f = 2π Σ x_f dθ_f,

    dx_f = dx̃_f + 2π dθ_f w_f. The chunks divide the columns; dx may be 0.
    """
    B, I, F, K, D = n[10], n[11], n[12], n[13], n[14]
    O, size = F * D + I, size_of(like)
    da, x, w, b = (
        matrix(like, n[0], B, O),
        matrix(like, n[1], B, I),
        matrix(like, n[2], F, K),
        matrix(like, n[3], F, K),
    )
    A, dw, db = matrix(like, n[4], F * K, D), matrix(like, n[5], F, K), matrix(like, n[6], F, K)
    dA, dc, dx = matrix(like, n[7], F * K, D), matrix(like, n[8], F, D), matrix(like, n[9], B, I)
    start, stop = bounds(F, 1, chunk, chunks)
    memory, sums = allocate(size * TILE * (2 * K + D + 2)), zeros((K + 1) * (D + 2))
    for f in range(start, stop):
        for i in range((K + 1) * (D + 2)):
            sums[i] = 0
        for first in range(0, B, TILE):
            rows = min(TILE, B - first)
            z, s = matrix(like, memory, K, rows), matrix(like, memory + size * K * TILE, K, rows)
            de = matrix(like, memory + size * 2 * K * TILE, D, rows)
            xs = vector(like, memory + size * (2 * K + D) * TILE, rows)
            slope = vector(like, memory + size * (2 * K + D + 1) * TILE, rows)
            column_of(x, first, f, xs)
            for d in range(D):
                column_of(da, first, f * D + d, de[d])
                sums[K * (D + 2) + d] += sum_of(de[d])
            turns_of(xs, w[f], b[f], OF_TURN, z)
            write_waves(like, memory, memory, address_of(s), K * rows)
            for r in range(rows):
                slope[r] = 0
            for k in range(K):
                dz, sine = z[k], s[k]
                for d in range(D):
                    sums[k * (D + 2) + d] += sum_of_products(z[k], de[d])
                for r in range(rows):
                    dz[r] = 0
                for d in range(D):
                    factor, g = A[f * K + k, d], de[d]
                    for r in range(rows):
                        dz[r] += factor * g[r]
                frequency = w[f, k]
                for r in range(rows):
                    sine[r] = -sine[r] * dz[r]
                    slope[r] += frequency * sine[r]
                sums[k * (D + 2) + D] += sum_of(sine)
                sums[k * (D + 2) + D + 1] += sum_of_products(sine, xs)
            if n[9]:
                for r in range(rows):
                    dx[first + r, f] = da[first + r, F * D + f] + slope[r] * dx.dtype.type(TURN)
        for k in range(K):
            for d in range(D):
                dA[f * K + k, d] = sums[k * (D + 2) + d]
            db[f, k] = sums[k * (D + 2) + D]
            dw[f, k] = TURN * sums[k * (D + 2) + D + 1]
        for d in range(D):
            dc[f, d] = sums[K * (D + 2) + d]
    if n[9]:
        top, bottom = bounds(B, 1, chunk, chunks)
        for r in range(top, bottom):
            for i in range(F, I):
                dx[r, i] = da[r, F * D + i]
    release(memory)
    release(address_of(sums))
