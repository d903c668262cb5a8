"""Packs on the CUDA backend: equal to the reference, and whole steps in one graph."""

import numpy as np
import pytest

from ffnn_gpu import AdamW, Dense, Dropout, LayerNorm, Member, Network, softmax_cross_entropy, train_step
from ffnn_gpu.backends import Backend, get_backend
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.testing import assert_parity
from tests.backends.cuda.emulated_cupy import CupyWithCublasLt, emulator
from tests.backends.cuda.fake_cupy import installed

MEMBERS = [Member(3), Member(5, lr_factor=2.0, decay_factor=0.5, dropout_factor=1.5)]
LAYERS = [Dense(6, "relu"), LayerNorm(), Dropout(0.3), Dense(5, "gelu"), Dense(3)]
RNG = np.random.default_rng(0)
X, CLASSES = RNG.normal(size=(9, 4)), RNG.integers(0, 3, 9)


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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_steps_of_a_pack_equal_the_reference(device, dtype):
    pack = Network(4, LAYERS, Backend(), dtype, members=MEMBERS)
    optimizer = AdamW(clip_norm=0.2, weight_decay=0.1)
    assert_parity(pack, X, CLASSES, softmax_cross_entropy, backends=(Backend(), device), optimizer=optimizer)


def test_captured_steps_of_a_pack_equal_plain_steps_bit_for_bit(device):
    found, optimizer = [], AdamW(lr=0.01, clip_norm=0.2)
    x = device.asarray(np.stack([X, X[::-1]]), "float32")
    y = device.asarray(np.stack([CLASSES, CLASSES[::-1]]).astype(np.int32))
    for wrap in (lambda step: step, device.capture):
        network = Network(4, LAYERS, device, members=MEMBERS)
        ws, step = network.workspace(9), wrap(train_step)
        losses = [
            device.to_host(
                step(network, softmax_cross_entropy, optimizer, x, y, ws, None, None, True)
            ).tolist()
            for _ in range(4)
        ]
        found.append((losses, device.to_host(network.params.theta).tobytes()))
    assert found[0] == found[1] and len(found[0][0][0]) == 2
    assert getattr(step.args[0], "reason", "") == ""
