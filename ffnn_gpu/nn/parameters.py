"""The parameters of a network: one vector θ, one vector ∇θ, and named views into them.

Why one vector: an optimizer, clipping, an all-reduce, a checkpoint, an average and a gradient check are each
one operation.

- Matrices come first, then biases and scales, so weight decay applies to `theta[:n_decayed]`. The factors
  that a layer declares change this order: see rates.py.
- Every view starts on a 256-byte boundary. The padding between views is zero and stays zero.
- Running statistics, which are learnt without a gradient, are in the vector `state` with the same layout.
  They are saved and averaged with θ, but not decayed, and ∇θ does not contain them.

In a pack of R networks, θ, ∇θ and the statistics are R blocks of equal length, one for each member, laid out
like a plain network's. A view has the shape (R, …); layers receive it as `Members`.

In mixed precision θ, ∇θ and the statistics are float32, because an update of 10⁻⁴ is lost in a bfloat16
weight near 1. Layers compute with the `shadow`, θ rounded to the compute type. With float16, ∇θ is multiplied
by the loss scale S, so that small gradients do not become 0; an optimizer divides by S.

Reference: Micikevicius et al.: Mixed Precision Training (2018), sections 3.1 and 3.2.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import DTypeLike

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.arrays.precision import master
from ffnn_gpu.backends import ALIGNMENT, Backend
from ffnn_gpu.backends.reference.members import FlatPack, Members
from ffnn_gpu.errors import IncompatibleCheckpointError
from ffnn_gpu.nn.rates import groups_of, in_order, rates_of
from ffnn_gpu.nn.schedules import Schedule

FIRST_SCALE = 2.0**16  # loss scale of float16; halved after an overflow, doubled after many steps without one
Shapes: TypeAlias = dict[str, Any]
"""name → shape, or "layers" → a list of such dicts, for a layer made of layers"""


class Views(SimpleNamespace):
    """One layer's parameters: `W`, `dW`, `b`, `db`, …; `layers` has the views of the layers inside it."""

    layers: list["Views"]


