"""The residual connection around a stack of layers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class Residual(Layer):
    """a = x + f(x)        dx = da + ∂f/∂xᵀ da

    f applies `layers` in order; its output has the width of x.

    Reference: He, Zhang, Ren, Sun: Deep Residual Learning (2016), eq. 1.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        # Callers may give a list; a hashable layer needs a tuple.
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers or not all(isinstance(layer, Layer) for layer in self.layers):
            raise ConfigurationError(f"Residual takes a list of at least one layer, not {[*self.layers]!r}")

        coded = next((layer for layer in self.layers if layer.code_levels), None)
        if coded is not None:
            raise ConfigurationError(f"Residual cannot hold {coded!r}: x + f(x) would change the codes in x")

    def output_width(self, I: int) -> int:
        width = I
        for layer in self.layers:
            width = layer.output_width(width)
        if width != I:
            changed = f"the layers in Residual change the width from {I} to {width}"
            raise ShapeError(f"{changed}; x + f(x) needs equal widths")
        return I

    def parameter_shapes(self, I: int) -> Shapes:
        return {"layers": [layer.parameter_shapes(width) for layer, width in self._inside(I)]}

    def state_shapes(self, I: int) -> Shapes:
        return {"layers": [layer.state_shapes(width) for layer, width in self._inside(I)]}

    def buffer_shapes(self, B: int, I: int) -> Shapes:
        inside = [layer.buffer_shapes(B, width) for layer, width in self._inside(I)]
        return {"a": (B, I), "dx": (B, I), "layers": inside}

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, Any]:
        return {"layers": [layer.initial_values(rng, width) for layer, width in self._inside(I)]}

    def flops(self, I: int) -> int:
        return sum(layer.flops(width) for layer, width in self._inside(I)) + I

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        f = x
        for layer, q, inner in zip(self.layers, p.layers, buf.layers, strict=True):
            f = layer.forward(backend, q, f, inner)
        return backend.add(x, f, out=buf.a)  # a = x + f(x)

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        if buf.dx is not None:
            backend.copy(da, out=buf.dx)  # the layers inside overwrite da
        df = da
        for layer, q, inner in reversed([*zip(self.layers, p.layers, buf.layers, strict=True)]):
            df = layer.backward(backend, q, df, inner)
            if df is None:
                return None  # dx is not needed
        if buf.dx is None:
            return None
        return backend.add(buf.dx, df, out=buf.dx)  # dx = da + ∂f/∂xᵀ da

    def _inside(self, I: int) -> Iterator[tuple[Layer, int]]:
        for layer in self.layers:
            yield layer, I
            I = layer.output_width(I)
