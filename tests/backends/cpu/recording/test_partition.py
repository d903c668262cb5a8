"""Losses with weights of rows equal the reference, however many threads share the rows."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from ffnn_gpu import SGD, Dense, Network, train_step
from ffnn_gpu.backends.cpu.compiled_backend import CompiledBackend
from ffnn_gpu.backends.cpu.recording.immediate import Immediate
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.nn.losses.standard import LOSSES, PointwiseLoss
from ffnn_gpu.testing import assert_close, tolerance

REFERENCE = Backend()
ROWS = 20_011  # a prime: the last part of the rows is shorter
THREADS = (1, 2, 3, 4)
POINTWISE = [name for name, loss in LOSSES.items() if isinstance(loss, PointwiseLoss)]


def weights(rng):
    """Return weights of very different sizes: those of other rows would give another loss."""
    w = rng.random(ROWS)
    w[: ROWS // 2] *= 1e-3
    w[::7] = 0
    return w


def data(name, O, rng):
    """Return outputs and targets, of which the later rows have the larger losses."""
    size = np.linspace(0.1, 1, ROWS)[:, None]
    z = np.clip(rng.normal(size=(ROWS, O)) * size, -3, 3)
    if name == "binary_cross_entropy":
        z = 0.5 + 0.4 * size * np.tanh(z)
    y = rng.integers(0, 2, (ROWS, O)).astype(float)
    return z, 2 * y - 1 if name == "hinge" else y


@pytest.fixture
def chunks(monkeypatch):
    """The numbers of chunks of all commands so far."""
    seen, run = [], Immediate._run
    monkeypatch.setattr(
        Immediate, "_run", lambda self, f, operands, n: (seen.append(n), run(self, f, operands, n))[1]
    )
    return seen


def compare(backend, operation, arrays, *more, kind=None):
    """Compare value and gradient in float32 with those of the reference in float64, of the same numbers."""
    found = []
    for each, dtype in ((backend, "float32"), (REFERENCE, "float64")):
        given = [a.astype("float32").astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
        rest = [m.astype("float32").astype(dtype) if isinstance(m, np.ndarray) else m for m in more]
        dz = np.full(arrays[0].shape, np.nan, dtype)
        first = [] if kind is None else [kind]
        found.append((getattr(each, operation)(*first, *given, *rest, dz=dz), dz))
    (value, dz), (want, want_dz) = found
    relative = tolerance("network", "float32")
    assert abs(value - want) <= relative * abs(want), (operation, kind, more, value, want)
    assert_close(dz, want_dz, relative, f"gradient of {operation}")


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("O", [1, 5])
def test_weighted_pointwise_losses_of_any_parts_equal_the_reference(threads, O, chunks):
    backend, rng = CompiledBackend(threads), np.random.default_rng(0)
    for name in POINTWISE:
        z, y = data(name, O, rng)
        compare(backend, "pointwise_loss", (z, y, weights(rng)), kind=LOSSES[name])
    assert (max(chunks) > 1) == (threads > 1)


@pytest.mark.parametrize("threads", THREADS)
def test_weighted_cross_entropies_of_any_parts_equal_the_reference(threads, chunks):
    backend, rng = CompiledBackend(threads), np.random.default_rng(1)
    z, w, v = rng.normal(size=(ROWS, 3)) * np.linspace(0.1, 3, ROWS)[:, None], weights(rng), rng.random(3)
    q, labels = rng.dirichlet(np.ones(3), ROWS), rng.integers(0, 3, ROWS)
    for y in (labels, labels.astype(np.int32), q):
        for class_weight, smoothing in ((None, 0.0), (v, 0.0), (None, 0.1), (v, 0.1)):
            compare(backend, "softmax_cross_entropy", (z, y, w), class_weight, smoothing)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    found = []
    for each, dtype in ((backend, "float32"), (REFERENCE, "float64")):
        dp = np.full(z.shape, np.nan, dtype)
        given = [a.astype("float32").astype(dtype) for a in (p, q, w)]
        found.append((each.cross_entropy(*given, dp, 1e-12), dp))
    assert found[0][0] == pytest.approx(float(found[1][0]), rel=1e-5)
    assert_close(found[0][1], found[1][1], tolerance("network", "float32"), "dp")
    assert (max(chunks) > 1) == (threads > 1)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(
    "name", ["mean_squared_error", "binary_cross_entropy_with_logits", "softmax_cross_entropy"]
)
def test_recorded_steps_with_weights_equal_the_reference_on_any_number_of_threads(name, threads):
    rng, found = np.random.default_rng(2), []
    x, w = rng.normal(size=(ROWS, 2)) * np.linspace(0.1, 1, ROWS)[:, None], weights(rng)
    O = 3 if name == "softmax_cross_entropy" else 1
    y = rng.integers(0, O, ROWS) if O > 1 else rng.integers(0, 2, (ROWS, 1)).astype(float)
    for backend in (CompiledBackend(threads), REFERENCE):
        network = Network(2, [Dense(O)], backend, "float64", seed=3)
        ws, optimizer = network.workspace(ROWS), SGD(0.5)
        losses = [train_step(network, LOSSES[name], optimizer, x, y, ws, w) for _ in range(3)]
        found.append((np.array(losses, float), network.params.theta))
        assert [recording.reason for recording in ws.recordings] == [""] * (backend is not REFERENCE)
    for got, want in zip(*found, strict=True):
        assert_close(got, want, 4 * tolerance("network", "float64", ROWS), name)
