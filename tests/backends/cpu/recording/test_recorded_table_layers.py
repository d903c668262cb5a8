"""The layers for tables as commands: no call of Python code, and the numbers of a step without commands."""

import numpy as np
import pytest

from ffnn_gpu import Adam, Dense, Network, softmax_cross_entropy, train_step
from ffnn_gpu.backends.choice import CompiledBackend, NumpyBackend
from ffnn_gpu.nn.layers import (
    CosineEmbedding,
    NTKDense,
    ParametricActivation,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    Scale,
)

pytest.importorskip("llvmlite")

I, B = 7, 300
EDGES = (-1.0, -0.5, 0.0, 0.25, 1.0), (-0.5, 0.5), (0.0, 0.1, 0.2)
STACKS = {
    "scale": (Scale(), Dense(8, "tanh"), Scale(), Dense(3)),
    "periodic": (PeriodicEmbedding(5, 3, 3), Dense(8, "tanh"), PeriodicEmbedding(8, 17, 2), Dense(3)),
    "cosine": (CosineEmbedding(5, 4), Dense(8, "tanh"), CosineEmbedding(8, 18), Dense(3)),
    "parametric": (ParametricActivation("selu"), Dense(8), ParametricActivation("mish"), Dense(3)),
    "ntk": (NTKDense(6, "mish"), NTKDense(8, "relu", bias=False), NTKDense(3)),
    "bins": (
        PiecewiseLinearEmbedding(EDGES, 3),
        Dense(8, "tanh"),
        PiecewiseLinearEmbedding(EDGES * 2),
        Dense(3),
    ),
}


def rows(dtype):
    rng = np.random.default_rng(0)
    return rng.normal(size=(B, I)).astype(dtype), rng.integers(0, 3, B)


def networks(layers, dtype):
    """Return the same network, with scattered parameters, with commands and without."""
    pair = [Network(I, layers, make(), dtype) for make in (CompiledBackend, NumpyBackend)]
    for network in pair:
        rng = np.random.default_rng(1)
        network.params.assign({
            name: (value + rng.normal(0, 0.3, value.shape)).astype(value.dtype)
            for name, value in network.params.to_host().items()
        })  # fmt: skip
    return pair


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("stack", STACKS)
def test_steps_and_predictions_are_recorded_without_a_call(stack, dtype):
    pair, optimizer = networks(STACKS[stack], dtype), Adam(lr=1e-3)
    x, y = rows(pair[0].compute_dtype)
    spaces = [network.workspace(B) for network in pair]
    for _ in range(4):
        found, want = (
            train_step(network, softmax_cross_entropy, optimizer, x, y, ws)
            for network, ws in zip(pair, spaces, strict=True)
        )
        np.testing.assert_allclose(found, want, rtol=1e-2 if "16" in dtype else 1e-5)
    few = pair[0].workspace(4, training=False)
    pair[0].forward(x[:4], few)
    z = pair[0].forward(x[:4], few)
    np.testing.assert_allclose(
        z.astype(float), pair[1].predict(x[:4]).astype(float), rtol=0, atol=0.1 if "16" in dtype else 1e-4
    )
    for ws in (spaces[0], few):
        (recording,) = ws.recordings
        assert recording.reason == "" and recording.table.calls == (None,)
    assert all(np.isfinite(value).all() for value in pair[0].params.to_host().values())


@pytest.mark.parametrize("threads", ["2", "5"])
@pytest.mark.parametrize("stack", STACKS)
def test_gradients_have_the_same_bits_on_any_number_of_threads(stack, threads, monkeypatch):
    found = []
    for count in ("1", threads):
        monkeypatch.setenv("FFNN_GPU_THREADS", count)
        network = networks(STACKS[stack], "float32")[0]
        x, y = rows("float32")
        ws = network.workspace(B)
        for _ in range(2):
            train_step(network, softmax_cross_entropy, Adam(), x, y, ws)
        found.append(network.params.grad.copy())
    np.testing.assert_array_equal(*found)
