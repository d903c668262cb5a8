"""Optimizers: each update rule is one operation on the flat vectors θ and ∇θ. Methods of `Backend`.

`scalars` is a float64 vector on the device, [t, η, Π]: the number of the current step, the learning rate, and
Nadam's product. `advance` and `advance_product` set it at the start of a step. The rules only read it, and
`control` of step_control.py. So every rule is elementwise: the zero padding of θ and ∇θ stays zero, and a
rule may run over slices of the vectors.

Why on the device: a captured CUDA graph would freeze a Python number.
Why an Update is a tuple: a CPU makes one for every 65,536 elements, in 0.3 µs; a frozen dataclass takes 2.9
µs.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import underflow_is_zero
from ffnn_gpu.backends.reference.step_control import FACTOR, SKIP

if TYPE_CHECKING:
    from ffnn_gpu.backends.reference.backend import Backend

STEP, RATE, PRODUCT = 0, 1, 2  # places in `scalars`


def advance(self: "Backend", scalars: Array, step: Array, control: Array, lr: Array = None) -> None:
    """t ← t + 1, and `step` (1,), the parameters' own update count, ← step + 1, unless skipped.

    η ← lr (1,) if given. control may be None.
    """
    one = 1 if control is None else control[SKIP] == 0
    scalars[STEP] += one
    step += one
    if lr is not None:
        scalars[RATE] = lr[0]


def nadam_momentum(t: Any, beta1: float, psi: float) -> Any:
    """μ_t = β₁ (1 − ½ 0.96^{tψ})"""
    return beta1 * (1 - 0.5 * 0.96 ** (t * psi))


@underflow_is_zero
def advance_product(self: "Backend", scalars: Array, beta1: float, psi: float, control: Array) -> None:
    """Π ← Π μ_t with Nadam's μ_t = β₁ (1 − ½ 0.96^{tψ}), unless skipped; Π starts at 1."""
    mu = nadam_momentum(scalars[STEP], beta1, psi)
    scalars[PRODUCT] *= mu if control is None else self.xp.where(control[SKIP] != 0, 1, mu)


class Update(NamedTuple):
    """The arguments common to all rules: θ ← rule(θ, g), with W = θ[:n_decayed] and

        g = c ∇θ, and for W  g + λ₂ W + λ₁ sign W        W ← W (1 − η λ)        shadow ← θ after the rule

    λ is weight_decay times decay; it bypasses the moments. η is the rate in `scalars` times lr_factor.

    Args:
        theta, grad: (P,); ∇θ may be overwritten.
        scalars: float64 [t, η, Π].
        n_decayed: the number of leading elements of θ that belong to matrices; a slice of θ may end before
            them.
        control: float64 [c, skip]; if skip ≠ 0, no vector changes. None for [1, 0].
        shadow: (P,) in a 16-bit type, receives the new θ; None if there is no 16-bit copy.
        lr_factor: of these parameters.
        decay: float64 (1,) on the device, what `weight_decay` is multiplied by; None for 1.

    Reference: Loshchilov, Hutter: Decoupled Weight Decay (2019), algorithm 2.
    """

    theta: Array
    grad: Array
    scalars: Array
    n_decayed: int = 0
    l2: float = 0.0
    l1: float = 0.0
    weight_decay: float = 0.0
    control: Array = None
    shadow: Array = None
    lr_factor: float = 1.0
    decay: Array = None

    def piece(self, start: int, stop: int) -> "Update":
        """Return the same update of θ[start : stop] alone."""
        theta, grad, scalars, n, l2, l1, weight_decay, control, shadow, lr_factor, decay = self
        theta, grad, n = theta[start:stop], grad[start:stop], max(n - start, 0)
        shadow = None if shadow is None else shadow[start:stop]
        return Update(theta, grad, scalars, n, l2, l1, weight_decay, control, shadow, lr_factor, decay)


def rule(formula: Callable[..., None]) -> Callable[..., None]:
    """Decorator: apply `control`, decay and `shadow` around a rule's formula, which gets g as update.grad."""

    @functools.wraps(formula)
    @underflow_is_zero
    def run(self: "Backend", update: Update, *args: Any, **named: Any) -> None:
        theta, control, before = update.theta, update.control, []
        if control is not None:
            vectors = [v for v in (theta, *args, *named.values()) if getattr(v, "shape", None) == theta.shape]
            before = [(vector, self.duplicate(vector)) for vector in vectors]
        update = at_own_rate(self, update)
        prepared = _with_gradient(self, update)
        if update.weight_decay:
            W = theta[: update.n_decayed]
            decay = update.weight_decay if update.decay is None else update.weight_decay * update.decay[0]
            W *= (1 - decay * update.scalars[RATE]).astype(W.dtype)
        formula(self, prepared, *args, **named)
        for vector, old in before:
            vector[...] = self.xp.where(control[SKIP] != 0, old, vector)
        if update.shadow is not None:
            update.shadow[...] = theta

    return run


