"""Muon: a momentum whose singular values are brought near 1, for stacks of matrices. Methods of `Backend`.

Reference: Jordan et al.: Muon, an optimizer for hidden layers in neural networks (2024). `torch.optim.Muon`
computes the same, with products in bfloat16 on every device.
"""

import math
from typing import TYPE_CHECKING

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
    (a, b, c), wide_rows = COEFFICIENTS, G.shape[1] <= G.shape[2]
    X = normalized(self, G)
    for _ in range(ITERATIONS):
        turned = X.transpose(0, 2, 1)
        A = _products(self, *((X, turned) if wide_rows else (turned, X)))
        B = b * A + c * _products(self, A, A)
        X = a * X + _products(self, *((B, X) if wide_rows else (X, B)))
    return X


def normalized(self: "Backend", G: Array) -> Array:
    """Return G/max(‖G‖_F, 10⁻⁷) for each matrix."""
    norm = self.xp.sqrt(self.xp.sum(self.xp.square(G, dtype=wide(G.dtype)), axis=(1, 2), keepdims=True))
    return (G / self.xp.maximum(norm, SMALLEST_NORM)).astype(G.dtype)


def _products(self: "Backend", A: Array, B: Array) -> Array:
    """Return A_i B_i for each i."""
    return one_by_one(self, A, B, self.empty((len(A), A.shape[1], B.shape[2]), A.dtype))


def one_by_one(self: "Backend", A: Array, B: Array, out: Array) -> Array:
    """out_i = A_i B_i"""
    for i in range(len(out)):
        self.gemm(A[i], B[i], out=out[i])
    return out
