"""The weighted mean of several members, such as the networks of an ensemble."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.checks import is_number
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers.stack import Stack
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class Average(Layer):
    """a = Σ_r w_r f_r(x)        dx = Σ_r w_r ∂f_r/∂xᵀ da

    Every member f_r reads the same x (B, I) and returns (B, O).

    Args:
        layers: f_1, …, f_R, each a layer or a list of layers, stored as a `Stack`.
        weights: w_1, …, w_R, positive, with the sum 1; 1/R each if None.

    Reference: Hansen, Salamon: Neural Network Ensembles (1990), section 3.
    """

    side_by_side: ClassVar[bool] = True
    layers: tuple[Stack, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        members = self.layers if isinstance(self.layers, Iterable) else ()
        # A hashable layer needs tuples.
        object.__setattr__(self, "layers", tuple(map(_stack, members)))
        if not self.layers:
            raise ConfigurationError(f"Average takes a list of at least one member, not {members!r}")
        levels = {layer.code_levels for layer in self.layers}
        if len(levels) > 1:
            raise ConfigurationError(
                f"the members of Average read different codes: {', '.join(map(str, sorted(levels)))}"
            )
        if self.weights is not None:
            object.__setattr__(self, "weights", self._checked(self.weights))

    def _checked(self, weights: Any) -> tuple[float, ...]:
        found = tuple(weights) if isinstance(weights, Iterable) else (weights,)
        if len(found) != len(self.layers):
            raise ConfigurationError(f"Average has {len(self.layers)} members and {len(found)} weights")
        if not all(is_number(w) and w > 0 for w in found) or abs(sum(found) - 1) > 1e-9:
            raise ConfigurationError(f"the weights of Average must be positive with the sum 1, not {found}")
        return tuple(map(float, found))

    @property
    def shares(self) -> tuple[float, ...]:
        """Return w_1, …, w_R."""
        R = len(self.layers)
        return (1 / R,) * R if self.weights is None else self.weights

    @property
    def code_levels(self) -> tuple[int, ...]:
        return self.layers[0].code_levels

    def output_width(self, I: int) -> int:
        widths = [layer.output_width(I) for layer in self.layers]
        if len(set(widths)) > 1:
            raise ShapeError(f"the members of Average return {widths} columns; a mean needs equal numbers")
        return widths[0]

    def parameter_shapes(self, I: int) -> Shapes:
        return {"layers": [layer.parameter_shapes(I) for layer in self.layers]}

    def state_shapes(self, I: int) -> Shapes:
        return {"layers": [layer.state_shapes(I) for layer in self.layers]}

    def buffer_shapes(self, B: int, I: int) -> Shapes:
        O, inside = self.output_width(I), tuple(layer.buffer_shapes(B, I) for layer in self.layers)
        return {"a": (B, O), "share": (B, O), "dx": (B, I), "layers": inside}

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, Any]:
        return {"layers": [layer.initial_values(rng, I) for layer in self.layers]}

    def flops(self, I: int) -> int:
        return sum(layer.flops(I) + 2 * layer.output_width(I) for layer in self.layers)

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        members = zip(self.layers, self._factors(backend), p.layers, buf.layers, strict=True)
        for r, (layer, w, q, inner) in enumerate(members):
            f = layer.forward(backend, q, x, inner)
            if r == 0:
                backend.scaled(f, w, out=buf.a)  # a = w_1 f_1
            else:
                backend.add_scaled(buf.a, f, w)  # a += w_r f_r
        return buf.a

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        members = zip(self.layers, self._factors(backend), p.layers, buf.layers, strict=True)
        for r, (layer, w, q, inner) in enumerate(members):
            share = backend.scaled(da, w, out=buf.share)  # each member overwrites it
            df = layer.backward(backend, q, share, inner)  # df = w_r ∂f_r/∂xᵀ da
            if buf.dx is None:
                continue  # dx is not needed
            if r == 0:
                backend.copy(df, out=buf.dx)
            else:
                backend.add(buf.dx, df, out=buf.dx)  # dx = Σ df
        dx: Array | None = buf.dx
        return dx

    def _factors(self, backend: Backend) -> list[Array]:
        return [backend.constant((w,), np.float64) for w in self.shares]


def _stack(member: Any) -> Stack:
    if isinstance(member, Stack):
        return member
    return Stack((member,) if isinstance(member, Layer) else member)
