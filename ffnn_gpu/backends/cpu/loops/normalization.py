"""Commands of layer and batch normalization, with statistics in float64."""

import math
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.chunks import UNIT, bounds, kernel, rows_chunk, zeros
from ffnn_gpu.backends.cpu.loops.intrinsics import as_real, matrix, release, sixteen, vector


@kernel
def sum_of(a: Array) -> Any:
    """Return Σ a in float64, as 16 independent sums, so that no addition waits for the one before."""
    sums = vector(np.float64, sixteen(), 16)
    whole = len(a) // 16 * 16
    for i in range(0, whole, 16):
        for j in range(16):
            sums[j] += a[i + j]
    total = sums.sum()
    for i in range(whole, len(a)):
        total += a[i]
    return total


@kernel
def sum_of_products(a: Array, b: Array) -> Any:
    """Return Σ a b in float64 in the same way."""
    sums = vector(np.float64, sixteen(), 16)
    whole = len(a) // 16 * 16
    for i in range(0, whole, 16):
        for j in range(16):
            sums[j] += np.float64(a[i + j]) * np.float64(b[i + j])
    total = sums.sum()
    for i in range(whole, len(a)):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


# ---------------------------------------------------------------------- over each row


def layer_norm_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """xhat = (x − μ) rstd,  out = xhat ⊙ gain + bias over each row; xhat may be out, rstd may be 0."""
    eps, rstd, B, I = as_real(n[3]), n[6], n[7], n[8]
    x, gain, bias = rows_chunk(like, n[0], B, I, chunk, chunks), vector(like, n[1], I), vector(like, n[2], I)
    out, xhat = rows_chunk(like, n[4], B, I, chunk, chunks), rows_chunk(like, n[5], B, I, chunk, chunks)
    factors, first = vector(like, rstd, B), bounds(B, 1, chunk, chunks)[0]
    for r in range(len(x)):
        mean, variance = sum_of(x[r]) / I, 0.0
        for c in range(I):
            variance += (x[r, c] - mean) ** 2
        factor = 1 / math.sqrt(variance / I + eps)
        for c in range(I):
            v = out.dtype.type((x[r, c] - mean) * factor)
            xhat[r, c] = v
            out[r, c] = v * gain[c] + bias[c]
        if rstd:
            factors[first + r] = factor


def layer_norm_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """dx = (dx̂ − mean dx̂ − x̂ mean(dx̂ ⊙ x̂)) rstd over each row, with dx̂ = da ⊙ gain left in da"""
    B, I = n[5], n[6]
    da, dx = rows_chunk(like, n[0], B, I, chunk, chunks), rows_chunk(like, n[4], B, I, chunk, chunks)
    gain, xhat = vector(like, n[1], I), rows_chunk(like, n[2], B, I, chunk, chunks)
    rstd, T = vector(like, n[3], B)[bounds(B, 1, chunk, chunks)[0] :], dx.dtype.type
    for r in range(len(da)):
        for c in range(I):
            da[r, c] *= gain[c]
        mean, slope = T(sum_of(da[r]) / I), T(sum_of_products(da[r], xhat[r]) / I)
        for c in range(I):
            dx[r, c] = (da[r, c] - mean - xhat[r, c] * slope) * rstd[r]


# ---------------------------------------------------------------------- over each column


def batch_norm_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """xhat = (x − μ) rstd,  out = xhat ⊙ gain + bias over each column; mean = μ, variance = σ² (biased)"""
    eps, B, I = as_real(n[3]), n[9], n[10]
    x, gain, bias = matrix(like, n[0], B, I), vector(like, n[1], I), vector(like, n[2], I)
    out, xhat, rstd = matrix(like, n[4], B, I), matrix(like, n[5], B, I), vector(like, n[6], I)
    mean, variance = vector(like, n[7], I), vector(like, n[8], I)
    first, last = bounds(I, UNIT, chunk, chunks)
    mu, sigma2 = zeros(I), zeros(I)
    for r in range(B):
        for c in range(first, last):
            mu[c] += x[r, c]
    for c in range(first, last):
        mu[c] /= B
    for r in range(B):
        for c in range(first, last):
            sigma2[c] += (x[r, c] - mu[c]) ** 2
    for c in range(first, last):
        sigma2[c] /= B
        mean[c], variance[c] = mu[c], sigma2[c]
        sigma2[c] = 1 / math.sqrt(sigma2[c] + eps)
        rstd[c] = sigma2[c]
    for r in range(B):
        for c in range(first, last):
            v = out.dtype.type((x[r, c] - mu[c]) * sigma2[c])
            xhat[r, c] = v
            out[r, c] = v * gain[c] + bias[c]
    release(mu.ctypes.data)
    release(sigma2.ctypes.data)


def batch_norm_inference_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = (x − mean)/√(variance + ε) ⊙ gain + bias"""
    eps, B, I = as_real(n[3]), n[7], n[8]
    x, out = rows_chunk(like, n[0], B, I, chunk, chunks), rows_chunk(like, n[4], B, I, chunk, chunks)
    gain, bias = vector(like, n[1], I), vector(like, n[2], I)
    mean, variance, T = vector(like, n[5], I), vector(like, n[6], I), out.dtype.type
    for r in range(len(x)):
        for c in range(I):
            out[r, c] = (x[r, c] - mean[c]) * (gain[c] / np.sqrt(variance[c] + T(eps))) + bias[c]


def sums_of_columns_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """dgain = Σ_B da ⊙ x̂,  dbias = Σ_B da"""
    B, I = n[4], n[5]
    da, xhat, dgain, dbias = (
        matrix(like, n[0], B, I),
        matrix(like, n[1], B, I),
        vector(like, n[2], I),
        vector(like, n[3], I),
    )
    first, last = bounds(I, UNIT, chunk, chunks)
    products, sums = zeros(I), zeros(I)
    for r in range(B):
        for c in range(first, last):
            products[c] += np.float64(da[r, c]) * np.float64(xhat[r, c])
            sums[c] += da[r, c]
    for c in range(first, last):
        dgain[c], dbias[c] = products[c], sums[c]
    release(products.ctypes.data)
    release(sums.ctypes.data)


def batch_norm_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """dx = (da − dbias/B − x̂ dgain/B) ⊙ gain ⊙ rstd, from dgain = Σ_B da ⊙ x̂ and dbias = Σ_B da"""
    B, I = n[7], n[8]
    da, xhat, dx = matrix(like, n[0], B, I), matrix(like, n[2], B, I), matrix(like, n[6], B, I)
    gain, rstd = vector(like, n[1], I), vector(like, n[3], I)
    dgain, dbias = vector(like, n[4], I), vector(like, n[5], I)
    first, last = bounds(B, 1, chunk, chunks)
    for r in range(first, last):
        for c in range(I):
            dx[r, c] = (da[r, c] - dbias[c] / B - xhat[r, c] * (dgain[c] / B)) * gain[c] * rstd[c]
