"""Embedding as commands: equal bits on any number of threads, and no call of Python code."""

import numpy as np
import pytest

from ffnn_gpu import Adam, Dense, Network, relu, softmax_cross_entropy, train_step
from ffnn_gpu.backends.choice import CompiledBackend, NumpyBackend
from ffnn_gpu.nn.layers import Embedding

pytest.importorskip("llvmlite")

LEVELS, WIDTHS, N, B = (400, 3, 1000), (16, 2, 30), 4, 700
SHAPE = B, N + sum(WIDTHS)


def rows(dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, n, B) for n in LEVELS], axis=1)
    return np.concatenate([rng.normal(size=(B, N)), codes], axis=1).astype(dtype), rng.integers(0, 3, B)


def both_passes(backend, dtype):
    """Return a and dE."""
    rng, x = np.random.default_rng(1), rows(dtype)[0]
    E, da = (rng.normal(size=shape).astype(dtype) for shape in (np.dot(LEVELS, WIDTHS), SHAPE))
    a, dE = np.full(SHAPE, np.nan, dtype), np.full(E.shape, np.nan, dtype)
    backend.embedding(x, E, LEVELS, WIDTHS, out=a)
    backend.embedding_backward(da, x, LEVELS, WIDTHS, dE=dE, dx=None)
    return a, dE


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_commands_equal_numpy_bit_for_bit_on_any_number_of_threads(dtype, threads, monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", threads)
    for found, want in zip(
        both_passes(CompiledBackend(), dtype), both_passes(NumpyBackend(), dtype), strict=True
    ):
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_steps_and_predictions_are_recorded_without_a_call(dtype):
    levels = (200, 3, 250)  # that every type counts
    layers, optimizer = [Embedding(levels, WIDTHS), Dense(8, relu), Dense(3)], Adam()
    networks = [Network(7, layers, make(), dtype) for make in (CompiledBackend, NumpyBackend)]
    x, y = rows(networks[0].compute_dtype)
    x[:, N:] %= np.array(levels).astype(x.dtype)
    spaces = [network.workspace(B) for network in networks]
    for _ in range(4):
        found, want = (
            train_step(network, softmax_cross_entropy, optimizer, x, y, ws)
            for network, ws in zip(networks, spaces, strict=True)
        )
        np.testing.assert_allclose(found, want, rtol=1e-2 if "16" in dtype else 1e-5)
    few = networks[0].workspace(4, training=False)
    networks[0].forward(x[:4], few)
    for recording in (*spaces[0].recordings, *few.recordings):
        assert recording.reason == "" and recording.table.calls == (None,)
    assert len(spaces[0].recordings) == len(few.recordings) == 1


def test_a_recorded_prediction_checks_its_codes():
    network, (x, _) = Network(7, [Embedding(LEVELS, WIDTHS), Dense(3)], CompiledBackend()), rows()
    ws = network.workspace(B, training=False)
    want = network.forward(x, ws).copy()
    for value in (3, -1, 0.5, np.nan, np.inf):
        wrong = x.copy()
        wrong[-1, 5] = value
        with pytest.raises(ValueError, match=f"x holds {value:g} at row 699, column 5"):
            network.forward(wrong, ws)
    np.testing.assert_array_equal(network.forward(x, ws), want)


def test_codes_that_change_between_the_passes_overwrite_no_other_memory():
    backend, (x, _) = CompiledBackend(), rows()
    x[3, N] = 1e9
    da, dE = np.ones(SHAPE, "float32"), np.zeros(np.dot(LEVELS, WIDTHS), "float32")
    with pytest.raises((IndexError, ValueError), match="code"):
        backend.embedding_backward(da, x, LEVELS, WIDTHS, dE=dE, dx=None)
