"""The numbers of a network: one vector θ, one vector ∇θ, and named views into them.

Why one vector: an optimizer, clipping, an all-reduce, a checkpoint, an average and a gradient check are each one operation.
Matrices come first, then biases and scales, so weight decay is `theta[:n_decayed]`; every view starts on a 256-byte
boundary; the padding between views is zero and stays zero. Numbers that are learnt without a gradient (running statistics)
are `state`, laid out the same way: saved and averaged with θ, never decayed, never in ∇θ.

In mixed precision θ, ∇θ and the statistics are float32: an update of 10⁻⁴ is lost in a bfloat16 weight near 1. Layers
compute with the `shadow`, θ rounded to the type they compute in. For float16 ∇θ is multiplied by S, the loss scale, so that
small gradients do not become 0; an optimizer divides by it.
Reference: Micikevicius et al., Mixed Precision Training (2018), sections 3.1 and 3.2.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ffnn_gpu.arrays.precision import master
from ffnn_gpu.backends.reference.backend import ALIGNMENT, Backend
from ffnn_gpu.errors import IncompatibleCheckpointError

FIRST_SCALE = 2.0**16  # of a float16 loss; halved after an overflow, doubled after many steps without one
Shapes = dict[str, Any]  # name → shape, or "layers" → a list of such dicts for a layer made of layers


class Views(SimpleNamespace):
    """One layer's numbers: `W`, `dW`, `b`, `db`, …; `layers` holds the views of the layers inside it."""

    layers: list["Views"]


@dataclass(frozen=True)
class Slot:
    """Where one named array lies in its vector: `vector[start : start + size].reshape(shape)`."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def view(self, vector: Any) -> Any:
        return vector[self.start : self.start + self.size].reshape(self.shape)


class Parameters:
    """θ, ∇θ and the running statistics of a stack of layers.

    Attributes:
        dtype, compute_dtype: of the numbers kept, and of the products made with them.
        theta, grad: (P,) vectors of `dtype`; P counts the padding.
        shadow: (P,) θ in `compute_dtype`, which the views W, b, … show; None where that is θ's own type.
        state: (S,) vector of running statistics.
        loss_scale: for float16 [S, good updates in a row], float64 on the device, else None: ∇θ is S times the true one.
        step: (1,) int64 on the device, the number of updates θ has had; dropout reads it.
        n_decayed: θ[:n_decayed] are the matrices.
        views: one `Views` per layer.
        optimizer_states: optimizer → the vectors it keeps for these parameters.
        pieces: (start, stop) → the same of θ[start:stop] alone, where ranks share an optimizer out.
    """

    def __init__(
        self, backend: Backend, shapes: list[Shapes], state_shapes: list[Shapes], dtype: Any
    ) -> None:
        self.backend, self.compute_dtype, self.dtype = backend, np.dtype(dtype), master(dtype)
        named = list(_walk(shapes))
        matrices = [entry for entry in named if len(entry[1]) >= 2]
        vectors = [entry for entry in named if len(entry[1]) < 2]
        self.slots, length = self._lay_out(matrices + vectors)
        self.state_slots, state_length = self._lay_out(list(_walk(state_shapes)))
        self.n_decayed = self.slots[len(matrices)].start if vectors else length
        self.theta, self.grad = (backend.zeros((length,), self.dtype, lane) for lane in (0, 1))
        self.state = backend.zeros((state_length,), self.dtype)
        self.shadow = (
            None if self.dtype == self.compute_dtype else backend.zeros((length,), self.compute_dtype)
        )
        self.loss_scale = backend.asarray([FIRST_SCALE, 0.0]) if self.compute_dtype == np.float16 else None
        self.step = backend.zeros((1,), np.int64)
        self.views = self._views(shapes)
        self.optimizer_states: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self.pieces: dict[tuple[int, int], WeakKeyDictionary[Any, Any]] = {}

    def named(self) -> Iterator[tuple[str, Any]]:
        """(name, view) of every parameter and running statistic, names like "0.W" or "3.layers.1.b"."""
        for slot in self.slots:
            yield slot.name, slot.view(self.theta)
        for slot in self.state_slots:
            yield slot.name, slot.view(self.state)

    def to_host(self) -> dict[str, np.ndarray]:
        """A host copy of every named array."""
        return {name: np.array(self.backend.to_host(view), order="C") for name, view in self.named()}

    def assign(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Overwrite every named array; all or nothing. Raises IncompatibleCheckpointError naming the first difference."""
        mine = dict(self.named())
        for name, view in mine.items():
            if name not in arrays:
                raise IncompatibleCheckpointError(
                    f"{name} is missing; this network has it with shape {view.shape}"
                )
            if arrays[name].shape != view.shape or arrays[name].dtype != view.dtype:
                raise IncompatibleCheckpointError(
                    f"{name} is {arrays[name].dtype} {arrays[name].shape}; this network has {view.dtype} {view.shape}"
                )
        surplus = next((name for name in arrays if name not in mine), None)
        if surplus is not None:
            raise IncompatibleCheckpointError(f"{surplus} has no place in this network")
        for name, view in mine.items():
            self.backend.copy(self.backend.asarray(arrays[name]), out=view)
        self.refresh()

    def refresh(self) -> None:
        """shadow ← θ; to be called by whoever writes θ, except for an optimizer's rule, which writes both."""
        if self.shadow is not None:
            self.backend.copy(self.theta, out=self.shadow)

    @property
    def count(self) -> int:
        """The number of parameters, padding and running statistics left out."""
        return sum(slot.size for slot in self.slots)

    def _lay_out(self, named: list[tuple[str, tuple[int, ...]]]) -> tuple[list[Slot], int]:
        unit, start, slots = ALIGNMENT // self.compute_dtype.itemsize, 0, []
        for name, shape in named:
            slots.append(Slot(name, shape, start))
            start += -(-math.prod(shape) // unit) * unit
        return slots, start

    def _views(self, shapes: list[Shapes]) -> list[Views]:
        root, shown = Views(layers=_empty_tree(shapes)), self.theta if self.shadow is None else self.shadow
        for slot in self.slots:
            owner, name = _owner(root, slot.name)
            setattr(owner, name, slot.view(shown))
            setattr(owner, "d" + name, slot.view(self.grad))
        for slot in self.state_slots:
            owner, name = _owner(root, slot.name)
            setattr(owner, name, slot.view(self.state))
        return root.layers


def _walk(shapes: list[Shapes], prefix: str = "") -> Iterator[tuple[str, tuple[int, ...]]]:
    for k, layer in enumerate(shapes):
        for name, shape in layer.items():
            if name == "layers":
                yield from _walk(shape, f"{prefix}{k}.layers.")
            else:
                yield f"{prefix}{k}.{name}", tuple(shape)


def _empty_tree(shapes: list[Shapes]) -> list[Views]:
    return [Views(layers=_empty_tree(layer.get("layers", []))) for layer in shapes]


def _owner(root: Views, name: str) -> tuple[Views, str]:
    *path, last = name.split(".")
    for k in path:
        if k != "layers":
            root = root.layers[int(k)]
    return root, last