def at_own_rate(self: "Backend", update: Update) -> Update:
    """Return the update with η times lr_factor in a copy of `scalars`."""
    if update.lr_factor == 1:
        return update
    scalars = self.duplicate(update.scalars)
    scalars[RATE] *= update.lr_factor
    return update._replace(scalars=scalars, lr_factor=1.0)


def _with_gradient(self: "Backend", update: Update) -> Update:
    """Return the update with g in place of ∇θ: c ∇θ plus the gradient of λ₂/2 ‖W‖₂² + λ₁ ‖W‖₁."""
    if update.control is not None:
        update = _finite(self, update)
    if update.l2 or update.l1:
        W, of_W = update.theta[: update.n_decayed], update.grad[: update.n_decayed]
        if update.l2:
            of_W += update.l2 * W
        if update.l1:
            of_W += update.l1 * self.xp.sign(W)
    return update


def _finite(self: "Backend", update: Update) -> Update:
    """Return the update with c ∇θ. If skipped, g = 0, t = 1 and Π = 0, so that the formulas stay finite."""
    xp, skipped, scalars = self.xp, update.control[SKIP] != 0, self.duplicate(update.scalars)
    scalars[STEP] = xp.where(skipped, 1, scalars[STEP])
    scalars[PRODUCT] = xp.where(skipped, 0, scalars[PRODUCT])
    g = update.control[FACTOR].astype(update.grad.dtype) * xp.where(skipped, 0, update.grad)
    return update._replace(grad=g, scalars=scalars)


@underflow_is_zero
def average(self: "Backend", mean: Array, values: Array, decay: float) -> None:
    """mean ← decay mean + (1 − decay) values"""
    mean += (1 - decay) * (values - mean)


@rule
def own_rule(self: "Backend", update: Update, formula: Callable[..., None], *moments: Any) -> None:
    """Call formula(xp, θ, g, η, t, *moments), which changes θ and the moments in place.

    η and t are 0-d arrays of θ's dtype.
    """
    rate, t = (update.scalars[place].astype(update.theta.dtype) for place in (RATE, STEP))
    formula(self.xp, update.theta, update.grad, rate, t, *moments)


@rule
def sgd(self: "Backend", update: Update, velocity: Array | None, momentum: float, nesterov: bool) -> None:
    """v ← μ v + g        θ ← θ − η v, or θ − η (g + μ v) with Nesterov's momentum.

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
    self: "Backend", update: Update, v: Array, velocity: Array, rho: float, eps: float, momentum: float
) -> None:
    """v ← ρ v + (1 − ρ) g²        u = g/(√v + ε)        θ ← θ − η u

    With momentum b ← μ b + u and θ ← θ − η b; velocity is b, or None without momentum.

    Reference: Tieleman, Hinton: Lecture 6.5 (2012).
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
def adagrad(self: "Backend", update: Update, v: Array, eps: float) -> None:
    """v ← v + g²        θ ← θ − η g/(√v + ε). Reference: Duchi, Hazan, Singer (2011), section 1.1."""
    theta, g = update.theta, update.grad
    v += g * g
    theta -= update.scalars[RATE].astype(theta.dtype) * (g / (self.xp.sqrt(v) + eps))


@rule
def adam(self: "Backend", update: Update, m: Array, v: Array, beta1: float, beta2: float, eps: float) -> None:
    """m ← β₁m + (1−β₁)g    v ← β₂v + (1−β₂)g²    θ ← θ − η m̂/(√v̂ + ε)    m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)

    Reference: Kingma, Ba: Adam (2015), algorithm 1.
    """
    theta, g, t, lr = update.theta, update.grad, update.scalars[STEP], update.scalars[RATE]
    m += (1 - beta1) * (g - m)
    v += (1 - beta2) * (g * g - v)
    rate = (lr / (1 - beta1**t)).astype(theta.dtype)
    spread = self.xp.sqrt(1 - beta2**t).astype(theta.dtype)
    theta -= rate * m / (self.xp.sqrt(v) / spread + eps)


@rule
def nadam(
    self: "Backend", update: Update, m: Array, v: Array, beta1: float, beta2: float, eps: float, psi: float
) -> None:
    """Adam looking ahead: θ ← θ − η (μ_{t+1} m/(1 − Π_{t+1}) + (1 − μ_t) g/(1 − Π_t)) / (√v̂ + ε)

    μ_t = β₁ (1 − ½ 0.96^{tψ}), Π_t = Π_{i≤t} μ_i, computed by `advance_product`.
    Reference: Dozat: Incorporating Nesterov Momentum into Adam (2016), algorithm 2.
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
def lion(self: "Backend", update: Update, m: Array, beta1: float, beta2: float) -> None:
    """θ ← θ − η sign(β₁ m + (1 − β₁) g)        m ← β₂ m + (1 − β₂) g

    Reference: Chen et al.: Symbolic Discovery of Optimization Algorithms (2023), algorithm 2.
    """
    theta, g = update.theta, update.grad
    lr = update.scalars[RATE].astype(theta.dtype)
    theta -= lr * self.xp.sign(beta1 * m + (1 - beta1) * g)
    m += (1 - beta2) * (g - m)
