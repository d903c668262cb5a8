"""Layer normalization."""

from dataclasses import dataclass

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.checks import require_positive
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class LayerNorm(Layer):
    """a = (x − μ)/√(σ² + ε) ⊙ gain + bias, with μ and σ² over each row.      gain, bias (I,)

    Reference: Ba, Kiros, Hinton: Layer Normalization (2016), eq. 3.
    """

    eps: float = 1e-5

    def __post_init__(self) -> None:
        require_positive("eps of LayerNorm", self.eps)

    def parameter_shapes(self, I: int) -> Shapes:
        return {"gain": (I,), "bias": (I,)}

    def buffer_shapes(self, B: int, I: int) -> Shapes:
        return {"a": (B, I), "xhat": (B, I), "rstd": (B,), "dx": (B, I)}

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, np.ndarray]:
        return {"gain": np.ones(I), "bias": np.zeros(I)}

    def flops(self, I: int) -> int:
        return 8 * I

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        return backend.layer_norm(x, p.gain, p.bias, self.eps, out=buf.a, xhat=buf.xhat, rstd=buf.rstd)

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        return backend.layer_norm_backward(
            da, p.gain, buf.xhat, buf.rstd, dgain=p.dgain, dbias=p.dbias, dx=buf.dx
        )
