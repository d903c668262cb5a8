"""Steps recorded as CUDA graphs, on fakes of CuPy that record like CUDA (tape.py) and on a GPU."""

import logging
import threading

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    Muon,
    Nadam,
    Network,
    Residual,
    ShapeError,
    fit,
    gelu,
    get_backend,
    relu,
    softmax_cross_entropy,
    train_step,
)
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.backends.cuda.graphs import MOST_GRAPHS
from ffnn_gpu.nn.schedules import Cosine, StepDecay
from ffnn_gpu.training.callbacks import Callback
from ffnn_gpu.training.step import Step
from tests.backends.cuda.emulated_cupy import CupyWithCublasLt, emulator
from tests.backends.cuda.fake_cupy import FakeCupy, installed

LAYERS = [
    Dense(8, relu),
    BatchNorm(),
    Dropout(0.3, "flat_cos"),
    Residual([LayerNorm(), Dense(8, gelu)]),
    Dense(3),
]
RNG = np.random.default_rng(8)
X, LABELS, WEIGHT = RNG.normal(size=(27, 5)), RNG.integers(0, 3, 27), RNG.random(27)


def fake_backend(kind):
    """Return CupyBackend with emulated kernels and cublasLt, or with recordable array functions."""
    if kind == "kernels":
        emulator.require()
    with (
        pytest.MonkeyPatch.context() as patch,
        installed(patch, CupyWithCublasLt() if kind == "kernels" else FakeCupy()),
    ):
        backend = CupyBackend()
    backend.use_kernels = kind == "kernels"
    if kind != "kernels":
        backend.can_capture = lambda: (True, "")
    return backend


