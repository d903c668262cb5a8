"""Which steps and predictions are one kernel, in eager runs and in graphs, and that others are as before."""

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    Adam,
    Dense,
    Dropout,
    LayerNorm,
    Network,
    ShapeError,
    fit,
    softmax_cross_entropy,
    train_step,
)
from ffnn_gpu.backends.cuda.cublaslt import matmul as cublaslt
from ffnn_gpu.backends.cuda.cublaslt.store import CHOICE
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.backends.cuda.fused import launches, waiting
from ffnn_gpu.nn.losses import MeanOverRows
from tests.backends.cuda.emulated_cupy import CupyWithCublasLt, emulator
from tests.backends.cuda.fake_cupy import installed, refusing
from tests.backends.cuda.fused.stacks import CASES, REFERENCE, kernels

(WIDTH, HIDDEN, CLASSES), B = CASES[0].widths, 40
LAYERS = CASES[0].layers
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(B, WIDTH)), RNG.integers(0, CLASSES, B).astype(np.int32)


def made(monkeypatch, times=(1.0, 2.0)):
    """Return CupyBackend on the emulator, where timing gives these milliseconds, the kernel's first."""
    emulator.require()
    monkeypatch.setattr(cublaslt, "store_path", lambda *names: None)
    with installed(monkeypatch, CupyWithCublasLt(stacks=True)):
        backend = CupyBackend()
    backend.kernels.compile(*(kernel for case in CASES for kernel in kernels(backend, case)))
    given = iter(times * 8)
    monkeypatch.setattr(launches, "milliseconds", lambda cupy, work: work() or next(given))
    return backend


@pytest.fixture
def backend(monkeypatch):
    return made(monkeypatch)


def stack_launches(backend):
    return sum(n for name, n in backend.xp.launched.items() if name.startswith("dense_stack"))


class Descent:
    """An optimizer from elsewhere, which computes with arrays: θ ← θ − ∇θ / 2"""

    def step(self, params, lr=None):
        params.theta -= 0.5 * params.grad
        params.refresh()


class StateOfGradient(SGD):
    """An optimizer whose state reads ∇θ as an array."""

    def state(self, params):
        params.grad.sum()
        return super().state(params)


class Training:
    """Steps of a network on X and Y; `step()` returns the loss."""

    def __init__(
        self, backend, layers=LAYERS, loss=CASES[0].loss, dtype="bfloat16", y=Y, rule=None, **options
    ):
        self.network = Network(WIDTH, layers, backend, dtype, seed=2)
        self.ws = self.network.workspace(B, **options)
        self.x = backend.asarray(X, self.network.compute_dtype)
        self.y, self.loss, self.rule = backend.asarray(y), loss, rule or SGD(0.5)
        backend.xp.launched.clear()

    def step(self):
        return train_step(self.network, self.loss, self.rule, self.x, self.y, self.ws, checked=True)

    def numbers(self):
        """Return the loss of a step and θ after it, as bytes."""
        backend, value = self.network.backend, self.step()
        return backend.to_host(value).tobytes(), backend.to_host(self.network.params.theta).tobytes()


def test_captured_steps_replay_the_kernel_with_the_same_numbers(backend):
    eager, captured = Training(backend), Training(backend)
    wanted = [eager.numbers() for _ in range(3)]
    step = backend.capture(captured.step, operations_only=True)
    captured.step = step
    assert [captured.numbers() for _ in range(3)] == wanted
    assert len(backend.xp.graphs) == 1 and backend.xp.graphs[0].launched == 2
    backend.xp.launched.clear()
    captured.step()
    assert stack_launches(backend) == 2 and len(backend.xp.launched) == 4  # and advance and sgd


def test_fit_and_predict_run_the_kernel(backend):
    network = Network(WIDTH, LAYERS, backend, "bfloat16", seed=1)
    other = Network(WIDTH, LAYERS, REFERENCE, "bfloat16", seed=1)
    rows = [
        fit(each, CASES[0].loss, Adam(0.01), (X, Y), epochs=1, batch_size=B, verbose=0).rows
        for each in (network, other)
    ]
    assert stack_launches(backend) > 0
    np.testing.assert_allclose(*([row["loss"] for row in each] for each in rows), rtol=2e-3)
    network.predict(X)  # times both ways
    backend.xp.launched.clear()
    z = network.predict(X)
    assert stack_launches(backend) == len(backend.xp.launched) == 1
    np.testing.assert_allclose(z, other.predict(X), atol=0.05)


