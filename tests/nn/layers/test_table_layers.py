"""The layers for tables equal PyTorch's autograd."""

import numpy as np
import pytest

from ffnn_gpu import Network
from ffnn_gpu.nn.layers import (
    CosineEmbedding,
    NTKDense,
    ParametricActivation,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    Scale,
)
from ffnn_gpu.testing import assert_close


def layers(edges):
    return [
        Scale(), ParametricActivation("mish"), NTKDense(3), PeriodicEmbedding(2, 5, 4), CosineEmbedding(2, 4),
        PiecewiseLinearEmbedding(edges, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("place", range(6))
def test_outputs_and_gradients_equal_autograd(backend, golden, place):
    stored = golden("table_layers")
    layer, x = layers(stored["edges"])[place], np.array(stored["x"])
    case = {name: np.array(values) for name, values in stored[type(layer).__name__].items()}
    network = Network(4, [layer], backend, "float64")
    network.params.assign({slot.name: case[slot.name[2:]] for slot in network.params.slots})
    ws = network.workspace(len(x), input_gradient=True)
    a = backend.to_host(network.forward(backend.asarray(x), ws))
    assert_close(a, case["a"], 1e-14, "a")
    dx = backend.to_host(network.backward(backend.asarray(case["da"].copy()), ws))
    assert_close(dx, case["dx"], 1e-13, "dx")
    for slot in network.params.slots:
        name = "d" + slot.name[2:]
        assert_close(backend.to_host(getattr(network.params.views[0], name)), case[name], 1e-13, name)