@pytest.fixture(params=["array functions", "kernels", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    return get_backend("cupy") if request.param == "gpu" else fake_backend(request.param)


@pytest.fixture
def fake():
    """Return CupyBackend on a fake CuPy, whose recordings a test can inspect."""
    return fake_backend("array functions")


class Training:
    """A network, its optimizer and one batch on the device."""

    def __init__(self, backend, optimizer):
        self.network, self.optimizer = Network(5, LAYERS, backend, seed=3), optimizer
        self.ws = self.network.workspace(27)
        self.x, self.y = backend.asarray(X, "float32"), backend.asarray(LABELS.astype(np.int32))
        self.w = backend.asarray(WEIGHT, "float32")

    def step(self, rows):
        x, y, w = self.x[:rows], self.y[:rows], self.w[:rows]
        return train_step(
            self.network, softmax_cross_entropy, self.optimizer, x, y, self.ws.first(rows), w, checked=True
        )

    def numbers(self):
        params = self.network.params
        vectors = [params.theta, params.state, *vars(self.optimizer.state(params)).values()]
        return [params.backend.to_host(vector).tobytes() for vector in vectors]


@pytest.mark.parametrize(
    "optimizer",
    [SGD(0.1, momentum=0.9), AdamW(0.01, clip_norm=0.5), Nadam(0.01, l2=0.1, ema=0.9), Muon(clip_norm=1.0)],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_captured_steps_equal_plain_steps_bit_for_bit(device, optimizer):
    plain, recorded = Training(device, optimizer), Training(device, optimizer)
    captured = device.capture(recorded.step)
    for i, rows in enumerate([27, 27, 27, 11, 27, 11, 11, 2, 27]):  # a new shape needs a new recording
        for training in (plain, recorded):
            optimizer.set_lr(training.network.params, 0.1 / (1 + i))
        assert float(captured(rows)) == float(plain.step(rows))
        assert recorded.numbers() == plain.numbers()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sample_weight": WEIGHT},
        {"accumulate": 2},
        {"schedule": Cosine()},
        {"schedule": StepDecay(every=15)},
        {"optimizer": AdamW(0.01, weight_decay=0.5, decay_schedule="coslog4")},
        {"drop_last": True, "validation": 0.2},
    ],
    ids=["plain", "weights", "micro-batches", "cosine", "steps", "decay", "validation"],
)
def test_fit_with_graphs_equals_fit_without_bit_for_bit(device, settings, monkeypatch):
    def trained(use_graphs):
        monkeypatch.setattr(CupyBackend, "use_graphs", use_graphs)
        network = Network(5, LAYERS, device, seed=2)
        history = fit(
            network,
            softmax_cross_entropy,
            data=(X, LABELS),
            epochs=4,
            batch_size=5,
            verbose=0,
            **{"optimizer": Adam(0.01)} | settings,
        )
        return [row["loss"] for row in history.rows], network.params.to_host()

    (losses, numbers), (expected, plain) = trained(True), trained(False)
    assert losses == expected
    assert all(numbers[name].tobytes() == plain[name].tobytes() for name in plain)


def test_fit_launches_several_steps_at_once_and_the_smaller_last_batch_separately(fake):
    fit(
        Network(5, LAYERS, fake),
        softmax_cross_entropy,
        Adam(),
        (X, LABELS),
        epochs=5,
        batch_size=5,
        verbose=0,
    )
    assert fake.xp.captures == 3  # four minibatches of 5 rows after the first, five, and one of 2
    assert [graph.launched for graph in fake.xp.graphs] == [1, 4, 4]


def test_fit_runs_one_step_of_a_size_uncaptured_and_records_the_next_ones_at_once(fake, monkeypatch):
    uncaptured, step = [], Step.__call__

    def watched(self, j, n, lr):
        if fake.may_wait():
            uncaptured.append(n)
        return step(self, j, n, lr)

    monkeypatch.setattr(Step, "__call__", watched)
    network = Network(5, LAYERS, fake)
    fit(network, softmax_cross_entropy, Adam(), (X, LABELS), epochs=2, batch_size=5, verbose=0)
    assert uncaptured == [5, 2] and fake.xp.captures == 3 and network.params.step.item() == 12


def test_large_minibatches_are_launched_one_by_one(fake):
    assert [fake.steps_per_launch(rows) for rows in (0, 1, 128, 2**13, 2**16, 2**20)] == [16, 16, 16, 8, 1, 1]


def test_callback_after_each_step_is_called_at_each_step(fake):
    class Steps(Callback):
        def __init__(self):
            self.seen = []

        def after_step(self, run):
            self.seen.append((run.steps_done, run.network.params.step.item()))

    each = Steps()
    fit(
        Network(5, LAYERS, fake),
        softmax_cross_entropy,
        Adam(),
        (X, LABELS),
        epochs=3,
        batch_size=5,
        verbose=0,
        callbacks=[each],
    )
    assert each.seen == [(i, i) for i in range(1, 19)]


def test_python_number_is_frozen_in_the_recording(fake):
    total, factor = fake.zeros((1,), "float32"), {"is": 1.0}
    captured = fake.capture(lambda: fake.add_scaled(total, fake.xp.ones(1, "float32"), factor["is"]))
    for factor["is"] in (1.0, 10.0, 100.0):
        captured()
    assert total.tolist() == [21.0]  # 1 unrecorded, 10 recorded, 10 replayed


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda backend, x: float(x.sum()),
        lambda backend, x: backend.asarray(np.ones(3)),
        lambda backend, x: backend.to_host(x),
    ],
    ids=["float", "upload", "download"],
)
def test_step_that_cannot_be_recorded_runs_unrecorded_and_logs_the_reason(fake, forbidden, caplog):
    x, calls = fake.zeros((3,), "float32"), []

    def step():
        calls.append(1)
        x.__iadd__(1)
        forbidden(fake, x)

    captured = fake.capture(step)
    with caplog.at_level(logging.WARNING, "ffnn_gpu"):
        for _ in range(4):
            captured()
    assert x.tolist() == [4.0] * 3 and len(calls) == 5  # the failed recording changed nothing
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "one kernel at a time: recording it ended in Refusal: " in caplog.text


