"""Numbers as functions of the step: η_t = η · schedule(t, total), and so the decay and the rate of dropout.

A schedule is a frozen dataclass. It is called with the number t of finished steps and the total number of
steps of the training run, and returns the factor of the optimizer's lr.

Why here and not in optim/: a layer may follow a schedule.

A duration is:
- an int: a number of steps, such as warmup=500;
- a float between 0 and 1: a part of the training run, such as warmup=0.05;
- "whole": the whole training run.

A float from 1 on raises, because it could mean steps or training runs. A NumPy number counts as the Python
number with the same digits.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from ffnn_gpu.checks import is_whole, look_up, without_rounding
from ffnn_gpu.errors import ConfigurationError

__all__ = [
    "CosLog", "Cosine", "Exponential", "FlatCosine", "InverseScaling", "LinearWarmup", "OneCycle",
    "Schedule", "StepDecay", "constant", "get_schedule",
]  # fmt: skip

Duration: TypeAlias = int | float | Literal["whole"]


def steps(duration: Duration, total: int) -> float:
    """Return the duration in steps."""
    if isinstance(duration, str):
        return total
    return without_rounding(duration * total) if isinstance(duration, float) else duration


@dataclass(frozen=True)
class Schedule:
    """(step, total) → factor of the learning rate. A custom one is a frozen dataclass with `__call__`."""

    def __call__(self, step: int, total: int) -> float:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(step, total)")


@dataclass(frozen=True)
class Constant(Schedule):
    """1 at every step. `schedules.constant` is Constant()."""

    def __call__(self, step: int, total: int) -> float:
        return 1.0


@dataclass(frozen=True)
class StepDecay(Schedule):
    """gamma^⌊t/every⌋"""

    every: Duration = 0.3
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _check_duration(self, "every")
        _positive("gamma", self.gamma)

    def __call__(self, step: int, total: int) -> float:
        return float(self.gamma ** math.floor(without_rounding(step / max(steps(self.every, total), 1))))


@dataclass(frozen=True)
class Exponential(Schedule):
    """gamma^(t/every)"""

    gamma: float = 0.01
    every: Duration = "whole"

    def __post_init__(self) -> None:
        _check_duration(self, "every")
        _positive("gamma", self.gamma)

    def __call__(self, step: int, total: int) -> float:
        return float(self.gamma ** (step / max(steps(self.every, total), 1)))


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """(t + 1)^−power, the schedule "invscaling" of scikit-learn"""

    power: float = 0.5

    def __call__(self, step: int, total: int) -> float:
        return float((step + 1) ** -self.power)


@dataclass(frozen=True)
class LinearWarmup(Schedule):
    """(t + 1)/warmup while t < warmup, then `then`, which starts at step `warmup`."""

    warmup: Duration = 0.05
    then: Schedule = Constant()

    def __post_init__(self) -> None:
        _check_duration(self, "warmup")

    def __call__(self, step: int, total: int) -> float:
        warm = math.ceil(steps(self.warmup, total))
        return (step + 1) / warm if step < warm else self.then(step - warm, max(total - warm, 1))


@dataclass(frozen=True)
class Cosine(Schedule):
    """floor + (1 − floor)(1 + cos π u)/2, where u goes from 0 to 1 in each of `cycles` equal cycles.

    During `warmup` steps before the first cycle the factor is (t + 1)/warmup.

    Reference: Loshchilov, Hutter: SGDR (2017), eq. 5.
    """

    floor: float = 0.0
    warmup: Duration = 0
    cycles: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1 or self.cycles < 1:
            raise ConfigurationError(f"Cosine needs 0 <= floor <= 1 and cycles >= 1, not {self}")
        if isinstance(self.warmup, str) or self.warmup != 0 or isinstance(self.warmup, bool):
            _check_duration(self, "warmup")

    def __call__(self, step: int, total: int) -> float:
        warm = math.ceil(steps(self.warmup, total))
        if step < warm:
            return (step + 1) / warm
        length = max(total - warm, 1)
        u = 1.0 if step >= total else (step - warm) * self.cycles % length / length
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * u)) / 2


@dataclass(frozen=True)
class OneCycle(Schedule):
    """From 1/start up to 1 during `rise`, then down to 1/(start · end), both along half a cosine.

    The optimizer's lr is the highest rate. A rise of one step or less starts at 1, where PyTorch's starts
    within the fall. A run of one step is at 1.

    Reference: Smith, Topin: Super-Convergence (2018), in PyTorch's form.
    """

    rise: Duration = 0.3
    start: float = 25.0
    end: float = 1e4

    def __post_init__(self) -> None:
        _check_duration(self, "rise")
        for name in ("start", "end"):
            _positive(name, getattr(self, name))

    def __call__(self, step: int, total: int) -> float:
        top = max(steps(self.rise, total) - 1, 0)
        if step <= top:
            return _half_cosine(1 / self.start, 1.0, step / top if top else 1.0)
        u = (step - top) / (total - 1 - top) if step < total - 1 else 1.0
        return _half_cosine(1.0, 1 / (self.start * self.end), u)


@dataclass(frozen=True)
class CosLog(Schedule):
    """½ (1 − cos(2π log₂(1 + (2ᶜ − 1) u)))        u = t/total, c = cycles

    Each cycle rises from 0 to 1 and falls to 0, and takes twice as long as the one before.

    Reference: Holzmüller, Grinsztajn, Steinwart: Better by Default (2024), section 3.
    """

    cycles: int = 4

    def __post_init__(self) -> None:
        if not is_whole(self.cycles) or self.cycles < 1:
            raise ConfigurationError(
                f"cycles of CosLog must be a whole number, at least 1, not {self.cycles!r}"
            )

    def __call__(self, step: int, total: int) -> float:
        u = min(step / max(total, 1), 1.0)
        return (1 - math.cos(2 * math.pi * math.log2(1 + (2**self.cycles - 1) * u))) / 2


@dataclass(frozen=True)
class FlatCosine(Schedule):
    """1 during `flat`, then ½ (1 + cos(π u)), where u goes from 0 to 1

    Reference: Holzmüller, Grinsztajn, Steinwart: Better by Default (2024), section 3.
    """

    flat: Duration = 0.5

    def __post_init__(self) -> None:
        _check_duration(self, "flat")

    def __call__(self, step: int, total: int) -> float:
        flat = min(steps(self.flat, total), total)
        if step < flat:
            return 1.0
        return _half_cosine(1.0, 0.0, min((step - flat) / (total - flat), 1.0) if flat < total else 1.0)


def _half_cosine(first: float, last: float, u: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * u)) / 2


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigurationError(f"{name} of a schedule must be positive and finite, not {value!r}")


def _check_duration(schedule: Schedule, name: str) -> None:
    """Convert a duration to a Python number. Raises ConfigurationError unless it is a duration."""
    value = getattr(schedule, name)
    if isinstance(value, np.floating):
        value = float(str(value))  # of np.float32(0.1) the digits 0.1, not 0.10000000149
    if is_whole(value) and value >= 1:
        object.__setattr__(schedule, name, int(value))
    elif isinstance(value, float) and 0 < value < 1:
        object.__setattr__(schedule, name, value)
    elif isinstance(value, float) and value == 1:
        wanted = f'write {name}=1 or {name}="whole"'
        raise ConfigurationError(f"{name}={value!r} could mean one step or the whole run; {wanted}")
    elif isinstance(value, float) and 1 < value < math.inf:
        raise ConfigurationError(
            f"{name}={value!r} could mean {value:g} steps or {value:g} training runs; write "
            f"{name}={round(value)} for steps, or a float below 1 for a part of the run"
        )
    elif not isinstance(value, str) or value != "whole":
        raise ConfigurationError(
            f"{name} of a schedule must be positive: a number of steps such as 500, "
            f'a part of the training run such as 0.1, or "whole", not {value!r}'
        )


constant = Constant()

SCHEDULES: dict[str, Schedule] = {
    "constant": constant, "step": StepDecay(), "exponential": Exponential(),
    "inverse_scaling": InverseScaling(), "linear_warmup": LinearWarmup(), "cosine": Cosine(warmup=0.05),
    "one_cycle": OneCycle(), "coslog4": CosLog(4), "flat_cos": FlatCosine(0.5),
}  # fmt: skip


def get_schedule(name: str | Schedule) -> Schedule:
    """Return the schedule with this name and its standard constants; a Schedule unchanged."""
    if isinstance(name, Schedule):
        return name
    if name == "reduce_on_plateau":
        raise ConfigurationError("reduce_on_plateau is a callback: pass ffnn_gpu.callbacks.ReduceOnPlateau()")
    return look_up("schedule", name, SCHEDULES, "schedules.Cosine()")
