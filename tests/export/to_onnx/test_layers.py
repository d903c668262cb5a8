"""Each layer computes in ONNX what it computes in a network, and other layers are refused."""

from dataclasses import dataclass

import numpy as np
import pytest

from ffnn_gpu import Network
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.export.to_onnx import onnx_bytes
from ffnn_gpu.nn.layers import (
    Average,
    BatchNorm,
    CosineEmbedding,
    Dense,
    Dropout,
    Embedding,
    LayerNorm,
    LogSoftmax,
    NTKDense,
    ParametricActivation,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    Residual,
    Scale,
    Softmax,
)
from tests.export.models import scattered
from tests.export.runtime import assert_close, onnxruntime, session

RNG = np.random.default_rng(2)
X = RNG.normal(1000, 1, (40, 6))  # a variance as E[x²] − E[x]² in float32 would be wrong by 6 %

STACKS = {
    "dense": [Dense(5)],
    "without bias": [Dense(5, "tanh", bias=False)],
    "dropout": [Dropout(0.5), Dense(5)],
    "layer norm": [LayerNorm(eps=1e-3)],
    "batch norm": [BatchNorm(eps=1e-3)],
    "average": [
        Average([[Dense(4, "relu"), Dense(3), Softmax()], [BatchNorm(), Dense(3), Softmax()]], (0.7, 0.3)),
        Average([Dense(2, "tanh"), [LayerNorm(), Average([Dense(2), Dense(2)])]]),
    ],
    "residual": [LayerNorm(), Residual([Dense(4, "relu"), Residual([BatchNorm()]), Dense(6)])],
    "periodic": [LayerNorm(), PeriodicEmbedding(3, 5, 4, 0.3), Dense(5)],
    "cosine": [LayerNorm(), CosineEmbedding(3, 5, 0.3), Dense(5)],
    "parametric": [
        LayerNorm(),
        Dense(5),
        ParametricActivation("mish"),
        Dense(4),
        ParametricActivation("selu"),
    ],
    "ntk": [LayerNorm(), NTKDense(7, "tanh"), NTKDense(5, bias=False)],
    "bins": [
        LayerNorm(),
        PiecewiseLinearEmbedding([[-1, 0, 0.5, 1], [-1, 1], [-0.5, 0.5, 0.75]], 4),
        Dense(5),
    ],
    "scale": [Scale(), Dense(5)],
    "softmax": [LayerNorm(), Softmax()],
    "log softmax": [LayerNorm(), LogSoftmax()],
}


@pytest.mark.parametrize("layers", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layer_computes_the_same_in_onnx(layers, dtype):
    network, x = scattered(Network(6, layers, "numpy", dtype)), X.astype(dtype)
    (got,) = session(onnx_bytes(network)).run(None, {"x": x})
    assert got.dtype == dtype
    assert_close(got, network.predict(x), 1e-6 if dtype == "float32" else 1e-12)


def test_long_sum_of_numba_is_rounded_as_in_predict():
    """onnxruntime adds 256 products in a row, the tiles of CompiledBackend fewer, and so with less error.

    Only few rows: AMX's tiles, where there are any, multiply others with still less error.
    """
    pytest.importorskip("llvmlite", reason="llvmlite is not installed: a BLAS multiplies")
    network, x = scattered(Network(700, [Dense(40)], "numpy")), RNG.normal(size=(24, 700)).astype("float32")
    (got,) = session(onnx_bytes(network)).run(None, {"x": x})
    W, b = (array.astype(np.float64) for array in network.params.to_host().values())
    apart, wrong = (np.abs(got - other).mean() for other in (network.predict(x), x @ W + b))
    assert apart < 0.5 * wrong


@pytest.mark.parametrize("numbers", [0, 3])
def test_embedding_looks_up_its_codes_and_refuses_other_numbers(numbers):
    network = Network(numbers + 2, [Embedding((4, 3), (2, 5)), Dense(2)], "numpy")
    x = np.hstack([RNG.normal(size=(20, numbers)), RNG.integers(0, [4, 3], (20, 2))]).astype("float32")
    run = session(onnx_bytes(network))
    assert_close(run.run(None, {"x": x})[0], network.predict(x))
    for wrong in (-1, 4, 0.5, np.nan):
        x[3, numbers] = wrong
        with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument, match="out of"):
            run.run(None, {"x": x})


@dataclass(frozen=True, repr=False)
class Doubled(Dense):
    """A layer of a user, whose meaning the export cannot know."""


def test_layer_of_a_user_is_refused_by_its_place():
    network = Network(3, [Dense(3), Residual([Dense(4), Doubled(3)])], "numpy")
    with pytest.raises(
        ConfigurationError, match=r"layer 1\.layers\.1 is Doubled\(3\); ONNX export knows Dense"
    ):
        onnx_bytes(network)
