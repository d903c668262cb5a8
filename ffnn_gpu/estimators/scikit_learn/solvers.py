"""The update rules of scikit-learn's solvers, and the optimizer that an estimator's parameters describe.

Why rules of their own: scikit-learn adds ε outside the correction of the bias, and its velocity contains the
learning rate. With ε = 1e-8 the first differs from `Adam` by up to 30 times in weights of constant inputs,
and the second differs from `SGD` whenever the learning rate changes.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from ffnn_gpu.backends import Array
from ffnn_gpu.nn import schedules
from ffnn_gpu.nn.schedules import Schedule, get_schedule
from ffnn_gpu.optim.choice import get_optimizer
from ffnn_gpu.optim.optimizers import Optimizer

RATES = ("constant", "invscaling", "adaptive")  # scikit-learn's; they change after an epoch


@dataclass(frozen=True, eq=False)
class EpsilonHatAdam(Optimizer):
    """m ← β₁m + (1−β₁)g    v ← β₂v + (1−β₂)g²    θ ← θ − η √(1−β₂ᵗ)/(1−β₁ᵗ) m/(√v + ε̂)

    Reference: Kingma, Ba: Adam (2015), the last lines of section 2.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    moments: ClassVar[tuple[str, ...]] = ("m", "v")

    def formula(self, xp: Any, theta: Array, g: Array, lr: Array, t: Array, *moments: Array) -> None:
        m, v = moments
        m += (1 - self.beta1) * (g - m)
        v += (1 - self.beta2) * (g * g - v)
        rate = lr * xp.sqrt(1 - self.beta2**t) / (1 - self.beta1**t)
        theta -= rate * m / (xp.sqrt(v) + self.eps)


@dataclass(frozen=True, eq=False)
class VelocitySGD(Optimizer):
    """v ← μ v − η g        θ ← θ + v, or with nesterov θ ← θ + μ v − η g

    Reference: Sutskever, Martens, Dahl, Hinton (2013), eq. 1-2; 0 ≤ μ ≤ 1.
    """

    mu: float = 0.9
    nesterov: bool = True
    moments: ClassVar[tuple[str, ...]] = ("velocity",)

    def formula(self, xp: Any, theta: Array, g: Array, lr: Array, t: Array, *moments: Array) -> None:
        (velocity,) = moments
        velocity *= self.mu
        velocity -= lr * g
        theta += self.mu * velocity - lr * g if self.nesterov else velocity


def optimizer_of(estimator: Any) -> Optimizer:
    """Return the optimizer that `solver` and the parameters of that solver describe."""
    solver, lr = estimator.solver, float(estimator.learning_rate_init)
    if isinstance(solver, Optimizer):
        return solver
    if solver == "adam":
        settings = estimator.beta_1, estimator.beta_2, estimator.epsilon
        return EpsilonHatAdam(lr, *map(float, settings))
    if solver == "sgd":
        return VelocitySGD(lr, float(estimator.momentum), bool(estimator.nesterovs_momentum))
    given = {"beta1": estimator.beta_1, "beta2": estimator.beta_2, "eps": estimator.epsilon}
    plain = get_optimizer(solver)
    known = {entry.name for entry in fields(plain)} & given.keys()
    changed = {name: given[name] for name in known if given[name] != DEFAULTS[name]}
    return replace(plain, lr=lr, **changed)


DEFAULTS = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}  # scikit-learn's; an optimizer's own are kept


def schedule_of(estimator: Any) -> Schedule:
    """Return the factor per step. scikit-learn's own rates change after an epoch instead."""
    rate = estimator.learning_rate
    return schedules.constant if rate in RATES else get_schedule(rate)
