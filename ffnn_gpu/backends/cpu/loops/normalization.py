"""Layer and batch normalization, statistics in float64. Each loop is followed by the command for a chunk."""

import math
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.chunks import UNIT, bounds, kernel, matrix, rows_chunk, vector
from ffnn_gpu.backends.cpu.loops.intrinsics import as_real


@kernel
def sum_of(a: Array) -> Any:
    """Return Σ a in float64, as 16 independent sums, so that no addition waits for the one before."""
    sums = np.zeros(16)
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
    sums = np.zeros(16)
    whole = len(a) // 16 * 16
    for i in range(0, whole, 16):
        for j in range(16):
            sums[j] += np.float64(a[i + j]) * np.float64(b[i + j])
    total = sums.sum()
    for i in range(whole, len(a)):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


# ---------------------------------------------------------------------- over each row


@kernel
def layer_norm(x: Array, gain: Array, bias: Array, eps: float, out: Array, xhat: Array, rstd: Array) -> None:
    """xhat = (x − μ) rstd,  out = xhat ⊙ gain + bias over each row; xhat may be out, rstd may be empty."""
    T = out.dtype.type
    for r in range(x.shape[0]):
        mean, variance = sum_of(x[r]) / x.shape[1], 0.0
        for c in range(x.shape[1]):
            variance += (x[r, c] - mean) ** 2
        factor = 1 / math.sqrt(variance / x.shape[1] + eps)
        for c in range(x.shape[1]):
            v = T((x[r, c] - mean) * factor)
            xhat[r, c] = v
            out[r, c] = v * gain[c] + bias[c]
        if len(rstd):
            rstd[r] = factor


def layer_norm_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    x, gain, bias, eps, out, xhat, rstd, B, I = n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]
    start, stop = bounds(B, 1, chunk, chunks)
    x, out = rows_chunk(like, x, B, I, chunk, chunks), rows_chunk(like, out, B, I, chunk, chunks)
    xhat, rstd = rows_chunk(like, xhat, B, I, chunk, chunks), vector(like, rstd, B if rstd else 0)[start:stop]
    layer_norm(x, vector(like, gain, I), vector(like, bias, I), as_real(eps), out, xhat, rstd)


@kernel
def layer_norm_backward(da: Array, gain: Array, xhat: Array, rstd: Array, dx: Array) -> None:
    """dx = (dx̂ − mean dx̂ − x̂ mean(dx̂ ⊙ x̂)) rstd over each row, with dx̂ = da ⊙ gain left in da"""
    T, I = dx.dtype.type, da.shape[1]
    for r in range(da.shape[0]):
        for c in range(I):
            da[r, c] *= gain[c]
        mean, slope = T(sum_of(da[r]) / I), T(sum_of_products(da[r], xhat[r]) / I)
        for c in range(I):
            dx[r, c] = (da[r, c] - mean - xhat[r, c] * slope) * rstd[r]


def layer_norm_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    da, gain, xhat, rstd, dx, B, I = n[0], n[1], n[2], n[3], n[4], n[5], n[6]
    start, stop = bounds(B, 1, chunk, chunks)
    da, dx = rows_chunk(like, da, B, I, chunk, chunks), rows_chunk(like, dx, B, I, chunk, chunks)
    xhat, rstd = rows_chunk(like, xhat, B, I, chunk, chunks), vector(like, rstd, B)[start:stop]
    layer_norm_backward(da, vector(like, gain, I), xhat, rstd, dx)


# ---------------------------------------------------------------------- over each column


@kernel
def batch_norm(
    x: Array,
    gain: Array,
    bias: Array,
    eps: float,
    out: Array,
    xhat: Array,
    rstd: Array,
    mean: Array,
    variance: Array,
    first: int,
    last: int,
) -> None:
    """layer_norm over each column in [first, last), with its mean and biased variance stored"""
    T, (B, I) = out.dtype.type, x.shape
    mu, sigma2 = np.zeros(I), np.zeros(I)
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
            v = T((x[r, c] - mu[c]) * sigma2[c])
            xhat[r, c] = v
            out[r, c] = v * gain[c] + bias[c]


def batch_norm_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    x, gain, bias, eps, out, xhat, rstd = n[0], n[1], n[2], n[3], n[4], n[5], n[6]
    mean, variance, B, I = n[7], n[8], n[9], n[10]
    x, out, xhat = matrix(like, x, B, I), matrix(like, out, B, I), matrix(like, xhat, B, I)
    gain, bias, rstd = vector(like, gain, I), vector(like, bias, I), vector(like, rstd, I)
    mean, variance = vector(like, mean, I), vector(like, variance, I)
    batch_norm(x, gain, bias, as_real(eps), out, xhat, rstd, mean, variance, *bounds(I, UNIT, chunk, chunks))


@kernel
def batch_norm_inference(
    x: Array, gain: Array, bias: Array, eps: float, out: Array, mean: Array, variance: Array
) -> None:
    """out = (x − mean)/√(variance + ε) ⊙ gain + bias"""
    T = out.dtype.type
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            out[r, c] = (x[r, c] - mean[c]) * (gain[c] / np.sqrt(variance[c] + T(eps))) + bias[c]


def batch_norm_inference_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    x, gain, bias, eps, out, mean, variance, B, I = n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]
    x, out = rows_chunk(like, x, B, I, chunk, chunks), rows_chunk(like, out, B, I, chunk, chunks)
    gain, bias = vector(like, gain, I), vector(like, bias, I)
    mean, variance = vector(like, mean, I), vector(like, variance, I)
    batch_norm_inference(x, gain, bias, as_real(eps), out, mean, variance)


@kernel
def sums_of_columns(da: Array, xhat: Array, dgain: Array, dbias: Array, first: int, last: int) -> None:
    """dgain = Σ_B da ⊙ x̂,  dbias = Σ_B da for the columns in [first, last)"""
    B, I = da.shape
    products, sums = np.zeros(I), np.zeros(I)
    for r in range(B):
        for c in range(first, last):
            products[c] += np.float64(da[r, c]) * np.float64(xhat[r, c])
            sums[c] += da[r, c]
    for c in range(first, last):
        dgain[c], dbias[c] = products[c], sums[c]


def sums_of_columns_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    da, xhat, dgain, dbias, B, I = n[0], n[1], n[2], n[3], n[4], n[5]
    da, xhat = matrix(like, da, B, I), matrix(like, xhat, B, I)
    dgain, dbias = vector(like, dgain, I), vector(like, dbias, I)
    sums_of_columns(da, xhat, dgain, dbias, *bounds(I, UNIT, chunk, chunks))


@kernel
def batch_norm_backward(
    da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any, start: int, stop: int
) -> None:
    """dx of the rows in [start, stop) from dgain = Σ_B da ⊙ x̂ and dbias = Σ_B da"""
    B, I = da.shape
    for r in range(start, stop):
        for c in range(I):
            dx[r, c] = (da[r, c] - dbias[c] / B - xhat[r, c] * (dgain[c] / B)) * gain[c] * rstd[c]


def batch_norm_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    da, gain, xhat, rstd, dgain, dbias, dx, B, I = n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]
    da, xhat, dx = matrix(like, da, B, I), matrix(like, xhat, B, I), matrix(like, dx, B, I)
    gain, rstd = vector(like, gain, I), vector(like, rstd, I)
    dgain, dbias = vector(like, dgain, I), vector(like, dbias, I)
    batch_norm_backward(da, gain, xhat, rstd, dgain, dbias, dx, *bounds(B, 1, chunk, chunks))
