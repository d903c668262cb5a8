"""Commands of dense layers and dropout.

The product of more than FEW rows is in matrix_product.py.
"""

from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.chunks import UNIT, bounds, zeros
from ffnn_gpu.backends.cpu.loops.intrinsics import (
    address_of,
    as_real,
    matrix,
    release,
    size_of,
    store,
    vector,
)
from ffnn_gpu.backends.cpu.loops.matrix_product import finish
from ffnn_gpu.backends.reference.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

FEW = 4  # up to this many rows are multiplied one by one

# ----------------------------------------------------------------------  products of few rows


def add_row(x: Array, W: Array, out: Array) -> None:
    """out (O,) ← x W for one row x (I,), reading W once in memory order; a product would copy it first"""
    for c in range(len(out)):
        out[c] = 0
    whole = len(x) // 8 * 8
    for k in range(0, whole, 8):
        p, q, r, s, t, u, v, w = x[k], x[k + 1], x[k + 2], x[k + 3], x[k + 4], x[k + 5], x[k + 6], x[k + 7]
        for c in range(len(out)):
            out[c] += ((p * W[k, c] + q * W[k + 1, c]) + (r * W[k + 2, c] + s * W[k + 3, c])) + (
                (t * W[k + 4, c] + u * W[k + 5, c]) + (v * W[k + 6, c] + w * W[k + 7, c])
            )
    for k in range(whole, len(x)):
        for c in range(len(out)):
            out[c] += x[k] * W[k, c]


def few_rows_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """sums[chunk] (B, O) = the contribution of a chunk of W's rows to x W"""
    x, W, sums, B, I, O = n[0], n[1], n[2], n[3], n[4], n[5]
    first, last = bounds(I, 8, chunk, chunks)
    size = size_of(like)
    some = matrix(like, W + size * first * O, last - first, O)
    for r in range(B):
        row, total = vector(like, x + size * (r * I + first), last - first), size * (chunk * B + r) * O
        add_row(row, some, vector(like, sums + total, O))


def sum_of_few_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out (B, O) = Σ_chunks sums, then the tail"""
    sums, count, out, B, O = n[0], n[1], n[2], n[3], n[4]
    all_sums, total = matrix(like, sums, count, B * O), vector(like, out, B * O)
    for c in range(B * O):
        total[c] = all_sums[0, c]
    for k in range(1, count):
        for c in range(B * O):
            total[c] += all_sums[k, c]
    finish(n, 5, 0, B, 0, O)


# ----------------------------------------------------------------------  sums


def column_sum_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = Σ_rows A, summed in float64"""
    A, out, rows, columns = n[0], n[1], n[2], n[3]
    left, right = bounds(columns, UNIT, chunk, chunks)
    sums, size = zeros(right - left), size_of(like)
    for r in range(rows):
        row = vector(like, A + size * (r * columns + left), right - left)
        for c in range(right - left):
            sums[c] += row[c]
    total = vector(like, out + size * left, right - left)
    for c in range(right - left):
        total[c] = sums[c]
    release(address_of(sums))


def refuse_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """`failed` ← 1 if one of the sums is not 0"""
    sums = vector(np.float64, n[0], n[1])
    for k in range(n[1]):
        if sums[k] != 0:
            store(n[2], 1)


# ----------------------------------------------------------------------  dropout


ROW = 6  # place of `row` in the operands of the next command


def dropout_mask_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out_rc = keep if word c mod 4 of Philox at (⌊c/4⌋, row + r, step, layer) ≥ threshold, else 0.

    With the address of a factor, keep and threshold are those of the rate times the factor.
    """
    threshold, step, layer, rows, columns = n[1], vector(np.int64, n[4], 1)[0], n[5], n[8], n[9]
    first, last = bounds(rows, 1, chunk, chunks)
    out = matrix(like, n[7], rows, columns)
    keep = as_real(n[0])
    if n[10] != 0:
        p = as_real(n[11]) * vector(np.float64, n[10], 1)[0]
        keep, threshold = 1.0 / (1.0 - p), np.int64(min(np.rint(p * 2.0**32), 2.0**32 - 1))
    keep = out.dtype.type(keep)
    for r in range(first, last):
        for quad in range((columns + 3) // 4):
            c0, c1, c2, c3 = np.uint32(quad), np.uint32(n[ROW] + r), np.uint32(step), np.uint32(layer)
            k0, k1 = np.uint32(n[2]), np.uint32(n[3])
            for _ in range(ROUNDS):
                p0, p1 = np.uint64(c0) * np.uint64(MULTIPLIER_0), np.uint64(c2) * np.uint64(MULTIPLIER_1)
                c0, c1 = np.uint32((p1 >> np.uint64(32)) ^ c1 ^ k0), np.uint32(p1)
                c2, c3 = np.uint32((p0 >> np.uint64(32)) ^ c3 ^ k1), np.uint32(p0)
                k0, k1 = np.uint32(k0 + np.uint32(WEYL_0)), np.uint32(k1 + np.uint32(WEYL_1))
            for j in range(min(4, columns - 4 * quad)):
                word = c0 if j == 0 else c1 if j == 1 else c2 if j == 2 else c3
                out[r, 4 * quad + j] = keep if word >= threshold else 0
