"""What stands before the rules of updates.py in a step: its number, its learning rate, and what becomes of ∇θ.

`scalars` is a float64 vector on the device, [t, η, Π]: the number of the step under way, the learning rate, and Nadam's
product. `control`, [c, skip], is what `gradient_factor` found: the factor on ∇θ, and whether the update must not happen.
`loss_scale`, [S, good], is the factor that ∇θ carries so that float16 can hold it, and for how many updates in a row it did.
Why on the device: a captured CUDA graph would freeze a Python number, and reading one back would wait for the device.
"""

from typing import Any

from ffnn_gpu.arrays.precision import underflow_is_zero, wide

STEP, RATE, PRODUCT = 0, 1, 2  # places in `scalars`
FACTOR, SKIP = 0, 1  # places in `control`
SCALE, GOOD = 0, 1  # places in `loss_scale`
GROWTH_INTERVAL, LARGEST_SCALE = 2000, 2.0**24


def nadam_momentum(t: Any, beta1: float, psi: float) -> Any:
    """μ_t = β₁ (1 − ½ 0.96^{tψ})"""
    return beta1 * (1 - 0.5 * 0.96 ** (t * psi))


class StepControl:
    xp: Any

    def advance(self, scalars: Any, step: Any, control: Any | None, lr: Any | None = None) -> None:
        """t ← t + 1, and so the parameters' own count of updates `step` (1,), unless skipped. η ← lr (1,) if given."""
        one = 1 if control is None else control[SKIP] == 0
        scalars[STEP] += one
        step += one
        if lr is not None:
            scalars[RATE] = lr[0]

    @underflow_is_zero
    def advance_product(self, scalars: Any, beta1: float, psi: float, control: Any | None) -> None:
        """Π ← Π μ_t with Nadam's μ_t = β₁ (1 − ½ 0.96^{tψ}), unless skipped; Π starts at 1."""
        mu = nadam_momentum(scalars[STEP], beta1, psi)
        scalars[PRODUCT] *= mu if control is None else self.xp.where(control[SKIP] != 0, 1, mu)

    def clip_by_value(self, grad: Any, limit: float, loss_scale: Any | None) -> None:
        """∇θ ← min(max(∇θ, −limit), limit), and limit is S limit where ∇θ carries a loss scale S.

        Under a loss scale ±∞ stays: it is an overflow, which `gradient_factor` must see.
        """
        if loss_scale is None:
            self.xp.clip(grad, -limit, limit, out=grad)
            return
        bound = (limit * loss_scale[SCALE]).astype(grad.dtype)
        grad[...] = self.xp.where(self.xp.isfinite(grad), self.xp.clip(grad, -bound, bound), grad)

    def squared_norm(self, grad: Any) -> Any:
        """‖∇θ‖₂² in float64, 0-d."""
        return self.xp.sum(self.xp.square(grad, dtype=wide(grad.dtype)))

    @underflow_is_zero
    def gradient_factor(self, grad: Any, limit: float | None, control: Any, loss_scale: Any | None) -> None:
        """control ← [c, skip] with c = min(1, limit/‖∇θ‖₂), 1 without a limit.

        With loss_scale, float64 [S, good updates in a row], ∇θ is S times the true gradient: the norm is that of ∇θ/S and c
        has a factor 1/S. If ∇θ is not finite, control ← [0, 1] and S ← max(S/2, 1); after 2000 good ones in a row
        S ← min(2 S, 2²⁴). An update can be skipped only where there is a loss scale.

        Reference: Pascanu, Mikolov, Bengio (2013), algorithm 1; Micikevicius et al., Mixed Precision Training (2018),
        section 3.2, with the constants of PyTorch's GradScaler.
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
