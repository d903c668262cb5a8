"""The optimizers' arithmetic: each rule is one operation on the flat vectors θ and ∇θ.

`scalars` is a float64 vector on the device, [t, η, Π]: the number of the step under way, the learning rate, and Nadam's
product. Why on the device: a captured CUDA graph would freeze a Python number. `advance` begins a step; the rules only read.
So every rule is elementwise: the zero padding of θ and ∇θ stays zero under it, and it may run over pieces of the vectors.
"""

from typing import Any

from ffnn_gpu.backend.precision import underflow_is_zero, wide

STEP, RATE, PRODUCT = 0, 1, 2  # places in `scalars`


def nadam_momentum(t: Any, beta1: float, psi: float) -> Any:
    """μ_t = β₁ (1 − ½ 0.96^{tψ})"""
    return beta1 * (1 - 0.5 * 0.96 ** (t * psi))


class Updates:
    xp: Any

    def advance(self, scalars: Any, step: Any) -> None:
        """t ← t + 1, and so the parameters' own count of updates `step` (1,)."""
        scalars[STEP] += 1
        step += 1

    @underflow_is_zero
    def advance_product(self, scalars: Any, beta1: float, psi: float) -> None:
        """Π ← Π μ_t with Nadam's μ_t = β₁ (1 − ½ 0.96^{tψ}); Π starts at 1."""
        scalars[PRODUCT] *= nadam_momentum(scalars[STEP], beta1, psi)

    def clip_by_value(self, grad: Any, limit: float) -> None:
        """g ← min(max(g, −limit), limit)"""
        self.xp.clip(grad, -limit, limit, out=grad)

    @underflow_is_zero
    def clip_by_norm(self, grad: Any, limit: float) -> None:
        """g ← g min(1, limit/‖g‖₂). Reference: Pascanu, Mikolov, Bengio (2013), algorithm 1."""
        xp = self.xp
        norm = xp.sqrt(xp.sum(xp.square(grad, dtype=wide(grad.dtype))))
        grad *= xp.where(norm > limit, limit / xp.where(norm > limit, norm, 1), 1).astype(grad.dtype)

    @underflow_is_zero
    def penalize(self, theta: Any, grad: Any, l2: float, l1: float) -> None:
        """g ← g + λ₂ θ + λ₁ sign θ, the gradient of λ₂/2 ‖θ‖₂² + λ₁ ‖θ‖₁."""
        if l2: grad += l2 * theta
        if l1: grad += l1 * self.xp.sign(theta)

    @underflow_is_zero
    def decay(self, theta: Any, scalars: Any, rate: float) -> None:
        """θ ← θ (1 − η λ). Reference: Loshchilov, Hutter, Decoupled Weight Decay (2019), algorithm 2."""
        theta *= (1 - rate * scalars[RATE]).astype(theta.dtype)

    @underflow_is_zero
    def average(self, mean: Any, values: Any, decay: float) -> None:
        """mean ← decay mean + (1 − decay) values"""
        mean += (1 - decay) * (values - mean)

    @underflow_is_zero
    def sgd(self, theta: Any, grad: Any, velocity: Any | None, scalars: Any, momentum: float, nesterov: bool) -> None:
        """v ← μ v + g        θ ← θ − η v, or θ − η (g + μ v) after Nesterov.

        Reference: Sutskever, Martens, Dahl, Hinton (2013), in the form with the learning rate outside v.
        """
        lr = scalars[RATE].astype(theta.dtype)
        if velocity is None:
            theta -= lr * grad
            return
        velocity *= momentum
        velocity += grad
        theta -= lr * (grad + momentum * velocity if nesterov else velocity)

    @underflow_is_zero
    def rmsprop(
        self, theta: Any, grad: Any, v: Any, velocity: Any | None, scalars: Any, rho: float, eps: float, momentum: float
    ) -> None:
        """v ← ρ v + (1 − ρ) g²        u = g/(√v + ε)        θ ← θ − η u, or by momentum b ← μ b + u, θ ← θ − η b.

        Reference: Tieleman, Hinton, Lecture 6.5 (2012).
        """
        lr = scalars[RATE].astype(theta.dtype)
        v += (1 - rho) * (grad * grad - v)
        u = grad / (self.xp.sqrt(v) + eps)
        if velocity is not None:
            velocity *= momentum
            velocity += u
            u = velocity
        theta -= lr * u

    @underflow_is_zero
    def adagrad(self, theta: Any, grad: Any, v: Any, scalars: Any, eps: float) -> None:
        """v ← v + g²        θ ← θ − η g/(√v + ε). Reference: Duchi, Hazan, Singer (2011), section 1.1."""
        v += grad * grad
        theta -= scalars[RATE].astype(theta.dtype) * (grad / (self.xp.sqrt(v) + eps))

    @underflow_is_zero
    def adam(
        self, theta: Any, grad: Any, m: Any, v: Any, scalars: Any, beta1: float, beta2: float, eps: float
    ) -> None:
        """m ← β₁m + (1−β₁)g    v ← β₂v + (1−β₂)g²    θ ← θ − η m̂/(√v̂ + ε)    m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)

        Reference: Kingma, Ba, Adam (2015), algorithm 1.
        """
        t, lr = scalars[STEP], scalars[RATE]
        m += (1 - beta1) * (grad - m)
        v += (1 - beta2) * (grad * grad - v)
        rate = (lr / (1 - beta1**t)).astype(theta.dtype)
        spread = self.xp.sqrt(1 - beta2**t).astype(theta.dtype)
        theta -= rate * m / (self.xp.sqrt(v) / spread + eps)

    @underflow_is_zero
    def nadam(
        self, theta: Any, grad: Any, m: Any, v: Any, scalars: Any, beta1: float, beta2: float, eps: float, psi: float
    ) -> None:
        """Adam looking ahead: θ ← θ − η (μ_{t+1} m/(1 − Π_{t+1}) + (1 − μ_t) g/(1 − Π_t)) / (√v̂ + ε)

        μ_t = β₁ (1 − ½ 0.96^{tψ}), Π_t = Π_{i≤t} μ_i, which `advance_product` keeps.
        Reference: Dozat, Incorporating Nesterov Momentum into Adam (2016), algorithm 2.
        """
        t, lr = scalars[STEP], scalars[RATE]
        product, mu = scalars[PRODUCT], nadam_momentum(t, beta1, psi)
        ahead = nadam_momentum(t + 1, beta1, psi)
        m += (1 - beta1) * (grad - m)
        v += (1 - beta2) * (grad * grad - v)
        of_m = (lr * ahead / (1 - product * ahead)).astype(theta.dtype)
        of_g = (lr * (1 - mu) / (1 - product)).astype(theta.dtype)
        spread = self.xp.sqrt(1 - beta2**t).astype(theta.dtype)
        theta -= (of_m * m + of_g * grad) / (self.xp.sqrt(v) / spread + eps)

    @underflow_is_zero
    def lion(self, theta: Any, grad: Any, m: Any, scalars: Any, beta1: float, beta2: float) -> None:
        """θ ← θ − η sign(β₁ m + (1 − β₁) g)        m ← β₂ m + (1 − β₂) g

        Reference: Chen et al., Symbolic Discovery of Optimization Algorithms (2023), algorithm 2.
        """
        lr = scalars[RATE].astype(theta.dtype)
        theta -= lr * self.xp.sign(beta1 * m + (1 - beta1) * grad)
        m += (1 - beta2) * (grad - m)
