"""A training step never waits for the device, and a recorded step allocates no memory.

The launch of a recorded graph runs without Python. Waits and allocations are therefore counted around the
launches; the recording itself refuses both (tape.py).
"""

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    LogSoftmax,
    Network,
    Residual,
    Softmax,
    fit,
    gelu,
    relu,
    sigmoid,
    softmax_cross_entropy,
    train_step,
)
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.losses.standard import LOSSES, PointwiseLoss
from ffnn_gpu.testing.strict_device import StrictBackend
from tests.backends.cuda.emulated_cupy import CupyWithCublasLt, emulator
from tests.backends.cuda.fake_cupy import FakeCupy, installed
from tests.testing.test_strict_device import CLASSES, LABELS, ROWS, RULES, TARGETS, WIDTH, X, steps

EVERY_LAYER = [
    BatchNorm(), Dense(6, gelu), Dropout(0.2), Residual([LayerNorm(), Dense(6, relu)]), Softmax(),
    LogSoftmax(), Dense(CLASSES, sigmoid),
]  # fmt: skip
LAUNCH = 4  # steps recorded as one graph


def layers_for(loss):
    return [*EVERY_LAYER, Softmax()] if loss == "cross_entropy" else EVERY_LAYER


def stand_in(module):
    """Return a CupyBackend that records steps: with array functions, or with kernels emulated on this CPU."""
    if module is CupyWithCublasLt:
        emulator.require()
    with pytest.MonkeyPatch.context() as patch, installed(patch, module()):
        backend = CupyBackend()
    backend.use_kernels = module is CupyWithCublasLt
    if not backend.use_kernels:
        backend.can_capture = lambda: (True, "")
    backend.steps_per_launch = lambda rows: LAUNCH
    return backend


def counts(xp):
    return np.array([xp.synchronizations, xp.uploads, xp.allocations])


def cost_of_launches(backend, layers, loss, y, optimizer):
    """Return (recordings, counts of three launches) for a training step on one batch."""
    network = Network(WIDTH, layers, backend, seed=1)
    ws, x = network.workspace(ROWS), backend.asarray(X, "float32")
    y = backend.asarray(loss.targets(y, CLASSES, network.dtype))
    optimizer.state(network.params)
    step = backend.capture(lambda: train_step(network, loss, optimizer, x, y, ws, checked=True))
    for _ in range(2):
        step()
    before = counts(backend.xp)
    for _ in range(3):
        step()
    return backend.xp.captures, (counts(backend.xp) - before).tolist()


def cost_of_fit(backend, launches, layers, loss, y, optimizer):
    """Return the counts of three epochs of `launches` launches each; every batch has two rows."""
    network, before = Network(WIDTH, layers, backend, seed=1), counts(backend.xp)
    rows = np.arange(2 * launches * LAUNCH) % ROWS
    fit(network, loss, optimizer, (X[rows], y[rows]), epochs=3, batch_size=2, verbose=0)
    return (counts(backend.xp) - before).tolist()


PAIRS = [(loss, "sgd") for loss in LOSSES] + [
    ("softmax_cross_entropy", rule) for rule in RULES if rule != "sgd"
]


@pytest.mark.parametrize(("loss", "rule"), PAIRS)
def test_launches_of_array_functions_never_wait_upload_or_allocate(loss, rule):
    found = cost_of_launches(stand_in(FakeCupy), layers_for(loss), LOSSES[loss], TARGETS[loss], RULES[rule])
    assert found == (1, [0, 0, 0])


@pytest.mark.parametrize(("loss", "rule"), PAIRS)
def test_launches_of_kernels_never_wait_upload_or_allocate(loss, rule):
    found = cost_of_launches(
        stand_in(CupyWithCublasLt), layers_for(loss), LOSSES[loss], TARGETS[loss], RULES[rule]
    )
    assert found == (1, [0, 0, 0])


@pytest.mark.parametrize(("loss", "rule"), PAIRS)
def test_waits_uploads_and_allocations_of_fit_do_not_depend_on_the_launches_of_an_epoch(loss, rule):
    short, long = (
        cost_of_fit(stand_in(FakeCupy), launches, layers_for(loss), LOSSES[loss], TARGETS[loss], RULES[rule])
        for launches in (2, 6)
    )
    assert short == long


# --- planted faults


class Waiting(Layer):
    """a = x; the forward pass reads a sum back from the device."""

    def forward(self, backend, p, x, buf):
        float(x.sum())
        return backend.copy(x, out=buf.a)

    def backward(self, backend, p, da, buf):
        return da


class Uploading(SGD):
    def step(self, params, lr=None):
        super().step(params, lr)
        params.backend.asarray(np.ones(1, "float32"))


def _reading(xp, z, y, _):
    xp.asnumpy(z)
    return 2 * (z - y)


READING = PointwiseLoss("reading", lambda xp, z, y, _: (z - y) ** 2, _reading)
FAULTS = {
    "layer": ([Dense(CLASSES), Waiting()], LOSSES["mean_squared_error"], SGD()),
    "optimizer": ([Dense(CLASSES)], LOSSES["mean_squared_error"], Uploading()),
    "loss": ([Dense(CLASSES)], READING, SGD()),
}


@pytest.mark.parametrize(("layers", "loss", "optimizer"), FAULTS.values(), ids=FAULTS)
def test_step_that_waits_or_uploads_is_counted(layers, loss, optimizer, caplog):
    y = TARGETS["mean_squared_error"]
    assert cost_of_launches(stand_in(FakeCupy), layers, loss, y, optimizer)[1] != [0, 0, 0]
    short, long = (
        cost_of_fit(stand_in(FakeCupy), launches, layers, loss, y, optimizer) for launches in (2, 6)
    )
    assert short != long
    assert "one kernel at a time" in caplog.text
    with pytest.raises(TypeError, match="within a step"):
        steps(StrictBackend(), layers, loss, optimizer, y)


def test_class_weights_are_uploaded_only_by_the_first_step():
    loss = type(softmax_cross_entropy)(class_weight=(1.0, 2.0, 0.5))
    assert cost_of_launches(stand_in(FakeCupy), [Dense(CLASSES)], loss, LABELS, SGD()) == (1, [0, 0, 0])
