"""An activation whose strength each neuron learns."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.nn.activations import Activation, get_activation
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.rates import Rate
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class ParametricActivation(Layer):
    """a = x + α ⊙ (φ(x) − x)      alpha (I,), 1 at the start

    α = 1 is φ, and α = 0 the identity. It stands behind a Dense without an activation.

    Args:
        activation: φ, or its name, such as "mish".
        lr_factor, decay_factor: factors on the optimizer's settings for alpha; see `Rate`.

    Why a layer: in Dense, α would need x W + b in the backward pass of every φ.

    Reference: Holzmüller, Grinsztajn, Steinwart: Better by Default (2024), section 3: parametric activations.
    """

    activation: Activation | str
    lr_factor: float = 1.0
    decay_factor: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", get_activation(self.activation))

    @property
    def phi(self) -> Activation:
        """Return φ; `activation` is no name after `__post_init__`."""
        return cast(Activation, self.activation)

    def parameter_shapes(self, I: int) -> Shapes:
        return {"alpha": (I,)}

    def rates(self) -> dict[str, Rate]:
        return dict.fromkeys(("alpha",), Rate(self.lr_factor, self.decay_factor))

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, np.ndarray]:
        return {"alpha": np.ones(I)}

    def flops(self, I: int) -> int:
        return 4 * I

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        buf.x = x  # backward needs x
        return backend.parametric(x, p.alpha, self.phi, out=buf.a)

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        return backend.parametric_backward(da, buf.x, p.alpha, self.phi, dalpha=p.dalpha, dx=buf.dx)
