"""Packs on the CUDA backend: equal to the reference, and whole steps in one graph."""

import numpy as np
import pytest

from ffnn_gpu import (
    AdamW,
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    Lion,
    Member,
    Muon,
    Network,
    mean_squared_error,
    softmax_cross_entropy,
    train_step,
)
from ffnn_gpu.backends import Backend, get_backend
from ffnn_gpu.backends.cuda.cublaslt import matmul
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.errors import ShapeError
from ffnn_gpu.testing import assert_close, assert_parity
from tests.backends.cuda.emulated_cupy import CupyWithCublasLt, emulator
from tests.backends.cuda.fake_cupy import installed, refusing

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


def steps(network, loss, rule, targets, weight=None, count=2):
    """Return the last losses of some steps on the host."""
    backend, ws = network.backend, network.workspace(9)
    arrays = backend.asarray(X, network.compute_dtype), backend.asarray(targets)
    w = None if weight is None else backend.asarray(weight, network.dtype)
    for _ in range(count):
        value = train_step(network, loss, rule, *arrays, ws, w, None, True)
    return backend.to_host(value)


CASES = [
    ("float32", [Dense(6, "relu"), LayerNorm(), Dropout(0.3), Dense(5, "gelu"), Dense(3)], Muon, True),
    ("float32", [Dense(6, "tanh"), BatchNorm(), Dense(3)], Lion, False),
    ("bfloat16", LAYERS, Muon, False),
]


@pytest.mark.parametrize("device", ["emulated"], indirect=True)
@pytest.mark.parametrize(("dtype", "layers", "rule", "classes"), CASES, ids=range(len(CASES)))
def test_members_equal_plain_networks_bit_for_bit(device, dtype, layers, rule, classes):
    loss, targets = softmax_cross_entropy, CLASSES.astype(np.int32)
    if not classes:
        loss, targets = mean_squared_error, RNG.normal(size=(9, 3)).astype(np.float32)
    weight, pack = RNG.uniform(size=9), Network(4, layers, device, dtype, members=MEMBERS)
    before = [pack.member(r) for r in range(2)]
    values = steps(pack, loss, rule(0.1, weight_decay=0.2), targets, weight)
    for r, own in enumerate(MEMBERS):
        plain = Network(4, before[r].layers, device, dtype, own.seed)
        of_member = rule(0.1 * own.lr_factor, weight_decay=0.2 * own.decay_factor)
        assert steps(plain, loss, of_member, targets, weight) == values[r]
        found = pack.member(r).params.to_host()
        for name, want in plain.params.to_host().items():
            assert found[name].tobytes() == want.tobytes(), name


@pytest.mark.parametrize("device", ["emulated"], indirect=True)
def test_step_of_any_number_of_members_is_the_same_launches(device):
    xp, found = device.xp, []
    for R in (2, 3):
        pack = Network(4, [Dense(5, "relu"), Dense(3)], device, "float32", members=R)
        xp.launched.clear()
        xp.bindings.made.clear()
        rule = Muon(clip_norm=0.2, output_layer=True)
        steps(pack, softmax_cross_entropy, rule, CLASSES.astype(np.int32), count=1)
        found.append((dict(xp.launched), [*xp.bindings.made]))
    assert found[0] == found[1]
    assert len(found[0][1]) == 2 + 3 + 2 * 15  # forward, backward, Newton-Schulz of two layers


@pytest.mark.parametrize("device", ["emulated"], indirect=True)
@pytest.mark.parametrize("refused", ["epilogues", "products", "tables"])
def test_members_are_computed_without_what_is_refused(device, refused, monkeypatch):
    """Without an epilogue by a kernel of all members, without products or tables one by one."""
    pack, found = Network(4, [Dense(5, "relu"), Dense(3)], device, "bfloat16", members=2), []
    for k in range(2):
        if k and refused == "epilogues":
            device.xp.bindings.refuses |= {"BIAS", "RELU_BIAS", "BGRADA"}
            device.cublaslt._plans.clear()
        elif k and refused == "tables":
            monkeypatch.setattr(CupyBackend, "table", lambda self, numbers: None)
        elif k:
            monkeypatch.setattr(matmul, "describe_batch", refusing(ShapeError("no products of members")))
        copy = pack.to(device)
        value = steps(copy, softmax_cross_entropy, AdamW(0.1), CLASSES.astype(np.int32))
        found.append((value.tobytes(), device.to_host(copy.params.theta)))
    if refused != "epilogues":
        assert found[0][0] == found[1][0] and (found[0][1] == found[1][1]).all()
    else:
        assert_close(found[1][1], found[0][1], 3 * 2**-8, "θ without epilogues")


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
