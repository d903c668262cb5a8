"""Batch normalization."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.checks import is_number, require_positive
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class BatchNorm(Layer):
    """a = (x − μ)/√(σ² + ε) ⊙ gain + bias, with μ and σ² over the batch.      gain, bias (I,)

    An inference workspace uses the running statistics instead. They are stored with the parameters and start
    at 0 and 1. `backward` moves them by `momentum` towards each batch's mean and unbiased variance; `forward`
    does not change them. A training batch of one row raises ShapeError.

    Reference: Ioffe, Szegedy: Batch Normalization (2015), algorithms 1 and 2.
    """

    least_rows: ClassVar[int] = 2  # the variance of one row is not defined

    momentum: float = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        require_positive("eps of BatchNorm", self.eps)
        if not is_number(self.momentum) or not 0 < self.momentum <= 1:
            raise ConfigurationError(f"momentum of BatchNorm must be in (0, 1], not {self.momentum!r}")

    def parameter_shapes(self, I: int) -> Shapes:
        return {"gain": (I,), "bias": (I,)}

    def state_shapes(self, I: int) -> Shapes:
        return {"running_mean": (I,), "running_variance": (I,)}

    def buffer_shapes(self, B: int, I: int) -> Shapes:
        return {"a": (B, I), "xhat": (B, I), "rstd": (I,), "mean": (I,), "variance": (I,), "dx": (B, I)}

    def initial_values(self, rng: "np.random.Generator", I: int) -> dict[str, np.ndarray]:
        ones, zeros = np.ones(I), np.zeros(I)
        return {"gain": ones, "bias": zeros, "running_mean": zeros, "running_variance": ones}

    def flops(self, I: int) -> int:
        return 8 * I

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        if buf.xhat is None or backend.batch_rows(len(x)) == 0:
            mean, variance = p.running_mean, p.running_variance
            return backend.batch_norm_inference(
                x, p.gain, p.bias, self.eps, out=buf.a, mean=mean, variance=variance
            )
        if backend.batch_rows(len(x)) < self.least_rows:
            raise ShapeError(
                "x has 1 row; in training, BatchNorm takes the variance of a batch, which needs at least 2"
            )
        written = {"xhat": buf.xhat, "rstd": buf.rstd, "mean": buf.mean, "variance": buf.variance}
        return backend.batch_norm(x, p.gain, p.bias, self.eps, out=buf.a, **written)

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        rows = backend.batch_rows(len(da))
        if rows:  # without rows there are no statistics
            backend.running_statistics(
                buf.mean, buf.variance, rows, self.momentum, p.running_mean, p.running_variance
            )
        return backend.batch_norm_backward(
            da, p.gain, buf.xhat, buf.rstd, dgain=p.dgain, dbias=p.dbias, dx=buf.dx
        )
