"""Softmax and log-softmax over each row, and their adjoints: each loop, then the command for a chunk of rows.

Sums over a row are float64. NaN in a row makes the whole row NaN, as in the reference.
"""

import math
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.chunks import inlined, kernel, rows_chunk


@inlined
def maximum(z: Array, b: int) -> Any:
    """Return max_c z_bc, without NaN unless it is the first."""
    largest = z[b, 0]
    for c in range(1, z.shape[1]):
        if z[b, c] > largest:
            largest = z[b, c]
    return largest


@inlined
def exponentials(z: Array, b: int, largest: Any, out: Array) -> float:
    """out_b = e^{z_b − largest}; return Σ_c out_bc"""
    norm = 0.0
    for c in range(z.shape[1]):
        e = np.exp(z[b, c] - largest)
        out[b, c] = e
        norm += e
    return norm


@kernel
def softmax(z: Array, out: Array) -> None:
    """out = softmax(z); out may be z"""
    T = z.dtype.type
    for b in range(len(z)):
        factor = T(1 / exponentials(z, b, maximum(z, b), out))
        for c in range(z.shape[1]):
            out[b, c] *= factor


def softmax_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    z, out, B, C = n[0], n[1], n[2], n[3]
    softmax(rows_chunk(like, z, B, C, chunk, chunks), rows_chunk(like, out, B, C, chunk, chunks))


@kernel
def softmax_backward(da: Array, a: Array) -> None:
    """da ← a ⊙ (da − Σ_k da_k a_k)"""
    T = da.dtype.type
    for b in range(len(da)):
        total = 0.0
        for c in range(da.shape[1]):
            total += np.float64(da[b, c]) * np.float64(a[b, c])
        mean = T(total)
        for c in range(da.shape[1]):
            da[b, c] = a[b, c] * (da[b, c] - mean)


def softmax_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    da, a, B, C = n[0], n[1], n[2], n[3]
    softmax_backward(rows_chunk(like, da, B, C, chunk, chunks), rows_chunk(like, a, B, C, chunk, chunks))


@kernel
def log_softmax(z: Array, out: Array) -> None:
    """out = z − log Σ_k e^{z_k}; out may be z"""
    T = z.dtype.type
    for b in range(len(z)):
        largest, norm = maximum(z, b), 0.0
        for c in range(z.shape[1]):
            norm += np.exp(z[b, c] - largest)
        logarithm = math.log(norm)
        for c in range(z.shape[1]):
            out[b, c] = T(np.float64(z[b, c] - largest) - logarithm)


def log_softmax_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    z, out, B, C = n[0], n[1], n[2], n[3]
    log_softmax(rows_chunk(like, z, B, C, chunk, chunks), rows_chunk(like, out, B, C, chunk, chunks))


@kernel
def log_softmax_backward(da: Array, a: Array) -> None:
    """da ← da − e^a Σ_k da_k"""
    T = da.dtype.type
    for b in range(len(da)):
        total = 0.0
        for c in range(da.shape[1]):
            total += da[b, c]
        sum_of_row = T(total)
        for c in range(da.shape[1]):
            da[b, c] -= np.exp(a[b, c]) * sum_of_row


def log_softmax_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    da, a, B, C = n[0], n[1], n[2], n[3]
    log_softmax_backward(rows_chunk(like, da, B, C, chunk, chunks), rows_chunk(like, a, B, C, chunk, chunks))
