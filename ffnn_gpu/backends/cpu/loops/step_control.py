"""Prepare an update: step numbers, clipping, the norm of ∇θ, penalties and decay.

Most are commands only.
"""

import math
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.chunks import kernel, scalars, vector, vector_chunk
from ffnn_gpu.backends.cpu.loops.intrinsics import as_real
from ffnn_gpu.backends.cpu.loops.normalization import sum_of_products
from ffnn_gpu.backends.cpu.loops.updates import momentum_of_nadam
from ffnn_gpu.backends.reference.step_control import FACTOR, SKIP
from ffnn_gpu.backends.reference.updates import PRODUCT, RATE, STEP


def advance_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """t ← t + 1, the parameters' count of updates ← count + 1, and η ← lr if given"""
    of_step, count, lr = n[0], n[1], n[2]
    scalars(of_step)[STEP] += 1
    vector(np.int64, count, 1)[0] += 1
    if lr:
        scalars(of_step)[RATE] = vector(np.float64, lr, 1)[0]


def advance_product_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """Π ← Π μ_t"""
    of_step, beta1, psi = n[0], n[1], n[2]
    scalars(of_step)[PRODUCT] *= momentum_of_nadam(scalars(of_step)[STEP], as_real(beta1), as_real(psi))


# ----------------------------------------------------------------------  the gradient


def clip_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """g ← min(max(g, −limit), limit), and NaN stays NaN"""
    g = vector_chunk(like, n[0], n[1], chunk, chunks)
    limit = g.dtype.type(as_real(n[2]))
    for i in range(len(g)):
        g[i] = limit if g[i] > limit else -limit if g[i] < -limit else g[i]


def squares_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """sums[chunk] = Σ g² over this chunk"""
    g = vector_chunk(like, n[0], n[1], chunk, chunks)
    vector(np.float64, n[2], chunks)[chunk] = sum_of_products(g, g)


def factor_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """control ← [min(1, limit/‖∇θ‖), 0] from the sums of squares"""
    sums, parts, limit, control = n[0], n[1], n[2], n[3]
    norm = math.sqrt(vector(np.float64, sums, parts).sum())
    vector(np.float64, control, 2)[FACTOR] = as_real(limit) / norm if norm > as_real(limit) else 1.0
    vector(np.float64, control, 2)[SKIP] = 0


@kernel
def penalize(theta: Array, g: Array, factor: float, l2: float, l1: float, decay: float) -> None:
    """g ← factor g + λ₂ W + λ₁ sign W        W ← W (1 − decay)        for the matrices W"""
    T = theta.dtype.type
    f, p, q, keep = T(factor), T(l2), T(l1), T(1 - decay)
    for i in range(len(theta)):
        g[i] = f * g[i] + p * theta[i] + q * np.sign(theta[i])
        theta[i] *= keep


def penalize_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """g ← c g + λ₂ W + λ₁ sign W        W ← W (1 − η λ)"""
    theta, g, size, of_step, l2, l1, weight_decay, control = n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]
    c = vector(np.float64, control, 2)[FACTOR] if control else 1.0
    theta, g = vector_chunk(like, theta, size, chunk, chunks), vector_chunk(like, g, size, chunk, chunks)
    penalize(theta, g, c, as_real(l2), as_real(l1), as_real(weight_decay) * scalars(of_step)[RATE])


def scale_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """g ← c g"""
    g = vector_chunk(like, n[0], n[1], chunk, chunks)
    c = g.dtype.type(vector(np.float64, n[2], 2)[FACTOR])
    if c == 1:
        return
    for i in range(len(g)):
        g[i] *= c
