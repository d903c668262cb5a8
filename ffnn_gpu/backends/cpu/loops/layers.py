"""Dense layers, dropout, elementwise operations. Each loop is followed by the command that runs a chunk."""

from typing import Any

import numpy as np
from numba import uint32, uint64

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.chunks import (
    UNIT,
    bounds,
    inlined,
    kernel,
    matrix,
    rows_chunk,
    vector,
    vector_chunk,
)
from ffnn_gpu.backends.cpu.loops.intrinsics import as_real, size_of
from ffnn_gpu.backends.cpu.loops.matrix_product import product
from ffnn_gpu.backends.cpu.loops.register_tiles import PANEL, ROWS
from ffnn_gpu.backends.reference.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

FEW = 4  # up to this many rows are multiplied one by one

# ----------------------------------------------------------------------  products


@inlined
def block(like: Any, M: int, N: int, across: int, chunk: int, chunks: int) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of one block of an (M, N) matrix, `across` blocks side by side."""
    top, bottom = bounds(M, ROWS, chunk // across, chunks // across)
    left, right = bounds(N, PANEL // size_of(like), chunk % across, across)
    return top, bottom, left, right


def product_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """C = A B; with an activation `a`, times 0 where a ≤ 0, done for each chunk while it is in the cache"""
    A, a_row, a_step, B, b_row, turned = n[0], n[1], n[2], n[3], n[4], n[5]
    C, M, N, K, across, a = n[6], n[7], n[8], n[9], n[10], n[11]
    top, bottom, left, right = block(like, M, N, across, chunk, chunks)
    size = size_of(like)
    first, shape = size * (top * N + left), (bottom - top, right - left, K)
    A, B = A + top * a_row, B + left * (b_row if turned else size)
    product(like, (A, a_row, a_step), (B, b_row, turned != 0), (C + first, size * N), shape)
    for r in range(bottom - top if a else 0):
        row = first + size * r * N
        relu_backward(matrix(like, C + row, 1, right - left), matrix(like, a + row, 1, right - left))


def affine_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = x W + b, or max(x W + b, 0), done for each chunk while it is in the cache"""
    x, W, b, out, B, I, O, rectified, across = n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]
    top, bottom, left, right = block(like, B, O, across, chunk, chunks)
    size = size_of(like)
    x, W, out = x + size * top * I, W + size * left, out + size * (top * O + left)
    shape = bottom - top, right - left, I
    product(like, (x, size * I, size), (W, size * O, False), (out, size * O), shape)
    finish(like, out, O, bottom - top, right - left, b + size * left if b else 0, rectified)


@kernel
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
    """out (B, O) = Σ_chunks sums + b, or max(Σ_chunks sums + b, 0)"""
    sums, count, b, out, B, O, rectified = n[0], n[1], n[2], n[3], n[4], n[5], n[6]
    all_sums, total = matrix(like, sums, count, B * O), vector(like, out, B * O)
    for c in range(B * O):
        total[c] = all_sums[0, c]
    for k in range(1, count):
        for c in range(B * O):
            total[c] += all_sums[k, c]
    finish(like, out, O, B, O, b, rectified)


@kernel
def finish(like: Any, out: int, O: int, rows: int, width: int, b: int, rectified: int) -> None:
    """out (rows, width) ← out + b, or max(out + b, 0); no bias if b is 0"""
    bias = vector(like, b, width if b else 0)
    for r in range(rows):
        row = matrix(like, out + size_of(like) * r * O, 1, width)
        if b and rectified:
            bias_relu(row, bias)
        elif b:
            add_bias(row, bias)
        elif rectified:
            relu(row)


# ----------------------------------------------------------------------  activations


@kernel
def bias_relu(s: Array, b: Array) -> None:
    """s ← max(s + b, 0); NaN stays NaN"""
    zero = s.dtype.type(0)
    for r in range(s.shape[0]):
        for c in range(s.shape[1]):
            t = s[r, c] + b[c]
            s[r, c] = zero if t <= 0 else t


@kernel
def relu(s: Array) -> None:
    """s ← max(s, 0); NaN stays NaN"""
    zero = s.dtype.type(0)
    for r in range(s.shape[0]):
        for c in range(s.shape[1]):
            s[r, c] = zero if s[r, c] <= 0 else s[r, c]


@kernel
def add_bias(s: Array, b: Array) -> None:
    """s ← s + b, without the buffer that NumPy allocates"""
    for r in range(s.shape[0]):
        for c in range(s.shape[1]):
            s[r, c] += b[c]


@kernel
def relu_backward(da: Array, a: Array) -> None:
    """da ← da where a > 0, else 0 da"""
    one, zero = da.dtype.type(1), da.dtype.type(0)
    for r in range(da.shape[0]):
        for c in range(da.shape[1]):
            da[r, c] *= one if a[r, c] > 0 else zero


