"""The fully connected layer."""

import math
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.checks import is_number, renamed, require_positive_int
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.activations import Activation, get_activation, identity
from ffnn_gpu.nn.initializers import Initializer, default_initializer, zeros
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.rates import Rate
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class Dense(Layer):
    """a = φ(x W + b)      x (B, I)   W (I, O)   b (O,)   a (B, O)

    Args:
        width: O.
        activation: φ, or its name, such as "relu".
        bias: True if the layer has b.
        weights: initializer of W; `default_initializer(φ)` if None.
        biases: initializer of b.
        lr_factor, bias_lr_factor: on the optimizer's learning rate, for W and for b.
        decay_factor: on the optimizer's weight_decay, l2 and l1, for W; b has none.

    Reference: Rumelhart, Hinton, Williams: Nature 323 (1986), eq. 1-2 and 4-7.
    """

    width: int
    activation: Activation | str = field(default=identity, metadata={"in_files": "phi"})
    bias: bool = True
    weights: Initializer | None = None
    biases: Initializer = zeros
    lr_factor: float = field(default=1.0, kw_only=True)
    bias_lr_factor: float = field(default=1.0, kw_only=True)
    decay_factor: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        require_positive_int("the width of Dense", self.width)
        object.__setattr__(self, "activation", get_activation(self.activation))
        for name in ("lr_factor", "bias_lr_factor", "decay_factor"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value < math.inf:
                raise ConfigurationError(f"{name} of Dense must be finite and at least 0, not {value!r}")

    @property
    def phi(self) -> Activation:
        """Return φ; `activation` is no name after `__post_init__`."""
        return cast(Activation, self.activation)

    def output_width(self, I: int) -> int:
        return self.width

    def parameter_shapes(self, I: int) -> Shapes:
        shapes: Shapes = {"W": (I, self.width)}
        return shapes | {"b": (self.width,)} if self.bias else shapes

    def rates(self) -> dict[str, Rate]:
        W = Rate(self.lr_factor, self.decay_factor, matrix=True)
        return {"W": W, "b": Rate(self.bias_lr_factor)} if self.bias else {"W": W}

    def buffer_shapes(self, B: int, I: int) -> Shapes:
        shapes: Shapes = {"a": (B, self.width), "dx": (B, I)}
        return shapes | {"s": (B, self.width) if self.phi.needs_input else None}

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, np.ndarray]:
        W = (self.weights or default_initializer(self.phi))(rng, (I, self.width))
        return {"W": W, "b": self.biases(rng, (self.width,))} if self.bias else {"W": W}

    def flops(self, I: int) -> int:
        return 2 * I * self.width + self.width

    def factor(self, I: int) -> float:
        """Return what x W is multiplied by."""
        return 1.0

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        buf.x = x  # backward needs x and a
        b = p.b if self.bias else None
        return backend.affine(x, p.W, b, self.phi, out=buf.a, s=buf.s)  # a = φ(x W + b)

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        delta = backend.activation_backward(da, buf.a, self.phi, s=buf.s)  # δ  = da ⊙ φ′(s), over da
        db = p.db if self.bias else None
        backend.affine_gradients(buf.x, delta, dW=p.dW, db=db)  # dW = xᵀ δ,  db = Σ_B δ
        if buf.dx is None:
            return None  # dx is not needed
        return backend.gemm(delta, p.W.T, out=buf.dx)  # dx = δ Wᵀ


Dense.__init__ = renamed(phi="activation")(Dense.__init__)  # type: ignore[method-assign]
