"""A learnt factor for each column."""

from dataclasses import dataclass

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.rates import Rate
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class Scale(Layer):
    """a = x ⊙ gain      gain (I,), 1 at the start

    As the first layer it learns which columns of a table matter.

    Args:
        lr_factor, decay_factor: factors on the optimizer's settings for gain; see `Rate`.

    Reference: Holzmüller, Grinsztajn, Steinwart: Better by Default (2024), section 3: the scaling layer.
    """

    lr_factor: float = 1.0
    decay_factor: float | None = None

    def parameter_shapes(self, I: int) -> Shapes:
        return {"gain": (I,)}

    def rates(self) -> dict[str, Rate]:
        return dict.fromkeys(("gain",), Rate(self.lr_factor, self.decay_factor))

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, np.ndarray]:
        return {"gain": np.ones(I)}

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        buf.x = x  # backward needs x
        return backend.scale_columns(x, p.gain, out=buf.a)

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        return backend.scale_columns_backward(da, buf.x, p.gain, dgain=p.dgain, dx=buf.dx)
