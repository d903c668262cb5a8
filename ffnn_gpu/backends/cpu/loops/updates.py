"""Update rules, one pass over θ, ∇θ and the moments. Each loop is followed by the command for a chunk."""

import math
from typing import Any

import numpy as np
from numba import njit

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.chunks import inlined, kernel, scalars, vector_chunk
from ffnn_gpu.backends.cpu.loops.intrinsics import as_real
from ffnn_gpu.backends.reference.updates import PRODUCT, RATE, STEP, nadam_momentum

momentum_of_nadam = njit(nadam_momentum)


@inlined
def own(like: Any, n: Any, place: int, chunk: int, chunks: int) -> Any:
    """Return one chunk of the vector whose address is n[place]; n[2] is the length of the whole vector."""
    return vector_chunk(like, n[place], n[2], chunk, chunks)


@kernel
def sgd(theta: Array, g: Array, lr: float) -> None:
    """θ ← θ − η g"""
    rate = theta.dtype.type(lr)
    for i in range(len(theta)):
        theta[i] -= rate * g[i]


def sgd_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    theta, g = own(like, n, 0, chunk, chunks), own(like, n, 1, chunk, chunks)
    sgd(theta, g, scalars(n[3])[RATE])


@kernel
def momentum(theta: Array, g: Array, velocity: Array, lr: float, mu: float, nesterov: bool) -> None:
    """v ← μ v + g        θ ← θ − η v, or θ − η (g + μ v)"""
    T = theta.dtype.type
    rate, mu = T(lr), T(mu)
    for i in range(len(theta)):
        v = mu * velocity[i] + g[i]
        velocity[i] = v
        theta[i] -= rate * (g[i] + mu * v if nesterov else v)


def momentum_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    theta, g = own(like, n, 0, chunk, chunks), own(like, n, 1, chunk, chunks)
    v = own(like, n, 4, chunk, chunks)
    momentum(theta, g, v, scalars(n[3])[RATE], as_real(n[5]), n[6] != 0)


@kernel
def rmsprop(theta: Array, g: Array, v: Array, lr: float, rho: float, eps: float) -> None:
    """v ← ρ v + (1 − ρ) g²        θ ← θ − η g/(√v + ε)"""
    T = theta.dtype.type
    rate, share, eps = T(lr), T(1 - rho), T(eps)
    for i in range(len(theta)):
        v[i] += share * (g[i] * g[i] - v[i])
        theta[i] -= rate * (g[i] / (np.sqrt(v[i]) + eps))


def rmsprop_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    theta, g = own(like, n, 0, chunk, chunks), own(like, n, 1, chunk, chunks)
    v = own(like, n, 4, chunk, chunks)
    rmsprop(theta, g, v, scalars(n[3])[RATE], as_real(n[5]), as_real(n[6]))


@kernel
def rmsprop_momentum(
    theta: Array, g: Array, v: Array, velocity: Array, lr: float, rho: float, eps: float, mu: float
) -> None:
    """v ← ρ v + (1 − ρ) g²        b ← μ b + g/(√v + ε)        θ ← θ − η b"""
    T = theta.dtype.type
    rate, share, eps, mu = T(lr), T(1 - rho), T(eps), T(mu)
    for i in range(len(theta)):
        v[i] += share * (g[i] * g[i] - v[i])
        velocity[i] = mu * velocity[i] + g[i] / (np.sqrt(v[i]) + eps)
        theta[i] -= rate * velocity[i]


def rmsprop_momentum_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    theta, g = own(like, n, 0, chunk, chunks), own(like, n, 1, chunk, chunks)
    v = own(like, n, 4, chunk, chunks)
    velocity = own(like, n, 7, chunk, chunks)
    rmsprop_momentum(theta, g, v, velocity, scalars(n[3])[RATE], as_real(n[5]), as_real(n[6]), as_real(n[8]))


@kernel
def adagrad(theta: Array, g: Array, v: Array, lr: float, eps: float) -> None:
    """v ← v + g²        θ ← θ − η g/(√v + ε)"""
    T = theta.dtype.type
    rate, eps = T(lr), T(eps)
    for i in range(len(theta)):
        v[i] += g[i] * g[i]
        theta[i] -= rate * (g[i] / (np.sqrt(v[i]) + eps))


