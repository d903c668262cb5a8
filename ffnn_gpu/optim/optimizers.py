"""Optimizers: configuration. The arithmetic is in `backends/reference/updates.py`, the state in `Parameters`.

Penalties and decay apply to matrices only, θ[:n_decayed], unless a layer declares other factors: a rule runs
once for each group of parameters with equal factors. `step` may overwrite ∇θ. After an overflow with a
loss scale the update is skipped: θ, the moments and the counts do not change. (The average moves closer to
the same θ.)

Why the parameters store the state: an optimizer is then configuration, like a layer. One object can train
many networks, each with its own moments, and a new object starts with new moments.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import numpy as np

from ffnn_gpu.backends.reference.backend import Array, Backend
from ffnn_gpu.backends.reference.members import PerMember
from ffnn_gpu.backends.reference.updates import PRODUCT, RATE, Update
from ffnn_gpu.checks import is_number
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.parameters import Parameters
from ffnn_gpu.nn.rates import Group
from ffnn_gpu.nn.schedules import Schedule, get_schedule


class OptimizerState(SimpleNamespace):
    """Vectors of one optimizer for one network: `m`, `v`, …, the average `mean`, and the float64 `scalars`.

    `control` (2,) is used within a step only; a slot is not among the `vars` that a checkpoint saves.
    """

    __slots__ = ("control",)
    scalars: Array
    control: Array

    def __reduce__(self) -> tuple[Any, ...]:
        """Include `control`; SimpleNamespace would copy the `vars` only."""
        return type(self), (), (vars(self), {"control": self.control})


@dataclass(frozen=True, eq=False)
class Optimizer:
    """The base class of optimizers.

    Args:
        lr: learning rate η; a schedule multiplies it.
        l2, l1: λ₂ and λ₁; the gradient of λ₂/2 ‖W‖² + λ₁ ‖W‖₁ is added to ∇W, and no reported loss has it.
        weight_decay: decoupled, W ← W (1 − η λ).
        decay_schedule: a factor on weight_decay, between 0 and 1, that follows the training run: an object of
            ffnn_gpu.schedules or its name; None for 1.
        clip_norm, clip_value: bounds on ‖∇θ‖₂ and on each |∇θᵢ|, before the penalties.
        ema: decay of an exponential moving average of θ and the running statistics; None for no average. It
            begins at their values before the first step and is not corrected for that, unlike Adam's moments.

    The state belongs to this object and a network's parameters: another object with the same settings begins
    with moments 0.

    Attributes:
        moments: names of the vectors of θ's length in the state.
        elementwise: whether the rule may run over any slice of θ.
    """

    moments: ClassVar[tuple[str, ...]] = ()
    elementwise: ClassVar[bool] = True

    lr: float = 1e-3
    l2: float = field(default=0.0, kw_only=True)
    l1: float = field(default=0.0, kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)
    decay_schedule: Schedule | str | None = field(default=None, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)
    clip_value: float | None = field(default=None, kw_only=True)
    ema: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("lr", "l2", "l1", "weight_decay"):
            require(self, name, lambda value: 0 <= value < float("inf"), "finite and at least 0")
        if self.decay_schedule is not None:
            object.__setattr__(self, "decay_schedule", get_schedule(self.decay_schedule))
        for name in ("momentum", "beta1", "beta2", "rho"):
            if hasattr(self, name):
                require(self, name, lambda value: 0 <= value < 1, "at least 0 and below 1")
        if hasattr(self, "eps"):
            require(self, "eps", lambda value: value > 0, "positive")
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                require(self, name, lambda value: value > 0, "positive, or None")
        if self.ema is not None:
            require(self, "ema", lambda value: 0 <= value < 1, "at least 0 and below 1, or None")

    def step(self, params: Parameters, lr: Array | None = None) -> None:
        """Update θ once along ∇θ, and increment the count of updates.

        lr: float64 (1,) on the device, the learning rate from this step on; None for the one of `set_lr`.
        """
        backend, state, grad, scale = params.backend, self.state(params), params.grad, params.loss_scale
        control = None if self.clip_norm is None and scale is None else state.control
        if self.clip_value is not None:
            backend.clip_by_value(grad, self.clip_value, scale)
        if control is not None:
            backend.gradient_factor(grad, self.clip_norm, control, scale)
        backend.advance(state.scalars, params.step, control, lr)
        self.advance(backend, state.scalars, control)
        self.apply(params, state, control)
        if self.ema is not None:
            backend.average(state.mean, params.theta, self.ema)
            backend.average(state.mean_state, params.state, self.ema)

    def apply(self, params: Parameters, state: OptimizerState, control: Array) -> None:
        """Apply the rule to θ: to one group of parameters after the other."""
        for group in params.groups:
            self.update(params.operations, *self.piece(params, group, state, control))

    def piece(
        self, params: Parameters, group: Group, state: OptimizerState, control: Array
    ) -> tuple[Update, OptimizerState]:
        """Return the update of one group of θ, and the state with the group's part of the moments.

        In a pack, both hold Members, and PerMember for what depends on a member's factors.
        """
        start, stop = group.start, group.stop
        vectors = {"theta": params.theta, "grad": params.grad, "shadow": params.shadow}
        if params.members is not None or (start, stop) != (0, len(params.theta)):

            def pieces(of: dict[str, Array]) -> dict[str, Array]:
                return {name: v if v is None else params.piece(v, start, stop) for name, v in of.items()}

            moments = {name: getattr(state, name) for name in self.moments}
            vectors, state = pieces(vectors), OptimizerState(**vars(state) | pieces(moments))
        numbers, common = self._numbers(params, group), {"control": control, "decay": self._decay(params)}
        return Update(**vectors, scalars=state.scalars, **common, **numbers), state

    def _numbers(self, params: Parameters, group: Group) -> dict[str, Any]:
        """Return the Python numbers in the update of a group; in a pack PerMember of them."""
        if params.factors_of_members is None:
            return self._numbers_of(group)
        each = [self._numbers_of(group.of_member(*factors)) for factors in params.factors_of_members]
        return {name: PerMember(numbers[name] for numbers in each) for name in each[0]}

    def _numbers_of(self, group: Group) -> dict[str, Any]:
        penalties = {name: getattr(self, name) * group.decay for name in ("l2", "l1", "weight_decay")}
        return penalties | {"n_decayed": group.n_decayed, "lr_factor": group.lr}

    def _decay(self, params: Parameters) -> Array:
        """Return the factor on weight_decay on the device, or None for 1."""
        return None if self.decay_schedule is None else params.factor(cast(Schedule, self.decay_schedule))

    def advance(self, backend: Backend, scalars: Array, control: Array) -> None:
        """Update the numbers in `scalars` that this rule alone uses, once for all groups of a step."""

    def update(self, backend: Backend, update: Update, state: OptimizerState) -> None:
        """Apply the rule, by default `formula`: one operation on θ and ∇θ with the settings in `update`.

        With several groups of parameters, it is called for each, with the group's part of θ and the moments.
        """
        backend.own_rule(update, self.formula, *(getattr(state, name) for name in self.moments))

    def formula(self, xp: Any, theta: Array, g: Array, lr: Array, t: Array, *moments: Array) -> None:
        """Update θ and the moments in place by the clipped and penalized gradient g; t counts from 1.

        A custom optimizer defines this and `moments`, the names of its moments, which start at zero.
        """
        raise NotImplementedError(f"{type(self).__name__} must define formula or update")

    def state(self, params: Parameters) -> OptimizerState:
        """Return this optimizer's vectors for these parameters; they start as zeros."""
        state: OptimizerState | None = params.optimizer_states.get(self)
        if state is None:
            state = params.optimizer_states[self] = self._new_state(params)
        return state

    def set_lr(self, params: Parameters, lr: float) -> None:
        """Set the learning rate of steps without `lr`; in `fit`, a callback sets `run.lr_factor` instead."""
        params.backend.write(self.state(params).scalars, RATE, lr)

    def swap_average(self, params: Parameters) -> None:
        """Swap θ and the running statistics with their moving averages. ConfigurationError without `ema`."""
        if self.ema is None:
            raise ConfigurationError("this optimizer has no average; create it with ema=0.999")
        state = self.state(params)
        for vector, mean in ((params.theta, state.mean), (params.state, state.mean_state)):
            current = params.backend.duplicate(vector)
            params.backend.copy(mean, out=vector)
            params.backend.copy(current, out=mean)
        params.refresh()

    def load_average(self, params: Parameters) -> None:
        """θ and the running statistics ← their moving averages. Raises ConfigurationError without `ema`."""
        self.swap_average(params)
        state = self.state(params)
        params.backend.copy(params.theta, out=state.mean)
        params.backend.copy(params.state, out=state.mean_state)

    def _new_state(self, params: Parameters) -> OptimizerState:
        backend, length = params.backend, params.theta.shape
        lanes = enumerate(self.moments, start=2)
        state = OptimizerState(**{name: backend.zeros(length, params.dtype, lane) for lane, name in lanes})
        scalars = np.zeros(3)
        scalars[RATE], scalars[PRODUCT] = self.lr, 1
        state.scalars, state.control = backend.asarray(scalars), params.control()
        self._decay(params)  # a recorded step must not make it
        if self.ema is not None:
            state.mean, state.mean_state = backend.duplicate(params.theta), backend.duplicate(params.state)
        return state


