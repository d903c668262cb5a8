"""Learning-rate and decay factors per parameter, and the groups of θ that have equal ones.

A layer declares factors by `Layer.rates`. θ is in the order of its groups, so that an update rule runs once
for each group and not once for each parameter. A network without declared factors has one group, all of θ,
of which the matrices decay. In a pack, each member has these groups in its own block of θ, with factors of
its own.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ffnn_gpu.checks import is_number
from ffnn_gpu.errors import ConfigurationError

Named = tuple[str, tuple[int, ...]]  # a parameter's name and shape
Extent = tuple[str, int, int]  # a parameter's name, and θ[start : stop] with the padding after it


class Rate(NamedTuple):
    """Factors on an optimizer's settings for one parameter.

    Attributes:
        lr: on the learning rate.
        decay: on weight_decay, l2 and l1; None for 1 if the parameter has two dimensions or more, else 0.
        matrix: whether the parameter is W (…, I, O) of a product x W, which Muon orthogonalizes.
        output: whether no other matrix comes after this one on the way to the outputs; set by the network.
    """

    lr: float = 1.0
    decay: float | None = None
    matrix: bool = False
    output: bool = False

    def of(self, shape: tuple[int, ...]) -> "Rate":
        """Return this rate with the decay of a parameter of this shape in the place of None."""
        return self if self.decay is not None else self._replace(decay=float(len(shape) >= 2))


class Group(NamedTuple):
    """θ[start : stop], which one call of an update rule changes.

    Attributes:
        n_decayed: the number of leading elements that have penalties and decay.
        lr, decay: the factors on the learning rate, and on penalties and decay.
    """

    start: int
    stop: int
    n_decayed: int
    lr: float = 1.0
    decay: float = 1.0

    def of_member(self, lr: float, decay: float) -> "Group":
        """Return the same group with a member's factors."""
        n_decayed = self.n_decayed if decay else 0
        return self._replace(n_decayed=n_decayed, lr=self.lr * lr, decay=self.decay * (decay or 1.0))

    def within(self, start: int, stop: int) -> "Group | None":
        """Return the part of the group in θ[start : stop], relative to start; None if it is empty."""
        first, last = max(self.start, start), min(self.stop, stop)
        if first >= last:
            return None
        decayed = min(max(self.start + self.n_decayed - first, 0), last - first)
        return self._replace(start=first - start, stop=last - start, n_decayed=decayed)


def rates_of(named: Sequence[Named], declared: Mapping[str, Rate]) -> dict[str, Rate]:
    """Return the rate of every parameter. Raises ConfigurationError for an invalid one."""
    known = {name for name, _ in named}
    for name, rate in declared.items():
        if name not in known:
            raise ConfigurationError(f"rates of a layer names {name}; parameter_shapes has no such parameter")
        for factor, value in (("lr", rate.lr), ("decay", 0 if rate.decay is None else rate.decay)):
            if not is_number(value) or not 0 <= value < math.inf:
                wanted = "must be finite and at least 0"
                raise ConfigurationError(f"the factor {factor} of {name} {wanted}, not {value!r}")
    return {name: declared.get(name, Rate()).of(shape) for name, shape in named}


def in_order(named: Iterable[Named], rates: Mapping[str, Rate]) -> list[Named]:
    """Return the parameters in the order of θ: those with decay first, and equal factors together.

    Otherwise they keep their order. Where possible, the last factors with decay and the first without have
    the same learning rate, because then they share a group.
    """
    named = list(named)
    kinds = list(dict.fromkeys((rates[name].lr, rates[name].decay) for name, _ in named))
    decayed, others = [kind for kind in kinds if kind[1]], [kind for kind in kinds if not kind[1]]
    shared = next((lr for lr, _ in decayed if lr in {lr for lr, _ in others}), None)
    decayed.sort(key=lambda kind: kind[0] == shared)
    others.sort(key=lambda kind: kind[0] != shared)
    place = {kind: k for k, kind in enumerate(decayed + others)}
    return sorted(named, key=lambda entry: place[rates[entry[0]].lr, rates[entry[0]].decay])


def groups_of(extents: Iterable[Extent], rates: Mapping[str, Rate]) -> list[Group]:
    """Return the groups of these parameters, which are in the order of θ."""
    found: list[Group] = []
    for name, start, stop in extents:
        rate = rates[name]
        size = (stop - start) if rate.decay else 0
        group = Group(start, stop, size, rate.lr, rate.decay or 1.0)
        if found and (both := joined(found[-1], group)):
            found[-1] = both
        else:
            found.append(group)
    return found


def joined(first: Group, second: Group) -> Group | None:
    """Return both groups as one; None if one call of a rule cannot change both."""
    whole = first.n_decayed == first.stop - first.start
    decay = whole and first.decay == second.decay
    if first.stop != second.start or first.lr != second.lr or not (decay or not second.n_decayed):
        return None
    return first._replace(stop=second.stop, n_decayed=first.n_decayed + second.n_decayed)


def declared_rates(layers: Iterable[Any], shapes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rates of the layers and of those inside them, where their shapes name these."""
    return [
        layer.rates()
        | ({"layers": declared_rates(layer.layers, shape["layers"])} if "layers" in shape else {})
        for layer, shape in zip(layers, shapes, strict=True)
    ]


def mark_outputs(layers: Sequence[Any], rates: list[dict[str, Any]]) -> bool:
    """Set `output` in the rate of the last matrix of these layers; return whether they have one.

    Of layers side by side, each has a last matrix.
    """
    for layer, own in reversed([*zip(layers, rates, strict=True)]):
        inside, matrices = own.get("layers", []), [k for k in own if k != "layers" and own[k].matrix]
        if layer.side_by_side:
            found = [mark_outputs([each], [rate]) for each, rate in zip(layer.layers, inside, strict=True)]
        else:
            found = [mark_outputs(layer.layers, inside)] if inside else []
        if not any(found) and matrices:
            own[matrices[-1]] = own[matrices[-1]]._replace(output=True)
        if any(found) or matrices:
            return True
    return False
