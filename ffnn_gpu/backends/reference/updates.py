"""The optimizers' arithmetic: each rule is one operation on the flat vectors θ and ∇θ.

What a step begins with stands in step_control.py: the rules only read its `scalars` and `control`. So every rule is
elementwise: the zero padding of θ and ∇θ stays zero under it, and it may run over pieces of the vectors.

Why an Update is a tuple: a CPU makes one for every 65,536 elements, in 0.3 µs instead of a frozen dataclass's 2.9.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from ffnn_gpu.arrays.precision import underflow_is_zero
from ffnn_gpu.backends.reference.step_control import (
    FACTOR,
    PRODUCT,
    RATE,
    SKIP,
    STEP,
    StepControl,
    nadam_momentum,
)


class Update(NamedTuple):
    """What all rules share: θ ← rule(θ, g) with the gradient g and the decayed θ as follows, W = θ[:n_decayed].

        g = c ∇θ, and for W  g + λ₂ W + λ₁ sign W        W ← W (1 − η λ)        shadow ← θ after the rule

    λ is weight_decay; it bypasses the moments.

    Args:
        theta, grad: (P,); ∇θ may be overwritten.
        scalars: float64 [t, η, Π].
        n_decayed: how many elements of θ, the first ones, belong to matrices; θ may be a piece that ends before.
        control: float64 [c, skip]; where skip ≠ 0, no vector changes. None for [1, 0].
        shadow: (P,) in a 16-bit type, receives the new θ; None where there is no such copy.

    Reference: Loshchilov, Hutter, Decoupled Weight Decay (2019), algorithm 2.
    """

    theta: Any
    grad: Any
    scalars: Any
    n_decayed: int = 0
    l2: float = 0.0
    l1: float = 0.0
    weight_decay: float = 0.0
    control: Any = None
    shadow: Any = None

    def piece(self, start: int, stop: int) -> "Update":
        """The same update of θ[start : stop] alone."""
        theta, grad, scalars, n_decayed, l2, l1, weight_decay, control, shadow = self
        return Update(
            theta[start:stop],
            grad[start:stop],
            scalars,
            max(n_decayed - start, 0),
            l2,
            l1,
            weight_decay,
            control,
            None if shadow is None else shadow[start:stop],
        )


def rule(formula: Callable[..., None]) -> Callable[..., None]:
    """The formula of a rule, which sees g as update.grad, amid what an Update asks of every rule."""

    @functools.wraps(formula)
    @underflow_is_zero
    def run(self: Any, update: Update, *args: Any, **named: Any) -> None:
        kept = []
        if update.control is not None:
            vectors = [
                v
                for v in (update.theta, *args, *named.values())
                if getattr(v, "shape", None) == update.theta.shape
            ]
            kept = [(vector, self.duplicate(vector)) for vector in vectors]
        prepared = self._prepared(update)
        if update.weight_decay:
            W = update.theta[: update.n_decayed]
            W *= (1 - update.weight_decay * update.scalars[RATE]).astype(W.dtype)
        formula(self, prepared, *args, **named)
        for vector, old in kept:
            vector[...] = self.xp.where(update.control[SKIP] != 0, old, vector)
        if update.shadow is not None:
            update.shadow[...] = update.theta

    return run


class Updates(StepControl):
    duplicate: Callable[[Any], Any]

    def _prepared(self, update: Update) -> Update:
        """The same with g for ∇θ: c ∇θ, and the gradient of λ₂/2 ‖W‖₂² + λ₁ ‖W‖₁ for the matrices W."""
        if update.control is not None:
            update = self._harmless(update)
        if update.l2 or update.l1:
            W, of_W = update.theta[: update.n_decayed], update.grad[: update.n_decayed]
            if update.l2:
                of_W += update.l2 * W
            if update.l1:
                of_W += update.l1 * self.xp.sign(W)
        return update

    def _harmless(self, update: Update) -> Update:
        """With c ∇θ; where skipped, with numbers at which no rule stumbles: g = 0 for ∞, t = 1 for 0, Π = 0 for 1."""
        xp, skipped, scalars = self.xp, update.control[SKIP] != 0, self.duplicate(update.scalars)
        scalars[STEP] = xp.where(skipped, 1, scalars[STEP])
        scalars[PRODUCT] = xp.where(skipped, 0, scalars[PRODUCT])
        g = update.control[FACTOR].astype(update.grad.dtype) * xp.where(skipped, 0, update.grad)
        return update._replace(grad=g, scalars=scalars)

    @underflow_is_zero
    def average(self, mean: Any, values: Any, decay: float) -> None:
        """mean ← decay mean + (1 − decay) values"""
        mean += (1 - decay) * (values - mean)

    @rule
    def own_rule(self, update: Update, formula: Callable[..., None], *moments: Any) -> None:
        """formula(xp, θ, g, η, t, *moments), which changes θ and the moments in place; η and t are 0-d, of θ's type."""
        rate, t = (update.scalars[place].astype(update.theta.dtype) for place in (RATE, STEP))
        formula(self.xp, update.theta, update.grad, rate, t, *moments)

    @rule
    def sgd(self, update: Update, velocity: Any | None, momentum: float, nesterov: bool) -> None:
        """v ← μ v + g        θ ← θ − η v, or θ − η (g + μ v) after Nesterov.

        Reference: Sutskever, Martens, Dahl, Hinton (2013), in the form with the learning rate outside v.
        """
        theta, g = update.theta, update.grad
        lr = update.scalars[RATE].astype(theta.dtype)
        if velocity is None:
            theta -= lr * g
            return
        velocity *= momentum
        velocity += g
        theta -= lr * (g + momentum * velocity if nesterov else velocity)

    @rule
    def rmsprop(
        self, update: Update, v: Any, velocity: Any | None, rho: float, eps: float, momentum: float
    ) -> None:
        """v ← ρ v + (1 − ρ) g²        u = g/(√v + ε)        θ ← θ − η u, or by momentum b ← μ b + u, θ ← θ − η b.

        Reference: Tieleman, Hinton, Lecture 6.5 (2012).
        """
        theta, g = update.theta, update.grad
        lr = update.scalars[RATE].astype(theta.dtype)
        v += (1 - rho) * (g * g - v)
        u = g / (self.xp.sqrt(v) + eps)
        if velocity is not None:
            velocity *= momentum
            velocity += u
            u = velocity
        theta -= lr * u

    @rule
    def adagrad(self, update: Update, v: Any, eps: float) -> None:
        """v ← v + g²        θ ← θ − η g/(√v + ε). Reference: Duchi, Hazan, Singer (2011), section 1.1."""
        theta, g = update.theta, update.grad
        v += g * g
        theta -= update.scalars[RATE].astype(theta.dtype) * (g / (self.xp.sqrt(v) + eps))

    @rule
    def adam(self, update: Update, m: Any, v: Any, beta1: float, beta2: float, eps: float) -> None:
        """m ← β₁m + (1−β₁)g    v ← β₂v + (1−β₂)g²    θ ← θ − η m̂/(√v̂ + ε)    m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)

        Reference: Kingma, Ba, Adam (2015), algorithm 1.
        """
        theta, g, t, lr = update.theta, update.grad, update.scalars[STEP], update.scalars[RATE]
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        rate = (lr / (1 - beta1**t)).astype(theta.dtype)
        spread = self.xp.sqrt(1 - beta2**t).astype(theta.dtype)
        theta -= rate * m / (self.xp.sqrt(v) / spread + eps)

    @rule
    def nadam(
        self, update: Update, m: Any, v: Any, beta1: float, beta2: float, eps: float, psi: float
    ) -> None:
        """Adam looking ahead: θ ← θ − η (μ_{t+1} m/(1 − Π_{t+1}) + (1 − μ_t) g/(1 − Π_t)) / (√v̂ + ε)

        μ_t = β₁ (1 − ½ 0.96^{tψ}), Π_t = Π_{i≤t} μ_i, which `advance_product` keeps.
        Reference: Dozat, Incorporating Nesterov Momentum into Adam (2016), algorithm 2.
        """
        theta, g, t, lr = update.theta, update.grad, update.scalars[STEP], update.scalars[RATE]
        product, mu = update.scalars[PRODUCT], nadam_momentum(t, beta1, psi)
        ahead = nadam_momentum(t + 1, beta1, psi)
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        of_m = (lr * ahead / (1 - product * ahead)).astype(theta.dtype)
        of_g = (lr * (1 - mu) / (1 - product)).astype(theta.dtype)
        spread = self.xp.sqrt(1 - beta2**t).astype(theta.dtype)
        theta -= (of_m * m + of_g * g) / (self.xp.sqrt(v) / spread + eps)

    @rule
    def lion(self, update: Update, m: Any, beta1: float, beta2: float) -> None:
        """θ ← θ − η sign(β₁ m + (1 − β₁) g)        m ← β₂ m + (1 − β₂) g

        Reference: Chen et al., Symbolic Discovery of Optimization Algorithms (2023), algorithm 2.
        """
        theta, g = update.theta, update.grad
        lr = update.scalars[RATE].astype(theta.dtype)
        theta -= lr * self.xp.sign(beta1 * m + (1 - beta1) * g)
        m += (1 - beta2) * (g - m)
