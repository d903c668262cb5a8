"""Softmax and log-softmax as layers with their exact adjoints, and the full Jacobian.

To train a classifier, use the loss `softmax_cross_entropy` on the logits instead: it is more accurate and
faster.
"""

from dataclasses import dataclass

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.errors import ShapeError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class Softmax(Layer):
    """a_i = e^{x_i} / Σ_k e^{x_k} over each row        dx = a ⊙ (da − Σ_k da_k a_k)"""

    def buffer_shapes(self, B: int, I: int) -> Shapes:
        return {"a": (B, I)}

    def flops(self, I: int) -> int:
        return 4 * I

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        return backend.softmax(x, out=buf.a)

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        return backend.softmax_backward(da, buf.a)


@dataclass(frozen=True, repr=False)
class LogSoftmax(Layer):
    """a_i = x_i − log Σ_k e^{x_k} over each row        dx = da − e^a Σ_k da_k"""

    def buffer_shapes(self, B: int, I: int) -> Shapes:
        return {"a": (B, I)}

    def flops(self, I: int) -> int:
        return 4 * I

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        return backend.log_softmax(x, out=buf.a)

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        return backend.log_softmax_backward(da, buf.a)


def softmax_jacobian(z: Array, backend: Backend | None = None) -> Array:
    """Return J_bik = S_bi (δ_ik − S_bk), the derivative of softmax output i with respect to logit k.

    Args:
        z: (B, K) logits; integers are converted to float64.
        backend: the reference on NumPy if None.
    """
    backend = backend or Backend(np)
    z = backend.asarray(z)
    if z.dtype.kind in "iub":
        z = backend.asarray(z, np.float64)
    if z.ndim != 2:
        raise ShapeError(f"z has {z.ndim} dimensions; softmax_jacobian reads (B, K) logits")
    return backend.softmax_jacobian(z)
