"""The residual connection around a stack of layers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class Residual(Layer):
    """a = x + f(x), where f is `layers` one after the other and keeps the width.        dx = da + ∂f/∂xᵀ da

    Reference: He, Zhang, Ren, Sun, Deep Residual Learning (2016), eq. 1.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "layers", tuple(self.layers)
        )  # people write a list; frozen and hashable needs a tuple
        if not self.layers or not all(isinstance(layer, Layer) for layer in self.layers):
            raise ConfigurationError(
                f"Residual takes a list of one or more layers, not {list(self.layers)!r}"
            )

    def output_width(self, I: int) -> int:
        width = I
        for layer in self.layers:
            width = layer.output_width(width)
        if width != I:
            raise ShapeError(f"the layers in Residual turn width {I} into {width}; x + f(x) needs them equal")
        return I

    def parameter_shapes(self, I: int) -> Shapes:
        return {"layers": [layer.parameter_shapes(width) for layer, width in self._inside(I)]}

    def state_shapes(self, I: int) -> Shapes:
        return {"layers": [layer.state_shapes(width) for layer, width in self._inside(I)]}

    def buffer_shapes(self, B: int, I: int) -> Shapes:
        return {
            "a": (B, I),
            "dx": (B, I),
            "layers": [layer.buffer_shapes(B, width) for layer, width in self._inside(I)],
        }

    def initial_values(self, rng: np.random.Generator, I: int) -> dict[str, Any]:
        return {"layers": [layer.initial_values(rng, width) for layer, width in self._inside(I)]}

    def flops(self, I: int) -> int:
        return sum(layer.flops(width) for layer, width in self._inside(I)) + I

    def forward(self, backend: Backend, p: Views, x: Any, buf: Buffers) -> Any:
        f = x
        for layer, q, inner in zip(self.layers, p.layers, buf.layers, strict=True):
            f = layer.forward(backend, q, f, inner)
        return backend.add(x, f, out=buf.a)  # a = x + f(x)

    def backward(self, backend: Backend, p: Views, da: Any, buf: Buffers) -> Any:
        if buf.dx is not None:
            backend.copy(da, out=buf.dx)  # the layers inside overwrite da
        df = da
        for layer, q, inner in reversed([*zip(self.layers, p.layers, buf.layers, strict=True)]):
            df = layer.backward(backend, q, df, inner)
            if df is None:
                return None  # nobody reads dx
        if buf.dx is None:
            return None
        return backend.add(buf.dx, df, out=buf.dx)  # dx = da + ∂f/∂xᵀ da

    def _inside(self, I: int) -> Iterator[tuple[Layer, int]]:
        for layer in self.layers:
            yield layer, I
            I = layer.output_width(I)