def adagrad_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    theta, g = own(like, n, 0, chunk, chunks), own(like, n, 1, chunk, chunks)
    v = own(like, n, 4, chunk, chunks)
    adagrad(theta, g, v, scalars(n[3])[RATE], as_real(n[5]))


@kernel
def adam(
    theta: Array,
    g: Array,
    m: Array,
    v: Array,
    beta1: float,
    beta2: float,
    of_m: float,
    of_g: float,
    spread: float,
    eps: float,
) -> None:
    """m ← β₁m + (1−β₁)g    v ← β₂v + (1−β₂)g²    θ ← θ − (of_m m + of_g g)/(√v/spread + ε)

    Adam: of_m = η/(1 − β₁ᵗ), of_g = 0. Adam and Nadam: spread = √(1 − β₂ᵗ).
    """
    T = theta.dtype.type
    share1, share2, inverse = T(1 - beta1), T(1 - beta2), T(1 / spread)
    of_m, of_g, eps = T(of_m), T(of_g), T(eps)
    for i in range(len(theta)):
        m[i] += share1 * (g[i] - m[i])
        v[i] += share2 * (g[i] * g[i] - v[i])
        theta[i] -= (of_m * m[i] + of_g * g[i]) / (np.sqrt(v[i]) * inverse + eps)


def adam_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    theta, g = own(like, n, 0, chunk, chunks), own(like, n, 1, chunk, chunks)
    m, v = own(like, n, 4, chunk, chunks), own(like, n, 5, chunk, chunks)
    beta1, beta2, t, lr = as_real(n[6]), as_real(n[7]), scalars(n[3])[STEP], scalars(n[3])[RATE]
    adam(theta, g, m, v, beta1, beta2, lr / (1 - beta1**t), 0.0, math.sqrt(1 - beta2**t), as_real(n[8]))


def nadam_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    theta, g = own(like, n, 0, chunk, chunks), own(like, n, 1, chunk, chunks)
    m, v = own(like, n, 4, chunk, chunks), own(like, n, 5, chunk, chunks)
    beta1, beta2, psi = as_real(n[6]), as_real(n[7]), as_real(n[9])
    t, lr, whole = scalars(n[3])[STEP], scalars(n[3])[RATE], scalars(n[3])[PRODUCT]
    mu, ahead = momentum_of_nadam(t, beta1, psi), momentum_of_nadam(t + 1, beta1, psi)
    of_m, of_g = lr * ahead / (1 - whole * ahead), lr * (1 - mu) / (1 - whole)
    adam(theta, g, m, v, beta1, beta2, of_m, of_g, math.sqrt(1 - beta2**t), as_real(n[8]))


@kernel
def lion(theta: Array, g: Array, m: Array, lr: float, beta1: float, beta2: float) -> None:
    """θ ← θ − η sign(β₁ m + (1 − β₁) g)        m ← β₂ m + (1 − β₂) g"""
    T = theta.dtype.type
    rate, old, new, share = T(lr), T(beta1), T(1 - beta1), T(1 - beta2)
    for i in range(len(theta)):
        theta[i] -= rate * np.sign(old * m[i] + new * g[i])
        m[i] += share * (g[i] - m[i])


def lion_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    theta, g = own(like, n, 0, chunk, chunks), own(like, n, 1, chunk, chunks)
    m = own(like, n, 4, chunk, chunks)
    lion(theta, g, m, scalars(n[3])[RATE], as_real(n[5]), as_real(n[6]))


# ----------------------------------------------------------------------  moving averages


@kernel
def average(mean: Array, values: Array, decay: float) -> None:
    """mean ← decay mean + (1 − decay) values"""
    share = mean.dtype.type(1 - decay)
    for i in range(len(mean)):
        mean[i] += share * (values[i] - mean[i])


@kernel
def average_of_scaled(mean: Array, values: Array, decay: float, factor: float) -> None:
    """mean ← decay mean + (1 − decay) factor values"""
    T = mean.dtype.type
    share, factor = T(1 - decay), T(factor)
    for i in range(len(mean)):
        mean[i] += share * (factor * values[i] - mean[i])


def average_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """mean ← decay mean + (1 − decay) factor values"""
    decay, factor, size = as_real(n[2]), as_real(n[3]), n[4]
    mean = vector_chunk(like, n[0], size, chunk, chunks)
    values = vector_chunk(like, n[1], size, chunk, chunks)
    if factor == 1:
        average(mean, values, decay)
    else:
        average_of_scaled(mean, values, decay, factor)
