"""Softmax and log-softmax over each row, with their exact adjoints. Methods of `Backend`.

    S_i = e^{z_i} / Σ_k e^{z_k}        ∂S_i/∂z_k = S_i (δ_ik − S_k)

The maximum of each row is subtracted first, so no exponential exceeds 1.
Reference: Goodfellow, Bengio, Courville: Deep Learning (2016), section 4.1.
"""

from typing import TYPE_CHECKING

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import in_float32, underflow_is_zero

if TYPE_CHECKING:
    from ffnn_gpu.backends.reference.backend import Backend


@underflow_is_zero
@in_float32("out")
def softmax(self: "Backend", z: Array, out: Array) -> Array:
    """out = softmax(z), row by row; out may be z."""
    xp = self.xp
    xp.subtract(z, z.max(axis=1, keepdims=True), out=out)
    xp.exp(out, out=out)
    out /= out.sum(axis=1, keepdims=True)
    return out


@underflow_is_zero
@in_float32("da")
def softmax_backward(self: "Backend", da: Array, a: Array) -> Array:
    """da ← a ⊙ (da − Σ_k da_k a_k)"""
    da -= (da * a).sum(axis=1, keepdims=True)
    da *= a
    return da


@underflow_is_zero
@in_float32("out")
def log_softmax(self: "Backend", z: Array, out: Array) -> Array:
    """out = z − log Σ_k e^{z_k}, row by row; out may be z."""
    xp = self.xp
    xp.subtract(z, z.max(axis=1, keepdims=True), out=out)
    out -= xp.log(xp.exp(out).sum(axis=1, keepdims=True))
    return out


@underflow_is_zero
@in_float32("da")
def log_softmax_backward(self: "Backend", da: Array, a: Array) -> Array:
    """da ← da − e^a Σ_k da_k"""
    da -= self.xp.exp(a) * da.sum(axis=1, keepdims=True)
    return da


@underflow_is_zero
def softmax_jacobian(self: "Backend", z: Array) -> Array:
    """Return (B, C, C) with J_bik = S_bi (δ_ik − S_bk)."""
    xp = self.xp
    S = self.softmax(z, out=xp.empty_like(z))
    return S[:, :, None] * (xp.eye(z.shape[1], dtype=z.dtype) - S[:, None, :])
