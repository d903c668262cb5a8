"""A layer of your own, with the test that proves its gradient and its parity on every backend.

    python3 examples/custom_layer.py

Gaussian units answer to inputs near their centre, as in a radial basis function network:

    a_j = exp(−‖x − c_j‖² / 2)        ∂a_j/∂x = a_j (c_j − x)        ∂a_j/∂c_j = a_j (x − c_j)
"""

from dataclasses import dataclass

import numpy as np
from ffnn_gpu.layers import Layer

import ffnn_gpu as nn
from ffnn_gpu.testing import assert_parity, check_gradients

# %% The layer
# `forward` stores in buf what `backward` reads. `backward` assigns p.dc and returns the gradient at x.


@dataclass(frozen=True, repr=False)
class Gaussians(Layer):
    """a_j = exp(−‖x − c_j‖² / 2)        x (B, I)   c (O, I)   a (B, O)

    Reference: Broomhead, Lowe: Multivariable functional interpolation and adaptive networks (1988).
    """

    width: int

    def output_width(self, I):
        return self.width

    def parameter_shapes(self, I):
        return {"c": (self.width, I)}

    def initial_values(self, rng, I):
        return {"c": rng.normal(size=(self.width, I))}

    def forward(self, backend, p, x, buf):
        buf.x = x
        distance = ((x[:, None] - p.c) ** 2).sum(axis=2)  # ‖x − c_j‖²
        return backend.xp.exp(-distance / 2, out=buf.a)

    def backward(self, backend, p, da, buf):
        delta = da * buf.a  # ∂L/∂(−‖x − c_j‖²/2)
        p.dc[...] = delta.T @ buf.x - delta.sum(axis=0)[:, None] * p.c  # Σ_B δ_j (x − c_j)
        if buf.dx is None:
            return None
        buf.dx[...] = delta @ p.c - delta.sum(axis=1, keepdims=True) * buf.x  # Σ_j δ_j (c_j − x)
        return buf.dx


# %% The proofs
# The first compares the gradient with the complex step, the second the backends of this machine.

rng = np.random.default_rng(0)
x, y = rng.uniform(-2, 2, (300, 2)), np.zeros((300, 1))
y[:, 0] = np.sin(2 * x[:, 0]) * x[:, 1]
layers = [Gaussians(30), nn.Dense(1)]

check_gradients(nn.Network(2, layers, dtype="float64"), nn.mean_squared_error, x[:20], y[:20])
print("the gradient is the slope of the loss")
assert_parity(nn.Network(2, layers, dtype="float64"), x[:20], y[:20], nn.mean_squared_error)
print("every backend of this machine computes the same")

# %% The training

network = nn.Network(2, layers, dtype="float64", seed=0)
history = nn.fit(network, nn.mean_squared_error, nn.Adam(0.02), (x, y), epochs=60, batch_size=50, verbose=0)
print(f"mean squared error in 60 epochs: {history['loss'][0]:.3f} → {history['loss'][-1]:.4f}")