@dataclass(frozen=True)
class Slot:
    """The place of a named array in its vector: `vector[start : start + size].reshape(shape)`.

    In a pack of R `members`, it is the place in each of the vector's R equal blocks.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    members: int | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def view(self, vector: Array) -> Array:
        """Return the array in the vector; in a pack (R, *shape)."""
        stop = self.start + self.size
        if self.members is None:
            return vector[self.start : stop].reshape(self.shape)
        blocks = vector.reshape(self.members, len(vector) // self.members)
        return blocks[:, self.start : stop].reshape(self.members, *self.shape)


class Parameters:
    """θ, ∇θ and the running statistics of a stack of layers.

    Attributes:
        members: R of a pack; None for one network.
        dtype: type of θ and ∇θ.
        compute_dtype: type of the layers' computations.
        theta, grad: (P,) vectors of `dtype`; P includes the padding.
        shadow: (P,) θ in `compute_dtype`, the memory of the views W, b, …; None if both types are equal.
        state: (S,) vector of running statistics.
        loss_scale: for float16 [S, updates since the last overflow], float64 on the device; else None. ∇θ is
            S times the gradient.
        step: (1,) int64 on the device, the number of updates of θ; dropout reads it.
        factors: schedule → what `factor` returns.
        n_decayed: θ[:n_decayed] has penalties and decay: the matrices, unless a layer declares others.
        rates: name → `Rate`, in the order of the layers.
        extents: (name, start, stop) of each slot with the padding after it; in a pack, of the first member.
        groups: the parts of θ with equal factors, in order; in a pack, of the first member's block.
        operations: what changes a group of θ: the backend's, in a pack for every member.
        views: one `Views` per layer.
        optimizer_states: optimizer → its vectors for these parameters.
        pieces: (start, stop) → optimizer → its vectors for θ[start:stop], if ranks share the work of an
            optimizer.
    """

    def __init__(
        self,
        backend: Backend,
        shapes: list[Shapes],
        state_shapes: list[Shapes],
        dtype: DTypeLike,
        rates: list[dict[str, Any]] | None = None,
        factors: Sequence[tuple[float, float]] | None = None,
    ) -> None:
        """factors: in a pack, each member's factors on the learning rate, and on penalties and decay."""
        self.members = None if factors is None else len(factors)
        self.backend: Any = self._flat_operations(backend)
        self.operations: Any = self._operations(backend)
        self.compute_dtype, self.dtype = np.dtype(dtype), master(dtype)
        named = list(leaves(shapes))
        self.rates = rates_of(named, dict(leaves(rates or [])))
        self.slots, length = self._lay_out(in_order(named, self.rates))
        self.state_slots, state_length = self._lay_out(list(leaves(state_shapes)))
        stops = [*(slot.start for slot in self.slots[1:]), length]
        self.extents = [(slot.name, slot.start, stop) for slot, stop in zip(self.slots, stops, strict=False)]
        self.factors_of_members = factors
        self.groups = groups_of(self.extents, self.rates)
        self.n_decayed = sum(group.n_decayed for group in self.groups)
        whole, whole_state = ((self.members or 1) * n for n in (length, state_length))
        self.theta, self.grad = (backend.zeros((whole,), self.dtype, lane) for lane in (0, 1))
        self.state = backend.zeros((whole_state,), self.dtype)
        self.shadow = (
            None if self.dtype == self.compute_dtype else backend.zeros((whole,), self.compute_dtype)
        )
        self.loss_scale = backend.asarray([FIRST_SCALE, 0.0]) if self.compute_dtype == np.float16 else None
        self.step = backend.zeros((1,), np.int64)
        self.factors: dict[Any, Array] = {}
        self.views = self._views(shapes)
        self.optimizer_states: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self.pieces: dict[tuple[int, int], WeakKeyDictionary[Any, Any]] = {}

    def computed_by(self, operations: Any) -> "Parameters":
        """Return the same parameters, whose optimizer computes with other operations of this device."""
        view = copy.copy(self)
        view.backend, view.operations = self._flat_operations(operations), self._operations(operations)
        return view

    def piece(self, vector: Array, start: int, stop: int) -> Array:
        """Return vector[start:stop]; in a pack, of each member's block."""
        if self.members is None:
            return vector[start:stop]
        return Members(vector.reshape(self.members, len(vector) // self.members)[:, start:stop])

    def control(self) -> Array:
        """Return new memory for the factor on ∇θ and the mark of a skipped update, for each member."""
        numbers = (2,) if self.members is None else (self.members, 2)
        memory = self.backend.zeros(numbers, np.float64)
        return memory if self.members is None else Members(memory)

    def named(self) -> Iterator[tuple[str, Array]]:
        """Yield (name, view) of every parameter and running statistic; a name is "0.W" or "3.layers.1.b"."""
        for slot in self.slots:
            yield slot.name, slot.view(self.theta)
        for slot in self.state_slots:
            yield slot.name, slot.view(self.state)

    def to_host(self) -> dict[str, HostArray]:
        """Return name → host copy for every parameter and running statistic."""
        return {name: np.array(self.backend.to_host(view), order="C") for name, view in self.named()}

    def assign(self, arrays: Mapping[str, HostArray]) -> None:
        """Overwrite every named array; IncompatibleCheckpointError and no change if any of them differs."""
        mine = dict(self.named())
        for name, view in mine.items():
            if name not in arrays:
                raise IncompatibleCheckpointError(
                    f"{name} is missing; this network needs it with shape {view.shape}"
                )
            if arrays[name].shape != view.shape or arrays[name].dtype != view.dtype:
                raise IncompatibleCheckpointError(
                    f"{name} is {arrays[name].dtype} {arrays[name].shape}; "
                    f"this network needs {view.dtype} {view.shape}"
                )
        surplus = next((name for name in arrays if name not in mine), None)
        if surplus is not None:
            raise IncompatibleCheckpointError(f"{surplus} does not belong to this network")
        for name, view in mine.items():
            self.backend.copy(self.backend.asarray(arrays[name]), out=view)
        self.refresh()

    def refresh(self) -> None:
        """shadow ← θ. Call this after writing θ; only an optimizer's rule writes both itself."""
        if self.shadow is not None:
            self.backend.copy(self.theta, out=self.shadow)

    def factor(self, schedule: Schedule) -> Array:
        """Return the number that follows this schedule, float64 (1,) on the device.

        `fit` writes it before each step. It is 1 before and after a training run; a training loop of your own
        writes it by `backend.write(params.factor(schedule), 0, value)`.
        """
        if schedule not in self.factors:
            self.factors[schedule] = self.backend.asarray(np.ones(1))
        return self.factors[schedule]

    @property
    def count(self) -> int:
        """The number of parameters, without padding and running statistics; in a pack, of all members."""
        return (self.members or 1) * sum(slot.size for slot in self.slots)

    def _flat_operations(self, backend: Any) -> Any:
        return backend if self.members is None else FlatPack(backend, self.members)

    def _operations(self, backend: Any) -> Any:
        return backend if self.members is None else backend.pack(self.members)

    def _lay_out(self, named: list[tuple[str, tuple[int, ...]]]) -> tuple[list[Slot], int]:
        unit, start, slots = ALIGNMENT // self.compute_dtype.itemsize, 0, []
        for name, shape in named:
            slots.append(Slot(name, tuple(shape), start, self.members))
            start += -(-math.prod(shape) // unit) * unit
        return slots, start

    def _views(self, shapes: list[Shapes]) -> list[Views]:
        layers, theta = _empty_tree(shapes), self.theta if self.shadow is None else self.shadow
        named = (theta, "", self.slots), (self.grad, "d", self.slots), (self.state, "", self.state_slots)
        for vector, prefix, slots in named:
            for slot in slots:
                owner, name = _owner(layers, slot.name)
                view = slot.view(vector)
                setattr(owner, prefix + name, view if self.members is None else Members(view))
        return layers


def count_parameters(shapes: Shapes) -> int:
    """Return the number of parameters in one layer's shapes, including the layers inside it."""
    return sum(math.prod(shape) for _, shape in leaves([shapes]))


def leaves(layers: list[dict[str, Any]], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of all entries of all layers, nested ones too: "0.W", "3.layers.1.b"."""
    for k, layer in enumerate(layers):
        for name, value in layer.items():
            if name == "layers":
                yield from leaves(value, f"{prefix}{k}.layers.")
            else:
                yield f"{prefix}{k}.{name}", value


def _empty_tree(shapes: list[Shapes]) -> list[Views]:
    return [Views(layers=_empty_tree(layer.get("layers", []))) for layer in shapes]


def _owner(layers: list[Views], name: str) -> tuple[Views, str]:
    """Return the views of the layer that "3.layers.1.b" names, and "b"."""
    k, _, rest = name.partition(".")
    inside = rest.removeprefix("layers.")
    return (layers[int(k)], rest) if inside == rest else _owner(layers[int(k)].layers, inside)
