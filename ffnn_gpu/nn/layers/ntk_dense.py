"""The fully connected layer in the NTK parametrization."""

import math
from dataclasses import dataclass

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.nn.initializers import Normal
from ffnn_gpu.nn.layers.dense import Dense
from ffnn_gpu.nn.parameters import Views
from ffnn_gpu.nn.workspace import Buffers

STANDARD = Normal(1.0)


@dataclass(frozen=True, repr=False)
class NTKDense(Dense):
    """a = φ(x W/√I + b)      x (B, I)   W (I, O) ~ N(0, 1)   b (O,)   a (B, O)

    The numbers of W have the same size in layers of every width, so one learning rate suits all of them.

    Args:
        weights: initializer of W; N(0, 1) if None.

    Reference: Jacot, Gabriel, Hongler: Neural Tangent Kernel (2018), section 3.
    """

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, np.ndarray]:
        W = (self.weights or STANDARD)(rng, (I, self.width))
        return {"W": W, "b": self.biases(rng, (self.width,))} if self.bias else {"W": W}

    def flops(self, I: int) -> int:
        return super().flops(I) + self.width

    def factor(self, I: int) -> float:
        return 1 / math.sqrt(I)

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        buf.x = x  # backward needs x and a
        b, factor = p.b if self.bias else None, self.factor(x.shape[1])
        return backend.affine(x, p.W, b, self.phi, out=buf.a, s=buf.s, factor=factor)  # a = φ(x W/√I + b)

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        delta = backend.activation_backward(da, buf.a, self.phi, s=buf.s)  # δ  = da ⊙ φ′(s), over da
        if self.bias:
            backend.column_sum(delta, out=p.db)  # db = Σ_B δ
        factor = backend.constant((self.factor(len(p.W)),), np.float64)
        delta = backend.scaled(delta, factor, out=delta)  # δ ← δ/√I
        backend.affine_gradients(buf.x, delta, dW=p.dW, db=None)  # dW = xᵀ δ
        if buf.dx is None:
            return None  # dx is not needed
        return backend.gemm(delta, p.W.T, out=buf.dx)  # dx = δ Wᵀ
