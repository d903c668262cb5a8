"""Training and prediction of whole networks on a GPU, and on an emulated GPU, which also tests these tests.

"emulated" is CupyBackend with kernels that run on this CPU, "cupy" is the GPU. test_cupy_backend.py
tests single operations, and test_graphs.py tests CUDA graphs.
"""

import functools
import logging
import threading

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Backend,
    BatchNorm,
    Dense,
    DeviceOutOfMemoryError,
    Dropout,
    LayerNorm,
    Lion,
    Nadam,
    Network,
    Residual,
    RMSprop,
    evaluate,
    fit,
    gelu,
    get_backend,
    load,
    relu,
    save,
    softmax_cross_entropy,
    tanh,
    train_step,
)
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.testing import assert_close, assert_no_worse, assert_parity, tolerance
from tests.backends.cuda.emulated_cupy import CupyWithCublasLt, emulator
from tests.backends.cuda.fake_cupy import FakeCupy, installed, run_python
from tests.test_mixed_precision import one_pass, yardstick

GPU = pytest.param("cupy", marks=pytest.mark.gpu)
DTYPES = [name for name in ("float32", "float64", "bfloat16", "float16") if name in Backend.dtypes]
LAYERS = [
    Dense(9, tanh),
    LayerNorm(),
    Dropout(0.3),
    Residual([Dense(6, gelu), BatchNorm(), Dense(9)]),
    Dense(3),
]
OPTIMIZERS = [
    SGD(lr=0.1), SGD(lr=0.1, momentum=0.9, nesterov=True, l2=1e-2, l1=1e-3), RMSprop(momentum=0.5),
    Adagrad(clip_norm=0.1), Adam(l2=1e-2, ema=0.9), AdamW(clip_norm=1.0, clip_value=0.1), Nadam(), Lion(),
]  # fmt: skip
ROWS = 16
RNG = np.random.default_rng(1)
X, LABELS = RNG.normal(size=(5 * ROWS, 5)), RNG.integers(0, 3, 5 * ROWS)


@functools.cache
def over(fake_cupy):
    """Return CupyBackend over this fake CuPy. Cached, so the emulator compiles kernels.cu once."""
    with pytest.MonkeyPatch.context() as patch, installed(patch, fake_cupy()):
        backend = CupyBackend(0)
        backend.use_kernels = CupyBackend.use_kernels
        return backend


@pytest.fixture(params=["emulated", GPU])
def device(request):
    """Return the emulated and the real backend. Without a GPU, pytest_ffnn_gpu skips or fails the latter."""
    if request.param == "cupy":
        return get_backend("cupy")
    emulator.require()
    return over(CupyWithCublasLt)


def compute_dtype(network):
    """Return the dtype of the network's products and activations."""
    return getattr(network, "compute_dtype", network.dtype)


class Trainer:
    """A network and the arrays of a step, which stay at the same addresses, as in `fit`."""

    def __init__(self, backend, dtype="float32", captured=True):
        self.network, self.optimizer = (
            Network(5, LAYERS, backend, dtype, seed=3),
            AdamW(clip_norm=1.0, ema=0.9),
        )
        self.x = backend.zeros((ROWS, 5), compute_dtype(self.network))
        self.y, self.ws = backend.zeros((ROWS,), np.int64), self.network.workspace(ROWS)
        self.step = backend.capture(self._step) if captured else self._step

    def _step(self, n):
        x, y, ws = self.x[:n], self.y[:n], self.ws.first(n)
        return train_step(self.network, softmax_cross_entropy, self.optimizer, x, y, ws, checked=True)

    def train(self, n, first, lr=None):
        """Train a step on n rows of X, from row `first`, and return the loss."""
        backend, rows = self.network.backend, slice(first, first + n)
        backend.copy(backend.asarray(X[rows], self.x.dtype), out=self.x[:n])
        backend.copy(backend.asarray(LABELS[rows]), out=self.y[:n])
        if lr is not None:
            self.optimizer.set_lr(self.network.params, lr)
        return float(self.step(n))

    def bits(self):
        """Return the bytes of every vector that training changes."""
        state, params, backend = (
            self.optimizer.state(self.network.params),
            self.network.params,
            self.network.backend,
        )
        vectors = params.theta, params.state, params.step, state.m, state.v, state.mean, state.scalars
        return [backend.to_host(vector).tobytes() for vector in vectors]


