"""Layers in a row as one layer."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class Stack(Layer):
    """a = f_L(… f_2(f_1(x)))

    `Average` holds one for each of its members.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        given = self.layers
        # Callers may give a list; a hashable layer needs a tuple.
        object.__setattr__(self, "layers", tuple(self.layers) if isinstance(self.layers, Iterable) else ())
        if not self.layers or not all(isinstance(layer, Layer) for layer in self.layers):
            raise ConfigurationError(f"Stack takes a list of at least one layer, not {given!r}")
        late = next((layer for layer in self.layers[1:] if layer.code_levels), None)
        if late is not None:
            raise ConfigurationError(f"{late!r} reads codes of x, so it must be the first layer of Stack")

    @property
    def code_levels(self) -> tuple[int, ...]:
        return self.layers[0].code_levels

    def output_width(self, I: int) -> int:
        for layer in self.layers:
            I = layer.output_width(I)
        return I

    def parameter_shapes(self, I: int) -> Shapes:
        return {"layers": [layer.parameter_shapes(width) for layer, width in self._inside(I)]}

    def state_shapes(self, I: int) -> Shapes:
        return {"layers": [layer.state_shapes(width) for layer, width in self._inside(I)]}

    def buffer_shapes(self, B: int, I: int) -> Shapes:
        return {"layers": [layer.buffer_shapes(B, width) for layer, width in self._inside(I)]}

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, Any]:
        return {"layers": [layer.initial_values(rng, width) for layer, width in self._inside(I)]}

    def flops(self, I: int) -> int:
        return sum(layer.flops(width) for layer, width in self._inside(I))

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        for layer, q, inner in zip(self.layers, p.layers, buf.layers, strict=True):
            x = layer.forward(backend, q, x, inner)
        return x

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        d: Array | None = da
        for layer, q, inner in reversed([*zip(self.layers, p.layers, buf.layers, strict=True)]):
            d = layer.backward(backend, q, d, inner)
            if d is None:
                return None  # dx is not needed
        return d

    def _inside(self, I: int) -> Iterator[tuple[Layer, int]]:
        for layer in self.layers:
            yield layer, I
            I = layer.output_width(I)