def test_error_of_the_step_itself_is_raised(fake):
    network = Network(5, LAYERS, fake)
    captured = fake.capture(lambda x: network.forward(x, network.workspace(2)))
    x = fake.zeros((3, 5), "float32")
    for _ in range(3):
        with pytest.raises(ShapeError, match="x has 3 rows and the workspace 2"):
            captured(x)


def test_arguments_are_compared_by_identity(fake):
    x, y = fake.zeros((2,), "float32"), fake.zeros((2,), "float32")
    captured = fake.capture(lambda array, n: array.__iadd__(n))
    for array, n in [(x, 1), (y, 1), (x, 1), (x, 1), (y, 1), (x, 2), (x, 1)]:
        captured(array, n)
    assert (x.tolist(), y.tolist()) == ([6.0, 6.0], [2.0, 2.0])
    assert [graph.launched for graph in fake.xp.graphs] == [3, 1]


def test_numpy_numbers_are_compared_by_value(fake):
    captured = fake.capture(lambda n: fake.xp.ones(int(n), "float32"))
    for n in np.array([3, 2, 3, 3]):
        assert captured(n).shape == (n,)
    assert [graph.launched for graph in fake.xp.graphs] == [2]


def test_bound_methods_of_one_object_are_the_same_argument(fake):
    x = fake.zeros((2,), "float32")
    captured = fake.capture(lambda method: fake.copy(x + 1, out=x))
    for _ in range(4):
        captured(softmax_cross_entropy.targets)
    assert x.tolist() == [4.0, 4.0] and [graph.launched for graph in fake.xp.graphs] == [3]


def test_true_and_1_are_different_arguments(fake):
    captured = fake.capture(lambda flag: fake.xp.ones(1 if flag is True else 2, "float32"))
    for flag in (1, True, 1, True):
        assert captured(flag).shape == ((1,) if flag is True else (2,))


def test_number_of_recordings_is_limited(fake, caplog):
    captured = fake.capture(lambda array: array.__iadd__(1))
    arrays = [fake.zeros((1,), "float32") for _ in range(MOST_GRAPHS + 5)]
    with caplog.at_level(logging.WARNING, "ffnn_gpu"):
        for _ in range(2):
            for array in arrays:
                captured(array)
    assert [array.tolist() for array in arrays] == [[2.0]] * len(arrays)
    assert f"more than {MOST_GRAPHS} sets of arguments" in caplog.text and len(caplog.records) == 1


def test_backend_that_cannot_capture_runs_unrecorded_and_logs_the_reason(fake, caplog, monkeypatch):
    monkeypatch.setattr(fake, "can_capture", lambda: (False, "no cublasLt"))
    with caplog.at_level(logging.INFO, "ffnn_gpu"):
        captured = fake.capture(lambda: 3)
        assert [captured() for _ in range(3)] == [3, 3, 3]
    assert "no cublasLt" in caplog.text and not fake.xp.captures


def test_memory_of_a_recording_is_freed_with_it(fake):
    def captured(step):
        run = fake.capture(step)
        for _ in range(3):
            run()
        return run

    run = captured(lambda: fake.xp.ones(3, "float32"))
    captured(lambda: float(fake.xp.ones(3, "float32").sum()))  # cannot be recorded
    assert len(fake.xp.pools_to_free) == 1
    del run
    assert not fake.xp.pools_to_free


def test_another_thread_may_synchronize_during_a_recording(fake):
    x = fake.zeros((2,), "float32")

    def step():
        other = threading.Thread(target=fake.synchronize)
        other.start()
        other.join()
        x.__iadd__(1)

    captured = fake.capture(step)
    for _ in range(3):
        captured()
    assert x.tolist() == [3.0, 3.0] and [graph.launched for graph in fake.xp.graphs] == [2]


def test_recording_allocates_from_its_own_memory_pool(fake):
    """A temporary of the recording must not come from the common pool; the fake CuPy would raise."""
    x = fake.zeros((2,), "float32")
    captured = fake.capture(lambda: fake.copy(x + 1, out=x))
    for _ in range(3):
        captured()
    assert x.tolist() == [3.0, 3.0] and fake.xp.captures == 1
