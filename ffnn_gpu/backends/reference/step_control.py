"""Prepare an update: clip ∇θ, handle its loss scale, and decide whether to skip the update.

Methods of `Backend`.

Float64 vectors on the device:

- `control` [c, skip]: the factor on ∇θ, and whether the update is skipped.
- `loss_scale` [S, good]: the factor by which ∇θ is scaled up so that float16 can represent it, and the number
  of consecutive updates without an overflow.

Why on the device: a captured CUDA graph would freeze a Python number, and reading one back would wait for the
device.
"""

from typing import TYPE_CHECKING

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import underflow_is_zero, wide

if TYPE_CHECKING:
    from ffnn_gpu.backends.reference.backend import Backend

FACTOR, SKIP = 0, 1  # places in `control`
SCALE, GOOD = 0, 1  # places in `loss_scale`
GROWTH_INTERVAL, LARGEST_SCALE = 2000, 2.0**24


def clip_by_value(self: "Backend", grad: Array, limit: float, loss_scale: Array | None) -> None:
    """∇θ ← min(max(∇θ, −limit), limit); the limit is S limit where ∇θ carries a loss scale S.

    Under a loss scale ±∞ stays: it is an overflow, which `gradient_factor` must detect.
    """
    if loss_scale is None:
        self.xp.clip(grad, -limit, limit, out=grad)
        return
    bound = (limit * loss_scale[SCALE]).astype(grad.dtype)
    grad[...] = self.xp.where(self.xp.isfinite(grad), self.xp.clip(grad, -bound, bound), grad)


def squared_norm(self: "Backend", grad: Array) -> Array:
    """Return ‖∇θ‖₂² in float64, 0-d."""
    return self.xp.sum(self.xp.square(grad, dtype=wide(grad.dtype)))


@underflow_is_zero
def gradient_factor(
    self: "Backend", grad: Array, limit: float | None, control: Array, loss_scale: Array | None
) -> None:
    """control ← [c, skip] with c = min(1, limit/‖∇θ‖₂), or 1 without a limit.

    With loss_scale [S, good], ∇θ is S times the true gradient: the norm is ‖∇θ/S‖₂ and c has a factor 1/S.
    If ∇θ is not finite, control ← [0, 1] and S ← max(S/2, 1). After 2000 consecutive finite gradients
    S ← min(2 S, 2²⁴). An update can be skipped only if there is a loss scale.

    Reference: Pascanu, Mikolov, Bengio (2013), algorithm 1; Micikevicius et al.: Mixed Precision Training
    (2018), section 3.2, with the constants of PyTorch's GradScaler.
    """
    xp = self.xp
    norm = xp.sqrt(self.squared_norm(grad))
    S = 1 if loss_scale is None else loss_scale[SCALE]
    finite, norm = xp.isfinite(norm), norm / S
    long = norm > (float("inf") if limit is None else limit)
    control[FACTOR] = xp.where(long, (limit or 0) / xp.where(long, norm, 1), 1) / S
    control[SKIP] = 0
    if loss_scale is None:
        return
    good = xp.where(finite, loss_scale[GOOD] + 1, 0)
    grown = xp.where(good == GROWTH_INTERVAL, xp.minimum(2 * S, LARGEST_SCALE), S)
    loss_scale[SCALE] = xp.where(finite, grown, xp.maximum(S / 2, 1))
    loss_scale[GOOD] = xp.where(good == GROWTH_INTERVAL, 0, good)
    control[FACTOR] = xp.where(finite, control[FACTOR], 0)
    control[SKIP] = xp.where(finite, 0, 1)
