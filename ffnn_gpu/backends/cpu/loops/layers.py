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
from ffnn_gpu.backends.cpu.loops.normalization import sum_of_products
from ffnn_gpu.backends.reference.philox import MASK, MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

FEW = 4  # up to this many rows are multiplied one by one

# ----------------------------------------------------------------------  products of few rows or one column


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


def one_column_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out (M, 1) ← A b for A (M, K), or for the transpose of A (K, M) if `turned`, then the tail

    Why not a product: of the registers of a tile it would use one number each.
    """
    A, turned, b, out, M, K, size = n[0], n[1], n[2], n[3], n[4], n[5], size_of(like)
    top, bottom = bounds(M, UNIT, chunk, chunks)
    factors, total = vector(like, b, K), vector(like, out + size * top, bottom - top)
    if turned:
        add_row(factors, matrix(like, A + size * top, K, M), total)
    else:
        for r in range(bottom - top):
            total[r] = sum_of_products(vector(like, A + size * (top + r) * K, K), factors)
    finish(n, 6, top, bottom, 0, 1)


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


ROW = 6  # place of `row` in the operands of dropout_mask_command


def philox(words: Any, key: Any, rounds: int) -> Any:
    """Return four words after some rounds of Philox: of each uint64 the lower 32 bits.

    It is compiled as one round after another: LLVM makes vectors of a loop that has no loop within.
    """
    (a, b, c, d), (left, right) = words, key
    p, q = (a & MASK) * MULTIPLIER_0, (c & MASK) * MULTIPLIER_1
    after = (q >> 32) ^ b ^ left, q, (p >> 32) ^ d ^ right, p
    return philox(after, (left + WEYL_0, right + WEYL_1), rounds - 1) if rounds > 1 else after


def dropout_mask_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out_rc = keep if word c mod 4 of Philox at (⌊c/4⌋, row + r, step, layer) ≥ threshold, else 0.

    With the address of a factor, keep and threshold are those of the rate times the factor.
    """
    threshold, rows, columns = n[1], n[8], n[9]
    first, last = bounds(rows, 1, chunk, chunks)
    out = matrix(like, n[7], rows, columns)
    keep = as_real(n[0])
    if n[10] != 0:
        p = as_real(n[11]) * vector(np.float64, n[10], 1)[0]
        keep, threshold = 1.0 / (1.0 - p), np.int64(min(np.rint(p * 2.0**32), 2.0**32 - 1))
    keep, nothing, least = out.dtype.type(keep), out.dtype.type(0), np.uint32(threshold)
    key, layer = (np.uint64(n[2]), np.uint64(n[3])), np.uint64(n[5])
    step = np.uint64(vector(np.int64, n[4], 1)[0])
    for r in range(first, last):
        row, line = out[r], np.uint64(n[ROW] + r)
        for quad in range(columns // 4):
            a, b, c, d = philox((np.uint64(quad), line, step, layer), key, ROUNDS)
            row[4 * quad] = keep if np.uint32(a) >= least else nothing
            row[4 * quad + 1] = keep if np.uint32(b) >= least else nothing
            row[4 * quad + 2] = keep if np.uint32(c) >= least else nothing
            row[4 * quad + 3] = keep if np.uint32(d) >= least else nothing
        if columns % 4:
            whole = columns // 4
            a, b, c, d = philox((np.uint64(whole), line, step, layer), key, ROUNDS)
            for j in range(columns % 4):
                word = a if j == 0 else b if j == 1 else c
                row[4 * whole + j] = keep if np.uint32(word) >= least else nothing