# --- equal to the CPU up to rounding


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_ten_steps_of_each_optimizer_equal_the_reference(device, optimizer, dtype):
    network, few = Network(5, LAYERS, Backend(), dtype, seed=1), slice(21)
    both = Backend(), device
    assert_parity(
        network, X[few], LABELS[few], softmax_cross_entropy, backends=both, optimizer=optimizer, steps=10
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", [(30, 10), (130, 70, 10)])
def test_error_of_a_pass_is_close_to_the_error_on_the_cpu(device, widths, dtype):
    """Errors are relative to float64. Activations are smooth: at a ReLU, rounding could change the slope."""
    layers, x, y = (
        [*(Dense(width, tanh) for width in widths[:-1]), Dense(widths[-1])],
        X.repeat(10, axis=1),
        LABELS,
    )
    there = Network(50, layers, device, dtype, seed=1)
    got, other, exact = (one_pass(network, x, y) for network in (there, there.to("numpy"), yardstick(there)))
    for name in exact:
        assert_no_worse(got[name], other[name], exact[name], f"{name} in {dtype}", compute_dtype(there))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_over_a_large_batch_are_exact(device, dtype):
    B, largest = 1 << 16, 1 << (20 if dtype in ("float32", "float64") else 4)
    # In float64 every sum is exact; in float32 the sums of the smaller numbers are.
    delta = np.random.default_rng(2).integers(0, largest, (B, 3))
    network = Network(1, [Dense(3)], device, dtype)
    p, x = network.params.views[0], device.zeros((B, 1), compute_dtype(network))
    device.affine_gradients(x, device.asarray(delta, x.dtype), dW=p.dW, db=p.db)
    assert device.to_host(p.db).tolist() == delta.sum(axis=0).astype(p.db.dtype).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_checkpoint_loads_without_cupy(device, dtype, tmp_path):
    network = Network(5, LAYERS, device, dtype, seed=2)
    fit(network, softmax_cross_entropy, Adam(), (X, LABELS), epochs=1, verbose=0)
    save(network, tmp_path / "model")
    np.save(tmp_path / "x.npy", X)
    run_python(
        "import sys; sys.modules['cupy'] = None\n"
        "import numpy as np, ffnn_gpu\n"
        f"x = np.load({str(tmp_path / 'x.npy')!r})\n"
        f"z = ffnn_gpu.load({str(tmp_path / 'model')!r}, 'numpy').predict(x)\n"
        f"np.save({str(tmp_path / 'z.npy')!r}, z)"
    )
    relative = tolerance("parity", compute_dtype(network), max(network.widths), len(LAYERS))
    assert_close(np.load(tmp_path / "z.npy"), network.predict(X), relative)
    assert load(tmp_path / "model", device).predict(X).tobytes() == network.predict(X).tobytes()


@pytest.mark.parametrize("place", ["numpy", GPU])
@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "float64"])
def test_digits_are_learnt_in_every_type(place, dtype):
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] - 8) / 8, y[order]
    network = Network(64, [Dense(128, relu), Dropout(0.1), Dense(64, relu), Dense(10)], place, dtype, seed=0)
    fit(
        network,
        softmax_cross_entropy,
        AdamW(lr=2e-3),
        (x[:1400], y[:1400]),
        epochs=15,
        batch_size=64,
        verbose=0,
    )
    accuracy = evaluate(network, softmax_cross_entropy, (x[1400:], y[1400:]), metrics=["accuracy"])[
        "accuracy"
    ]
    assert accuracy > 0.96  # float32 on a CPU, seeds 0 to 5: 0.980 to 0.995


# --- reproducible bit for bit


@pytest.mark.parametrize("dtype", DTYPES)
def test_captured_steps_equal_eager_steps_bit_for_bit_in_every_type(device, dtype, caplog):
    captured, eager = Trainer(device, dtype), Trainer(device, dtype, captured=False)
    with caplog.at_level(logging.INFO, "ffnn_gpu"):
        for k, n in enumerate([ROWS, ROWS, ROWS, 7, 7, ROWS, 7]):
            batch = n, 4 * k, 0.02 / (k + 1) if k % 3 == 2 else None
            assert captured.train(*batch) == eager.train(*batch), f"the loss of step {k}"
            assert captured.bits() == eager.bits(), f"step {k}"
    assert not [message for message in caplog.messages if "one kernel at a time" in message]


def test_two_training_runs_from_one_seed_end_with_the_same_bits(device):
    assert fitted(device, 7) == fitted(device, 7)


def fitted(backend, seed):
    network = Network(5, LAYERS, backend, seed=seed)
    fit(
        network,
        softmax_cross_entropy,
        AdamW(lr=0.01),
        (X, LABELS),
        epochs=2,
        batch_size=ROWS,
        seed=seed,
        verbose=0,
    )
    return backend.to_host(network.params.theta).tobytes()


@pytest.mark.parametrize("place", ["strict", GPU])
def test_results_of_threads_that_share_a_device_are_independent(place):
    # The emulator can launch from one thread only, so the strict device is used instead.
    device = get_backend("cupy") if place == "cupy" else over(FakeCupy)
    shared, seeds, found = Network(5, LAYERS, device), (0, 1), {}
    x = X, np.tile(X[::-1], (50, 1))
    alone = {seed: (fitted(device, seed), shared.predict(x[seed]).tobytes()) for seed in seeds}
    start = threading.Barrier(2)

    def work(seed):
        start.wait()
        predictions = {shared.predict(x[seed]).tobytes() for _ in range(100)}
        found[seed] = fitted(device, seed), *predictions

    threads = [threading.Thread(target=work, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_training_continues_after_running_out_of_memory(device):
    trainer, other = Trainer(device), Trainer(device)
    for k in range(6):
        assert trainer.train(ROWS, k) == other.train(ROWS, k)
        if k == 3:
            numbers = r"GPU 0 has no room: .* [\d,]{15,} bytes .*; [\d,]+ of [\d,]+ bytes are free"
            with pytest.raises(DeviceOutOfMemoryError, match=numbers):
                trainer.network.workspace(1 << 40)
            with pytest.raises(DeviceOutOfMemoryError, match=numbers):
                Network(1 << 20, [Dense(1 << 24)], device)
    assert trainer.bits() == other.bits()
