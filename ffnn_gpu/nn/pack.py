"""The members of a pack: R networks of one architecture whose numbers lie in the arrays of one `Network`.

Each member has its own initial values, dropout, learning rate and weight decay. The pack trains all of them
by one step, which a backend may share over its threads.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends import Backend
from ffnn_gpu.backends.reference.members import Members, PerMember
from ffnn_gpu.checks import is_number, is_whole, require_positive_int, seed_number
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers.dropout import Dropout
from ffnn_gpu.nn.parameters import Parameters

SEEDS = 2**64


@dataclass(frozen=True)
class Member:
    """One network of a pack.

    Args:
        seed: of its initial values, and of dropout unless the workspace has its own.
        lr_factor: on the optimizer's learning rate.
        decay_factor: on the optimizer's weight_decay, l2 and l1.
        dropout_factor: on the rates of Dropout.
    """

    seed: int
    lr_factor: float = 1.0
    decay_factor: float = 1.0
    dropout_factor: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", seed_number(self.seed))
        for name in ("lr_factor", "decay_factor", "dropout_factor"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value < math.inf:
                raise ConfigurationError(f"{name} of Member must be finite and at least 0, not {value!r}")
            object.__setattr__(self, name, float(value))


def members_of(given: int | Iterable[Member] | None, seed: int) -> tuple[Member, ...] | None:
    """Return the members; for a number R those with the seeds `seed`, …, `seed` + R − 1; None for None."""
    if given is None:
        return None
    if is_whole(given) or not isinstance(given, Iterable):
        require_positive_int("members", given)
        R: Any = given
        return tuple(Member((seed + r) % SEEDS) for r in range(R))
    members = tuple(given)
    strays = [member for member in members if not isinstance(member, Member)]
    if strays or not members:
        shown = f"{strays[0]!r} in the list" if strays else "an empty list"
        raise ConfigurationError(f"members is a number of networks, or a list of Member(seed=…), not {shown}")
    return members


def seeds_of(members: tuple[Member, ...] | None, seed: int, own: bool) -> Any:
    """Return the seed of a network's dropout; of a pack PerMember: the members' own, or seed, seed + 1, …"""
    if members is None:
        return seed
    if own:
        return PerMember(member.seed for member in members)
    return PerMember((seed + r) % SEEDS for r in range(len(members)))


def in_short(members: tuple[Member, ...], seed: int) -> str:
    """Return the argument `members` that creates these: their number where that suffices, else a list."""
    plain = members == members_of(len(members), seed)
    return str(len(members)) if plain else repr([*members])


def chosen_members(
    members: tuple[Member, ...] | None, chosen: Iterable[int]
) -> tuple[list[int], list[Member]]:
    """Return the indices of chosen members, and the members. Raises ConfigurationError."""
    if members is None:
        raise ConfigurationError("this network is no pack; create one with Network(…, members=R)")
    if not isinstance(chosen, Iterable):
        raise ConfigurationError(f"select takes a list of members such as [0, 2], not {chosen!r}")
    indices = list(chosen)
    if not indices:
        raise ConfigurationError(f"no member is chosen; choose some of 0 to {len(members) - 1}")
    for r in indices:
        if not is_whole(r) or not 0 <= r < len(members):
            raise ConfigurationError(f"there is no member {r!r}; there are 0 to {len(members) - 1}")
    return indices, [members[r] for r in indices]


def with_rate(layer: Layer, factor: float) -> Layer:
    """Return the layer with a factor on the rate of each Dropout in it."""
    if factor == 1:
        return layer
    if isinstance(layer, Dropout):
        return replace(layer, rate=layer.rate * factor)
    inside: Iterable[Layer] = getattr(layer, "layers", ())
    changes: Any = {"layers": tuple(with_rate(each, factor) for each in inside)}
    return replace(layer, **changes) if inside else layer


def require_packable(layers: Iterable[Layer], dtype: "np.dtype[Any]", members: tuple[Member, ...]) -> None:
    """Raise ConfigurationError unless the operations of a pack can compute these layers in this type."""
    if dtype == np.float16:
        raise ConfigurationError(
            "dtype='float16' has one loss scale, and each member of a pack would need its own; use "
            "dtype='bfloat16' or 'float32'"
        )
    for layer in layers:
        if not type(layer).__module__.startswith("ffnn_gpu."):
            raise ConfigurationError(
                f"a pack cannot compute {layer!r}: {type(layer).__name__} is no layer of this package and "
                "may use arrays directly. Use layers of ffnn_gpu.layers, or train the networks one by one"
            )
        if isinstance(layer, Dropout):
            for r, member in enumerate(members):
                if layer.rate * member.dropout_factor >= 1:
                    raise ConfigurationError(
                        f"dropout_factor={member.dropout_factor:g} of member {r} makes the rate "
                        f"{layer.rate:g} of {layer!r} at least 1; use less than {1 / layer.rate:g}"
                    )
        require_packable(getattr(layer, "layers", ()), dtype, members)


def whole(array: Array, R: int, backend: Backend) -> Array:
    """Return the array (R, …) of Members, or of an array that all R members share."""
    if isinstance(array, Members):
        return array.stacked
    return backend.copy(array, out=backend.empty((R, *array.shape), array.dtype))


def copy_blocks(source: Parameters, chosen: Sequence[int], target: Parameters) -> None:
    """Overwrite the target's parameters by those of the chosen members of a pack, in this order.

    target: one network if one member is chosen, or a pack of as many. It gets the optimizers' vectors too.
    """
    backend, R = target.backend, source.members or 1

    def copy(vector: Array, out: Array) -> None:
        length = len(vector) // R
        for place, r in enumerate(chosen):
            block = vector[r * length : (r + 1) * length]
            backend.copy(block, out=out[place * length : (place + 1) * length])

    copy(source.theta, target.theta)
    copy(source.state, target.state)
    backend.copy(source.step, out=target.step)
    target.refresh()
    for optimizer, state in source.optimizer_states.items():
        own = optimizer.state(target)
        for name, vector in vars(state).items():
            if name == "scalars":
                backend.copy(vector, out=own.scalars)
            else:
                copy(vector, getattr(own, name))
