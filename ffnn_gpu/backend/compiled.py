"""Loops compiled for the CPU at hand by Numba, which the extra `fast` installs; NumpyBackend works without.

A kernel does in one pass over memory, or in few, what NumPy needs one for each operation for. They are serial and release
the GIL: Numba's own threads and those of the BLAS fight over the cores (30 times slower), and two threads of Python's took
longer than one for 670,000 parameters, as the BLAS's idle one spins. A kernel trusts the shapes it is given.

Under NumPy's error model a division by zero gives ∞, as in the formulas here; under Python's it would raise, and the check
alone keeps the compiler from using vector instructions (Adam of 670,000 parameters: 1560 µs against 240).

The first call of each compiles it, half a second, and keeps the result on disk.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, uint32, uint64

from ffnn_gpu.backend.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

kernel: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(cache=True, nogil=True, error_model="numpy")

# ---------------------------------------------------------------------- activations


@kernel
def bias_relu(s: Any, b: Any) -> None:
    """s ← max(s + b, 0), and NaN stays NaN."""
    zero = s.dtype.type(0)
    for r in range(s.shape[0]):
        for c in range(s.shape[1]):
            t = s[r, c] + b[c]
            s[r, c] = zero if t <= 0 else t


@kernel
def add_bias(s: Any, b: Any) -> None:
    """s ← s + b; NumPy takes a buffer for it."""
    for r in range(s.shape[0]):
        for c in range(s.shape[1]): s[r, c] += b[c]


@kernel
def relu_backward(da: Any, a: Any) -> None:
    """da ← da where a > 0, else 0 da"""
    one, zero = da.dtype.type(1), da.dtype.type(0)
    for r in range(da.shape[0]):
        for c in range(da.shape[1]):
            da[r, c] *= one if a[r, c] > 0 else zero


@kernel
def tanh_backward(da: Any, a: Any) -> None:
    """da ← da (1 − a)(1 + a)"""
    one = da.dtype.type(1)
    for r in range(da.shape[0]):
        for c in range(da.shape[1]):
            da[r, c] *= (one - a[r, c]) * (one + a[r, c])


@kernel
def sigmoid_backward(da: Any, a: Any) -> None:
    """da ← da a (1 − a)"""
    one = da.dtype.type(1)
    for r in range(da.shape[0]):
        for c in range(da.shape[1]):
            da[r, c] *= a[r, c] * (one - a[r, c])


@kernel
def column_sum(A: Any, out: Any) -> None:
    """out = Σ_rows A, summed in float64"""
    sums = np.zeros(A.shape[1])
    for r in range(A.shape[0]):
        for c in range(A.shape[1]): sums[c] += A[r, c]
    for c in range(A.shape[1]): out[c] = sums[c]


ADJOINTS = {"relu": relu_backward, "tanh": tanh_backward, "sigmoid": sigmoid_backward}

# ---------------------------------------------------------------------- losses


@kernel
def softmax_cross_entropy(z: Any, y: Any, scale: Any, uniform: float, dz: Any) -> float:
    """Σ_b w_b (log Σ_c e^{z_bc} − z_{b y_b}) in float64        dz = w_b (softmax(z_b) − q_b)

    scale: (B,) the w_b; of length 0 if all are `uniform`.
    """
    T, total = z.dtype.type, 0.0
    B, C = z.shape
    if len(y) != B: raise ValueError("one class index for each row of z")
    for r in range(B):
        if not 0 <= y[r] < C: raise IndexError("a class index out of range")  # here it would overwrite other memory
        w = uniform if len(scale) == 0 else np.float64(scale[r])
        largest = z[r, 0]
        for c in range(1, C):
            if z[r, c] > largest: largest = z[r, c]
        norm = 0.0
        for c in range(C):
            e = np.exp(z[r, c] - largest)
            dz[r, c] = e
            norm += e
        total += w * (math.log(norm) - np.float64(z[r, y[r]] - largest))
        factor = T(w / norm)
        for c in range(C):
            dz[r, c] *= factor
        dz[r, y[r]] -= T(w)
    return total


# ---------------------------------------------------------------------- normalization: statistics in float64


@kernel
def sum_of(a: Any) -> float:
    """Σ a in float64, sixteen sums at a time so that they need not wait for each other."""
    sums = np.zeros(16)
    whole = len(a) // 16 * 16
    for i in range(0, whole, 16):
        for j in range(16): sums[j] += a[i + j]
    total = sums.sum()
    for i in range(whole, len(a)): total += a[i]
    return total


@kernel
def sum_of_products(a: Any, b: Any) -> float:
    """Σ a b in float64, likewise."""
    sums = np.zeros(16)
    whole = len(a) // 16 * 16
    for i in range(0, whole, 16):
        for j in range(16): sums[j] += np.float64(a[i + j]) * np.float64(b[i + j])
    total = sums.sum()
    for i in range(whole, len(a)): total += np.float64(a[i]) * np.float64(b[i])
    return total


@kernel
def layer_norm(x: Any, gain: Any, bias: Any, eps: float, out: Any, xhat: Any, rstd: Any) -> None:
    """xhat = (x − μ) rstd,  out = xhat ⊙ gain + bias over each row; xhat may be out, rstd of length 0."""
    T = out.dtype.type
    for r in range(x.shape[0]):
        mean, variance = sum_of(x[r]) / x.shape[1], 0.0
        for c in range(x.shape[1]): variance += (x[r, c] - mean) ** 2
        factor = 1 / math.sqrt(variance / x.shape[1] + eps)
        for c in range(x.shape[1]):
            v = T((x[r, c] - mean) * factor)
            xhat[r, c] = v
            out[r, c] = v * gain[c] + bias[c]
        if len(rstd): rstd[r] = factor


@kernel
def layer_norm_backward(da: Any, gain: Any, xhat: Any, rstd: Any, dx: Any) -> None:
    """dx = (dx̂ − mean dx̂ − x̂ mean(dx̂ ⊙ x̂)) rstd over each row, with dx̂ = da ⊙ gain left in da"""
    T, I = dx.dtype.type, da.shape[1]
    for r in range(da.shape[0]):
        for c in range(I): da[r, c] *= gain[c]
        mean, slope = T(sum_of(da[r]) / I), T(sum_of_products(da[r], xhat[r]) / I)
        for c in range(I): dx[r, c] = (da[r, c] - mean - xhat[r, c] * slope) * rstd[r]


@kernel
def batch_norm(
    x: Any, gain: Any, bias: Any, eps: float, out: Any, xhat: Any, rstd: Any, mean: Any, variance: Any
) -> None:
    """The same over each column, whose mean and biased variance are kept."""
    T, (B, I) = out.dtype.type, x.shape
    mu, sigma2 = np.zeros(I), np.zeros(I)
    for r in range(B):
        for c in range(I): mu[c] += x[r, c]
    for c in range(I): mu[c] /= B
    for r in range(B):
        for c in range(I): sigma2[c] += (x[r, c] - mu[c]) ** 2
    for c in range(I):
        sigma2[c] /= B
        mean[c], variance[c] = mu[c], sigma2[c]
        sigma2[c] = 1 / math.sqrt(sigma2[c] + eps)
        rstd[c] = sigma2[c]
    for r in range(B):
        for c in range(I):
            v = T((x[r, c] - mu[c]) * sigma2[c])
            xhat[r, c] = v
            out[r, c] = v * gain[c] + bias[c]


@kernel
def sums_of_columns(da: Any, xhat: Any, dgain: Any, dbias: Any) -> None:
    """dgain = Σ_B da ⊙ x̂,  dbias = Σ_B da"""
    B, I = da.shape
    products, sums = np.zeros(I), np.zeros(I)
    for r in range(B):
        for c in range(I):
            products[c] += np.float64(da[r, c]) * np.float64(xhat[r, c])
            sums[c] += da[r, c]
    for c in range(I): dgain[c], dbias[c] = products[c], sums[c]


@kernel
def batch_norm_backward(da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any) -> None:
    """As layer_norm_backward over each column, where the sums are those of dgain and dbias times the gain."""
    B, I = da.shape
    for r in range(B):
        for c in range(I):
            dx[r, c] = (da[r, c] - dbias[c] / B - xhat[r, c] * (dgain[c] / B)) * gain[c] * rstd[c]


# ---------------------------------------------------------------------- update rules


@kernel
def penalize(theta: Any, g: Any, factor: float, l2: float, l1: float, decay: float) -> None:
    """g ← factor g + λ₂ W + λ₁ sign W        W ← W (1 − decay)        for the matrices W"""
    T = theta.dtype.type
    f, p, q, keep = T(factor), T(l2), T(l1), T(1 - decay)
    for i in range(len(theta)):
        g[i] = f * g[i] + p * theta[i] + q * np.sign(theta[i])
        theta[i] *= keep


@kernel
def sgd(theta: Any, g: Any, lr: float) -> None:
    """θ ← θ − η g"""
    rate = theta.dtype.type(lr)
    for i in range(len(theta)): theta[i] -= rate * g[i]


@kernel
def momentum(theta: Any, g: Any, velocity: Any, lr: float, mu: float, nesterov: bool) -> None:
    """v ← μ v + g        θ ← θ − η v, or θ − η (g + μ v)"""
    T = theta.dtype.type
    rate, mu = T(lr), T(mu)
    for i in range(len(theta)):
        v = mu * velocity[i] + g[i]
        velocity[i] = v
        theta[i] -= rate * (g[i] + mu * v if nesterov else v)


@kernel
def rmsprop(theta: Any, g: Any, v: Any, lr: float, rho: float, eps: float) -> None:
    """v ← ρ v + (1 − ρ) g²        θ ← θ − η g/(√v + ε)"""
    T = theta.dtype.type
    rate, share, eps = T(lr), T(1 - rho), T(eps)
    for i in range(len(theta)):
        v[i] += share * (g[i] * g[i] - v[i])
        theta[i] -= rate * (g[i] / (np.sqrt(v[i]) + eps))


@kernel
def rmsprop_momentum(theta: Any, g: Any, v: Any, velocity: Any, lr: float, rho: float, eps: float, mu: float) -> None:
    """v ← ρ v + (1 − ρ) g²        b ← μ b + g/(√v + ε)        θ ← θ − η b"""
    T = theta.dtype.type
    rate, share, eps, mu = T(lr), T(1 - rho), T(eps), T(mu)
    for i in range(len(theta)):
        v[i] += share * (g[i] * g[i] - v[i])
        velocity[i] = mu * velocity[i] + g[i] / (np.sqrt(v[i]) + eps)
        theta[i] -= rate * velocity[i]


@kernel
def adagrad(theta: Any, g: Any, v: Any, lr: float, eps: float) -> None:
    """v ← v + g²        θ ← θ − η g/(√v + ε)"""
    T = theta.dtype.type
    rate, eps = T(lr), T(eps)
    for i in range(len(theta)):
        v[i] += g[i] * g[i]
        theta[i] -= rate * (g[i] / (np.sqrt(v[i]) + eps))


@kernel
def adam(
    theta: Any, g: Any, m: Any, v: Any, beta1: float, beta2: float, of_m: float, of_g: float, spread: float, eps: float
) -> None:
    """m ← β₁m + (1−β₁)g    v ← β₂v + (1−β₂)g²    θ ← θ − (of_m m + of_g g)/(√v/spread + ε)

    Adam has of_m = η/(1 − β₁ᵗ) and of_g = 0; both have spread = √(1 − β₂ᵗ).
    """
    T = theta.dtype.type
    share1, share2, of_m, of_g, inverse, eps = T(1 - beta1), T(1 - beta2), T(of_m), T(of_g), T(1 / spread), T(eps)
    for i in range(len(theta)):
        m[i] += share1 * (g[i] - m[i])
        v[i] += share2 * (g[i] * g[i] - v[i])
        theta[i] -= (of_m * m[i] + of_g * g[i]) / (np.sqrt(v[i]) * inverse + eps)


@kernel
def lion(theta: Any, g: Any, m: Any, lr: float, beta1: float, beta2: float) -> None:
    """θ ← θ − η sign(β₁ m + (1 − β₁) g)        m ← β₂ m + (1 − β₂) g"""
    T = theta.dtype.type
    rate, old, new, share = T(lr), T(beta1), T(1 - beta1), T(1 - beta2)
    for i in range(len(theta)):
        theta[i] -= rate * np.sign(old * m[i] + new * g[i])
        m[i] += share * (g[i] - m[i])


@kernel
def average(mean: Any, values: Any, decay: float) -> None:
    """mean ← decay mean + (1 − decay) values"""
    share = mean.dtype.type(1 - decay)
    for i in range(len(mean)): mean[i] += share * (values[i] - mean[i])


# ---------------------------------------------------------------------- dropout


@kernel
def dropout_mask(
    out: np.ndarray, keep: float, threshold: int, key: tuple[int, int], step: int, layer: int, row: int
) -> None:
    """out (B, O) = keep where word c mod 4 of Philox at (⌊c/4⌋, row + r, step, layer) ≥ threshold, else 0."""
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
