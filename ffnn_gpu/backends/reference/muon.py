"""Muon: a momentum whose singular values are brought near 1, for stacks of matrices. Methods of `Backend`.

Reference: Jordan et al.: Muon, an optimizer for hidden layers in neural networks (2024). `torch.optim.Muon`
computes the same, with products in bfloat16 on every device.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import underflow_is_zero, wide
from ffnn_gpu.backends.reference.updates import RATE, Update, rule

if TYPE_CHECKING:
    from ffnn_gpu.backends.reference.backend import Backend

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the quintic; chosen for the steepest slope at 0
ITERATIONS, SMALLEST_NORM = 5, 1e-7


@underflow_is_zero
def muon(
    self: "Backend", update: Update, m: Array, shape: tuple[int, int, int], momentum: float, nesterov: bool
) -> None:
    """M ← μ M + (1 − μ) G        U = M, or μ M + (1 − μ) G with Nesterov        W ← W − η √max(1, O/I) X

    X is `orthogonalized(U)`. θ holds the n matrices W (I, O) of shape (n, I, O) without gaps.
    """
    U, (_, I, O) = self.zeros(m.shape, m.dtype), shape
    self.muon_direction(update, m, U, momentum, nesterov)
    X = self.orthogonalized(U.reshape(shape)).reshape(m.shape)
    self.muon_step(without_penalties(update), X, math.sqrt(max(1.0, O / I)))


@rule
def muon_direction(
    self: "Backend", update: Update, m: Array, U: Array, momentum: float, nesterov: bool
) -> None:
    """M ← μ M + (1 − μ) G        U ← M, or μ M + (1 − μ) G with Nesterov"""
    g = update.grad
    m += (1 - momentum) * (g - m)
    U[...] = g + momentum * (m - g) if nesterov else m


@rule
def muon_step(self: "Backend", update: Update, X: Array, factor: float) -> None:
    """W ← W − η factor X"""
    theta = update.theta
    theta -= (update.scalars[RATE] * factor).astype(theta.dtype) * X


def without_penalties(update: Update) -> Update:
    """Return the update for `muon_step`: the penalties belong to `muon_direction`."""
    return update._replace(l2=0.0, l1=0.0, weight_decay=0.0, decay=None)


def orthogonalized(self: "Backend", G: Array) -> Array:
    """Return about U Vᵀ for each matrix U S Vᵀ of G (n, I, O): singular values from 0.7 to 1.2.

        X ← G/max(‖G‖_F, 10⁻⁷)        five times X ← a X + (b A + c A²) X, A = X Xᵀ

    Singular values below 10⁻³ of ‖G‖_F stay smaller. For I > O, A = XᵀX stands on the right.
    """
    return newton_schulz(self, G, G.dtype, partial(one_by_one, self))


def newton_schulz(self: "Backend", G: Array, products: Any, multiply: Callable[..., Any]) -> Array:
    """Compute `orthogonalized` with matrix products in the type `products`, sums in G's.

    multiply(A, B, out): out_i = A_i B_i.
    """
    xp, dtype, (n, I, O) = self.xp, G.dtype, G.shape
    a, b, c = COEFFICIENTS
    norm = xp.sqrt(xp.sum(xp.square(G, dtype=wide(dtype)), axis=(1, 2), keepdims=True))
    X, k = (G / xp.maximum(norm, SMALLEST_NORM)).astype(dtype), min(I, O)
    A, B, Y = (self.empty((n, *size), products) for size in ((k, k), (k, k), (I, O)))
    for _ in range(ITERATIONS):
        narrow = X.astype(products, copy=False)
        turned = narrow.transpose(0, 2, 1)
        multiply(*((narrow, turned) if I <= O else (turned, narrow)), A)
        multiply(A, A, B)
        B[...] = b * A.astype(dtype, copy=False) + c * B.astype(dtype, copy=False)
        multiply(*((B, narrow) if I <= O else (narrow, B)), Y)
        X = a * X + Y.astype(dtype, copy=False)
    return X


def one_by_one(self: "Backend", A: Array, B: Array, out: Array) -> None:
    """out_i = A_i B_i"""
    for i in range(len(out)):
        self.gemm(A[i], B[i], out=out[i])