def relu_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """da ← da where a > 0, else 0 da"""
    da, a, B, O = n[0], n[1], n[2], n[3]
    relu_backward(rows_chunk(like, da, B, O, chunk, chunks), rows_chunk(like, a, B, O, chunk, chunks))


@kernel
def tanh_backward(da: Array, a: Array) -> None:
    """da ← da (1 − a)(1 + a)"""
    one = da.dtype.type(1)
    for r in range(da.shape[0]):
        for c in range(da.shape[1]):
            da[r, c] *= (one - a[r, c]) * (one + a[r, c])


@kernel
def sigmoid_backward(da: Array, a: Array) -> None:
    """da ← da a (1 − a)"""
    one = da.dtype.type(1)
    for r in range(da.shape[0]):
        for c in range(da.shape[1]):
            da[r, c] *= a[r, c] * (one - a[r, c])


@kernel
def column_sum(A: Array, out: Array) -> None:
    """out = Σ_rows A, summed in float64"""
    sums = np.zeros(A.shape[1])
    for r in range(A.shape[0]):
        for c in range(A.shape[1]):
            sums[c] += A[r, c]
    for c in range(A.shape[1]):
        out[c] = sums[c]


def column_sum_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = Σ_rows A, summed in float64"""
    A, out, rows, columns = n[0], n[1], n[2], n[3]
    left, right = bounds(columns, UNIT, chunk, chunks)
    sums, size = np.zeros(right - left), size_of(like)
    for r in range(rows):
        row = vector(like, A + size * (r * columns + left), right - left)
        for c in range(right - left):
            sums[c] += row[c]
    total = vector(like, out + size * left, right - left)
    for c in range(right - left):
        total[c] = sums[c]


# ----------------------------------------------------------------------  elementwise


def multiply_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = x ⊙ y"""
    x, y, out, size = n[0], n[1], n[2], n[3]
    x, y = vector_chunk(like, x, size, chunk, chunks), vector_chunk(like, y, size, chunk, chunks)
    out = vector_chunk(like, out, size, chunk, chunks)
    for i in range(len(x)):
        out[i] = x[i] * y[i]


def add_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = x + y"""
    x, y, out, size = n[0], n[1], n[2], n[3]
    x, y = vector_chunk(like, x, size, chunk, chunks), vector_chunk(like, y, size, chunk, chunks)
    out = vector_chunk(like, out, size, chunk, chunks)
    for i in range(len(x)):
        out[i] = x[i] + y[i]


def copy_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = x"""
    x, out, size = n[0], n[1], n[2]
    x, out = vector_chunk(like, x, size, chunk, chunks), vector_chunk(like, out, size, chunk, chunks)
    for i in range(len(x)):
        out[i] = x[i]


# ----------------------------------------------------------------------  dropout


@kernel
def dropout_mask(
    out: np.ndarray, keep: float, threshold: int, key: tuple[int, int], step: int, layer: int, row: int
) -> None:
    """out_rc = keep if word c mod 4 of Philox at (⌊c/4⌋, row + r, step, layer) ≥ threshold, else 0."""
    rows, columns = out.shape
    for r in range(rows):
        for quad in range((columns + 3) // 4):
            c0, c1, c2, c3 = uint32(quad), uint32(row + r), uint32(step), uint32(layer)
            k0, k1 = uint32(key[0]), uint32(key[1])
            for _ in range(ROUNDS):
                p0, p1 = uint64(c0) * uint64(MULTIPLIER_0), uint64(c2) * uint64(MULTIPLIER_1)
                c0, c1 = uint32((p1 >> uint64(32)) ^ c1 ^ k0), uint32(p1)
                c2, c3 = uint32((p0 >> uint64(32)) ^ c3 ^ k1), uint32(p0)
                k0, k1 = uint32(k0 + uint32(WEYL_0)), uint32(k1 + uint32(WEYL_1))
            words = (c0, c1, c2, c3)
            for j in range(min(4, columns - 4 * quad)):
                out[r, 4 * quad + j] = keep if words[j] >= threshold else 0


ROW = 6  # place of `row` in the operands of the next command


def dropout_mask_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    keep, threshold, seed, high, step, layer, row = n[0], n[1], n[2], n[3], n[4], n[5], n[6]
    out, rows, columns = n[7], n[8], n[9]
    start, _ = bounds(rows, 1, chunk, chunks)
    mask = rows_chunk(like, out, rows, columns, chunk, chunks)
    count = vector(np.int64, step, 1)[0]
    dropout_mask(mask, mask.dtype.type(as_real(keep)), threshold, (seed, high), count, layer, row + start)


ADJOINTS = {"relu": relu_backward, "tanh": tanh_backward, "sigmoid": sigmoid_backward}
