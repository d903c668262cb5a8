"""Which settings a search varies, and within which bounds.

Depth, width and halving together are the setting `hidden`. Every range is widened to hold the settings that
the search begins with.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ffnn_gpu.checks import nearest
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.tuning.optuna_package import optuna

LEAST_WIDTH = 8  # of a layer after halving
OF_HIDDEN = ("depth", "width", "halving")  # parameters that are one setting


@dataclass(frozen=True)
class Numbers:
    """Numbers from `low` to `high`, both included; a step makes them whole numbers."""

    low: float
    high: float
    log: bool = False
    step: int | None = None


@dataclass(frozen=True)
class Multiples:
    """Numbers from `low` to `high` times the one that the search begins with, on a logarithmic scale."""

    low: float
    high: float


@dataclass(frozen=True)
class Choices:
    """One of these values."""

    values: tuple[Any, ...]


Range = Numbers | Multiples | Choices


@dataclass(frozen=True)
class Space:
    """The range of each parameter; None for one that is not searched.

    depth, width, halving: the number of hidden layers, the width of the first, and whether each next one has
        half of it. They are searched together or not at all.

    Reference: bounds near those of TabM (arXiv 2410.24210) and RealMLP (arXiv 2407.04491).
    """

    depth: Numbers | None = Numbers(1, 4, step=1)
    width: Numbers | None = Numbers(64, 512, step=64)
    halving: Choices | None = Choices((False, True))
    activation: Choices | None = Choices(("relu", "gelu", "selu", "mish"))
    normalization: Choices | None = Choices(("none", "layer", "batch"))
    dropout: Numbers | None = Numbers(0.0, 0.6)
    lr: Range | None = Multiples(1 / 30, 10)
    weight_decay: Range | None = Multiples(1 / 300, 3)
    batch_size: Choices | None = Choices((32, 64, 128, 256, 512))

    def __post_init__(self) -> None:
        if len({getattr(self, name) is None for name in OF_HIDDEN}) > 1:
            raise ConfigurationError(
                "depth, width and halving are searched together; give all of them or none"
            )

    def settings(self) -> tuple[str, ...]:
        """Return the names of the settings that have a range."""
        used = [each.name for each in fields(self) if getattr(self, each.name) is not None]
        return tuple(dict.fromkeys("hidden" if name in OF_HIDDEN else name for name in used))


def searched(space: Space, wanted: Iterable[str] | None, given: Iterable[str]) -> tuple[str, ...]:
    """Return the settings to search: the wanted ones, or those of the space that are not given.

    Raises ConfigurationError if a wanted one has no range, or if there is none.
    """
    known = space.settings()
    if wanted is None:
        found = tuple(name for name in known if name not in {*given})
        if not found:
            raise ConfigurationError(
                f"every setting that can be searched is given: {', '.join(known)}; a given setting is kept, "
                "unless search names it"
            )
        return found
    for name in (wanted := [*wanted]):
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near!r}? " if near else ""
            raise ConfigurationError(f"search: {name!r} has no range; {hint}there are {', '.join(known)}")
    if not wanted:
        raise ConfigurationError(f"search names no setting; choose from {', '.join(known)}")
    return tuple(name for name in known if name in wanted)


def parameters_of(start: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the parameters of the settings that a search begins with. Raises ConfigurationError.

    start: a value for each name.
    """
    found: dict[str, Any] = {}
    for name in names:
        found |= _shape(start[name]) if name == "hidden" else {name: start[name]}
    return found


def settings_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that these parameters stand for."""
    found = {name: value for name, value in parameters.items() if name not in OF_HIDDEN}
    if "depth" in parameters:
        depth, width, halving = (parameters[name] for name in OF_HIDDEN)
        widths = (max(min(LEAST_WIDTH, width), width >> k) if halving else width for k in range(depth))
        found = {"hidden": tuple(widths), **found}
    return found


def distributions_of(space: Space, begin: Mapping[str, Any]) -> dict[str, Any]:
    """Return Optuna's distribution of each parameter in `begin`, widened to hold its value there."""
    found = {name: _distribution(name, getattr(space, name), value) for name, value in begin.items()}
    return {name: distribution for name, distribution in found.items() if distribution is not None}


def _distribution(name: str, bounds: Range, begin: Any) -> Any:
    """Return None for a logarithmic scale from 0, as of a weight decay that the optimizer does not have."""
    library = optuna().distributions
    if isinstance(bounds, Choices):
        more = () if begin in bounds.values else (begin,)
        return library.CategoricalDistribution((*bounds.values, *more))
    if isinstance(bounds, Multiples):
        if not begin > 0:
            return None
        bounds = Numbers(bounds.low * begin, bounds.high * begin, log=True)
    if not bounds.low <= bounds.high or (bounds.log and not bounds.low > 0):
        least = " and above 0" if bounds.log else ""
        raise ConfigurationError(
            f"space: {name} goes from {bounds.low} to {bounds.high}; low must not be above high{least}"
        )
    low, high = min(bounds.low, begin), max(bounds.high, begin)
    if bounds.step is None:
        return library.FloatDistribution(low, high, log=bounds.log)
    step = bounds.step if all((end - low) % bounds.step == 0 for end in (begin, bounds.low, high)) else 1
    return library.IntDistribution(int(low), int(high), step=step)


def _shape(hidden: tuple[int, ...]) -> dict[str, Any]:
    """Return depth, width and halving of these widths."""
    for halving in (False, True) if hidden else ():
        shape = dict(zip(OF_HIDDEN, (len(hidden), hidden[0], halving), strict=True))
        if settings_of(shape)["hidden"] == tuple(hidden):
            return shape
    raise ConfigurationError(
        f"a search of hidden cannot begin with {list(hidden)}; give widths that are equal, "
        "such as 256,256, or halve from layer to layer, such as 512,256, or leave hidden out of the search"
    )
