"""Losses, value and gradient in one call. Methods of `Backend`.

Every loss is the weighted mean  L = Σᵢ wᵢ ℓᵢ / Σᵢ wᵢ  of one number per row, summed in float64. Without
weights every wᵢ is 1. If all weights are zero, L and its gradient are 0. For outputs of a 16-bit type the
targets, the weights and the value are float32.
"""

from typing import TYPE_CHECKING, Any

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import in_float32, underflow_is_zero, wide

if TYPE_CHECKING:
    from ffnn_gpu.backends.reference.backend import Backend


@underflow_is_zero
def normalized_weight(self: "Backend", weight: Array) -> Array:
    """Return w / Σ w in w's dtype, or zeros where Σ w = 0."""
    total = self.total(weight)
    return (weight / self.xp.where(total == 0, 1, total)).astype(weight.dtype)


def total(self: "Backend", weight: Array) -> Array:
    """Return Σ w in float64, 0-d."""
    return self.xp.sum(weight, dtype=wide(weight.dtype))


def total_class_weight(self: "Backend", y: Array, class_weight: Array, weight: Array | None) -> Array:
    """Return Σ_b w_b v_{y_b} in float64, 0-d."""
    return self.total(class_weight[y] if weight is None else weight * class_weight[y])


def one_hot(self: "Backend", y: Array, C: int, dtype: Any) -> Array:
    """Return (B, C) with q_bc = 1 if c = y_b, else 0."""
    return (self.xp.arange(C) == y[:, None]).astype(dtype)


@underflow_is_zero
@in_float32("dz", of="z")
def pointwise_loss(
    self: "Backend", kind: Any, z: Array, y: Array, weight: Array | None, dz: Array | None
) -> Array:
    """L = Σ_b w_b Σ_o ℓ(z_bo, y_bo) / (O Σ_b w_b)        dz = w_b ∂ℓ/∂z_bo / (O Σ_b w_b)

    Args:
        kind: ℓ as data: `kind.value(xp, z, y)` and `kind.derivative(xp, z, y)`, elementwise.
        z, y: (B, O). weight: (B,) or None. dz: (B, O), overwritten, or None.
    """
    xp, (B, O) = self.xp, z.shape
    scale = 1 / max(B * O, 1) if weight is None else self.normalized_weight(weight)[:, None] / O
    value = xp.sum(kind.value(xp, z, y) * scale, dtype=wide(z.dtype)).astype(z.dtype)
    if dz is not None:  # after the value, because dz may be in z's memory
        dz[...] = kind.derivative(xp, z, y) * scale
    return value


@underflow_is_zero
@in_float32("dp")
def cross_entropy(
    self: "Backend", p: Array, q: Array, weight: Array | None, dp: Array | None, smallest: float
) -> Array:
    """L = −Σ_b w_b Σ_c q_bc log p_bc / Σ w        dp = −w_b q_bc / (p_bc Σ w)

    p is raised to at least `smallest`, so that a probability of 0 has a finite value and a gradient other
    than 0.
    """
    xp, B = self.xp, len(p)
    scale = 1 / max(B, 1) if weight is None else self.normalized_weight(weight)[:, None]
    p = xp.where(p > smallest, p, smallest + 0 * p)
    if dp is not None:
        dp[...] = q / p * -scale
    return -xp.sum(q * xp.log(p) * scale, dtype=wide(p.dtype)).astype(p.dtype)


@underflow_is_zero
@in_float32("dz")
def softmax_cross_entropy(
    self: "Backend", z: Array, y: Array, weight: Array, class_weight: Array, label_smoothing: float, dz: Array
) -> Array:
    """L = −Σ_b w_b Σ_c r_bc log softmax(z_b)_c / N        dz = w_b (softmax(z_b)_c Σ_k r_bk − r_bc) / N

    r_bc = v_c ((1 − ε) q_bc + ε/C) with class weights v and smoothing ε; q is the target distribution.
    N = Σ_b w_b for soft targets and Σ_b w_b v_{y_b} for class indices. A row with v_{y_b} = 0 counts nothing,
    smoothed or not, so N = 0 means L = 0 and dz = 0.

    Args:
        z: (B, C) logits. y: (B,) integers or (B, C) of z's dtype.
        weight, class_weight, dz: (B,), (C,), (B, C), each or None.

    Reference: Bishop: Pattern Recognition and Machine Learning (2006), eq. 4.108-4.109; smoothing: Szegedy et
    al.: Rethinking the Inception Architecture (2016), section 7.
    """
    xp, (B, C) = self.xp, z.shape
    hard = y.ndim == 1
    q = self.one_hot(y, C, z.dtype) if hard else y
    r = (1 - label_smoothing) * q + label_smoothing / C
    w = xp.ones(B, z.dtype) if weight is None else weight
    norm = w
    if class_weight is not None:
        r = r * class_weight
        of_row = class_weight[y] if hard else 1
        norm, w = w * of_row, w * (of_row != 0)
    total = self.total(norm)
    scale = (w / xp.where(total == 0, 1, total)).astype(z.dtype)[:, None]
    logp = self.log_softmax(z, out=xp.empty_like(z))
    if dz is not None:
        dz[...] = (xp.exp(logp) * r.sum(axis=1, keepdims=True) - r) * scale
    return -xp.sum(r * logp * scale, dtype=wide(z.dtype)).astype(z.dtype)