@pytest.mark.parametrize("faster", [True, False])
def test_faster_way_is_timed_once_and_stored(monkeypatch, faster):
    backend = made(monkeypatch, (1.0, 2.0) if faster else (2.0, 1.0))
    training = Training(backend)
    stored = {}
    monkeypatch.setattr(backend.cublaslt.store, "get", stored.get)
    monkeypatch.setattr(backend.cublaslt.store, "put", lambda key, value: stored.update({key: value}))
    training.step()
    (key,) = [key for key in stored if "dense_stack" in key]
    assert key.startswith(CHOICE) and stored[key] == bytes([faster])
    backend.xp.launched.clear()
    training.step()
    assert stack_launches(backend) == 2 * faster
    stored[key] = bytes([not faster])
    backend.xp.launched.clear()
    training.step()
    assert stack_launches(backend) == 2 * (not faster)


Q = np.eye(CLASSES, dtype=np.float32)[Y]
OTHERS = {
    "wide": {"layers": [Dense(129, "relu"), Dense(CLASSES)]},
    "dropout of outputs": {"layers": [Dense(CLASSES, "relu"), Dropout(0.2)]},
    "dropout of inputs": {"layers": [Dropout(0.2), Dense(CLASSES)]},
    "normalization": {"layers": [Dense(HIDDEN, "relu"), LayerNorm(), Dense(CLASSES)]},
    "float32": {"dtype": "float32"},
    "soft targets": {"y": Q},
    "mean over rows": {"loss": MeanOverRows("softmax_cross_entropy")},
    "input gradient": {"input_gradient": True},
    "optimizer from elsewhere": {"rule": Descent()},
    "state from elsewhere": {"rule": StateOfGradient(0.5)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_steps_are_launched_one_by_one_with_the_same_numbers(backend, name, monkeypatch):
    waited = Training(backend, **OTHERS[name])
    numbers = waited.numbers()
    assert stack_launches(backend) == 0 and backend.xp.launched
    monkeypatch.setattr(CupyBackend, "use_fused", False)
    assert Training(backend, **OTHERS[name]).numbers() == numbers


def test_error_within_a_step_leaves_nothing_waiting(backend):
    training = Training(backend)
    wanted, training.y = training.y, training.y[:-1]
    with pytest.raises(ShapeError, match="39"):
        train_step(
            training.network, softmax_cross_entropy, training.rule, training.x, training.y, training.ws
        )
    assert backend.waiting is None
    training.y = wanted
    backend.xp.launched.clear()
    training.step()
    assert stack_launches(backend) > 0


def test_batch_without_rows_has_no_kernel(backend):
    training = Training(backend)
    training.x, training.y, training.ws = training.x[:0], training.y[:0], training.ws.first(0)
    training.step()
    assert stack_launches(backend) == 0


ANOTHER = {
    "rate": lambda rate: rate / 2,
    "seed": lambda seed: seed + 1,
    "step": lambda step: step.copy(),
    "layer": lambda layer: layer + 1,
    "row": lambda row: row + 1,
    "factor": lambda factor: None,
}


@pytest.mark.parametrize("name", ANOTHER)
def test_dropout_that_draws_another_mask_backward_is_launched_by_itself(backend, name, monkeypatch):
    layers = [Dense(HIDDEN, "relu"), Dropout(0.4, "flat_cos"), Dense(CLASSES)]

    def backward(self, backend, p, da, buf):
        mask = dict(zip(("rate", "seed", "step", "layer", "row", "factor"), self._of_mask(buf), strict=True))
        return backend.dropout_backward(da, buf.mask, **mask | {name: ANOTHER[name](mask[name])})

    monkeypatch.setattr(Dropout, "backward", backward)
    waited = Training(backend, layers)
    numbers = waited.numbers()
    assert stack_launches(backend) == 0 and backend.xp.launched
    monkeypatch.setattr(CupyBackend, "use_fused", False)
    assert Training(backend, layers).numbers() == numbers


def test_steps_and_predictions_of_a_pack_do_not_wait(backend, monkeypatch):
    network = Network(WIDTH, LAYERS, backend, "bfloat16", members=3)
    monkeypatch.setattr(waiting, "_collected", refusing(AssertionError("operations of a pack wait")))
    network.predict(X)
    x, y = backend.asarray(X, network.compute_dtype), backend.asarray(Y)
    train_step(network, CASES[0].loss, SGD(0.5), x, y, network.workspace(B), checked=True)
    assert stack_launches(backend) == 0 and backend.xp.launched
