"""Operations with one parameter per column of x (B, I), and their adjoints. Methods of `Backend`."""

from typing import TYPE_CHECKING

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import in_float32

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
