"""The layers for tables on the CUDA backend: equal to the reference, and whole steps in one graph."""

import numpy as np
import pytest

from ffnn_gpu import Adam, Dense, Embedding, Network, softmax_cross_entropy, train_step
from ffnn_gpu.backends import Backend, get_backend
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.nn.layers import (
    CosineEmbedding,
    NTKDense,
    ParametricActivation,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    Scale,
)
from ffnn_gpu.testing import assert_parity
from tests.backends.cuda.emulated_cupy import CupyWithCublasLt, emulator
from tests.backends.cuda.fake_cupy import installed

STACKS = {
    "periodic": [PeriodicEmbedding(2, 5, 4), Scale(), NTKDense(7), ParametricActivation("mish"), NTKDense(3)],
    "cosine": [CosineEmbedding(3, 5), Dense(3)],
    "bins": [PiecewiseLinearEmbedding([[-1, 0, 1], [-0.5, 0.5]], 3), Dense(3)],
    "behind an embedding": [Embedding([3], 2), PeriodicEmbedding(2, 3, 3), CosineEmbedding(1, 4), Dense(3)],
}
RNG = np.random.default_rng(0)
X = np.column_stack([RNG.normal(size=(22, 3)), np.arange(22) % 3])
LABELS = RNG.integers(0, 3, 22)


@pytest.fixture(params=["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """Return CupyBackend; on the fake, a product that no CUDA graph can contain is an error."""
    if request.param == "gpu":
        return get_backend("cupy")
    emulator.require()
    with installed(monkeypatch, CupyWithCublasLt()):
        backend = CupyBackend()
    monkeypatch.setattr(type(backend.xp), "matmul", None)
    return backend


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("stack", STACKS)
def test_training_steps_equal_the_reference(device, stack, dtype):
    network = Network(4, STACKS[stack], Backend(), dtype, seed=1)
    assert_parity(network, X, LABELS, softmax_cross_entropy, backends=(Backend(), device), optimizer=Adam())


@pytest.mark.parametrize("stack", STACKS)
def test_captured_steps_equal_plain_steps_bit_for_bit(device, stack):
    found, optimizer = [], Adam(lr=0.01)
    x, y = device.asarray(X, "float32"), device.asarray(LABELS.astype(np.int32))
    for wrap in (lambda step: step, device.capture):
        network = Network(4, STACKS[stack], device, seed=3)
        ws, step = network.workspace(22), wrap(train_step)
        losses = [
            float(step(network, softmax_cross_entropy, optimizer, x, y, ws, None, None, True))
            for _ in range(4)
        ]
        found.append((losses, device.to_host(network.params.theta).tobytes()))
    assert found[0] == found[1] and getattr(step.args[0], "reason", "") == ""