def require(optimizer: Optimizer, name: str, holds: Callable[[Any], bool], what: str) -> None:
    """Raise ConfigurationError unless a setting is a number for which `holds` is true."""
    value = getattr(optimizer, name)
    if not is_number(value) or not holds(value):
        raise ConfigurationError(f"{name} must be {what}, not {value!r}")


@dataclass(frozen=True, eq=False)
class SGD(Optimizer):
    """v ← μ v + g        θ ← θ − η v, or with nesterov θ ← θ − η (g + μ v)"""

    lr: float = 1e-2
    momentum: float = 0.0
    nesterov: bool = False
    moments: ClassVar[tuple[str, ...]] = ("velocity",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov:
            require(self, "momentum", lambda value: value > 0, "positive with nesterov=True")

    def update(self, backend: Backend, update: Update, state: OptimizerState) -> None:
        velocity = state.velocity if self.momentum else None
        backend.sgd(update, velocity, self.momentum, self.nesterov)


@dataclass(frozen=True, eq=False)
class RMSprop(Optimizer):
    """v ← ρ v + (1 − ρ) g²        θ ← θ − η g/(√v + ε), optionally with momentum"""

    rho: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    moments: ClassVar[tuple[str, ...]] = ("v", "velocity")

    def update(self, backend: Backend, update: Update, state: OptimizerState) -> None:
        velocity = state.velocity if self.momentum else None
        backend.rmsprop(update, state.v, velocity, self.rho, self.eps, self.momentum)


@dataclass(frozen=True, eq=False)
class Adagrad(Optimizer):
    """v ← v + g²        θ ← θ − η g/(√v + ε)"""

    lr: float = 1e-2
    eps: float = 1e-10
    moments: ClassVar[tuple[str, ...]] = ("v",)

    def update(self, backend: Backend, update: Update, state: OptimizerState) -> None:
        backend.adagrad(update, state.v, self.eps)


@dataclass(frozen=True, eq=False)
class Adam(Optimizer):
    """m ← β₁m + (1−β₁)g    v ← β₂v + (1−β₂)g²    θ ← θ − η m̂/(√v̂ + ε)"""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    moments: ClassVar[tuple[str, ...]] = ("m", "v")

    def update(self, backend: Backend, update: Update, state: OptimizerState) -> None:
        backend.adam(update, state.m, state.v, self.beta1, self.beta2, self.eps)


@dataclass(frozen=True, eq=False)
class AdamW(Adam):
    """Adam after W ← W (1 − η λ)"""

    weight_decay: float = field(default=1e-2, kw_only=True)


@dataclass(frozen=True, eq=False)
class Nadam(Optimizer):
    """Adam with Nesterov's look-ahead; ψ is the speed of the momentum's warm-up."""

    lr: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    psi: float = 4e-3
    moments: ClassVar[tuple[str, ...]] = ("m", "v")

    def advance(self, backend: Backend, scalars: Array, control: Array) -> None:
        backend.advance_product(scalars, self.beta1, self.psi, control)

    def update(self, backend: Backend, update: Update, state: OptimizerState) -> None:
        backend.nadam(update, state.m, state.v, self.beta1, self.beta2, self.eps, self.psi)


@dataclass(frozen=True, eq=False)
class Lion(Optimizer):
    """θ ← θ − η sign(β₁ m + (1 − β₁) g)        m ← β₂ m + (1 − β₂) g"""

    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.99
    moments: ClassVar[tuple[str, ...]] = ("m",)

    def update(self, backend: Backend, update: Update, state: OptimizerState) -> None:
        backend.lion(update, state.m, self.beta1, self.beta2)
