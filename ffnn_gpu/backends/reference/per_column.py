"""Operations with one parameter per column of x (B, I), and their adjoints. Methods of `Backend`."""

from typing import TYPE_CHECKING, Any

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import in_float32, underflow_is_zero

if TYPE_CHECKING:
    from ffnn_gpu.backends.reference.backend import Backend


@in_float32("out")
def scale_columns(self: "Backend", x: Array, gain: Array, out: Array) -> Array:
    """out = x ⊙ gain        gain (I,)"""
    return self.xp.multiply(x, gain, out=out)


@in_float32("da", "dgain", "dx")
def scale_columns_backward(
    self: "Backend", da: Array, x: Array, gain: Array, dgain: Array, dx: Array | None
) -> Array | None:
    """dgain = Σ_B da ⊙ x        dx = da ⊙ gain, or None"""
    self.column_sum(da * x, out=dgain)
    return None if dx is None else self.xp.multiply(da, gain, out=dx)


@underflow_is_zero
@in_float32("out")
def parametric(self: "Backend", x: Array, alpha: Array, phi: Any, out: Array) -> Array:
    """out = x + α ⊙ (φ(x) − x)        alpha (I,)"""
    out[...] = x + alpha * (phi.value(self.xp, x) - x)
    return out


@underflow_is_zero
@in_float32("da", "dalpha", "dx")
def parametric_backward(
    self: "Backend", da: Array, x: Array, alpha: Array, phi: Any, dalpha: Array, dx: Array | None
) -> Array | None:
    """dα = Σ_B da ⊙ (φ(x) − x)        dx = da ⊙ (1 + α ⊙ (φ′(x) − 1)), or None"""
    a = phi.value(self.xp, x)
    self.column_sum(da * (a - x), out=dalpha)
    if dx is not None:
        dx[...] = da * (1 + alpha * (phi.derivative(self.xp, x if phi.needs_input else a) - 1))
    return dx
