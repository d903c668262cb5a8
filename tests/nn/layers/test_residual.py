import numpy as np
import pytest

from ffnn_gpu import mean_squared_error
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.activations import gelu, tanh
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, LayerNorm, LogSoftmax, Residual, Softmax
from ffnn_gpu.nn.network import Network
from ffnn_gpu.testing import assert_close, check_gradients, tolerance


def batch(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


NESTS = {
    "dense": [Residual([Dense(3, tanh)])],
    "wider inside": [Residual([Dense(5, gelu), Dense(3)])],
    "layer norm first": [Residual([LayerNorm(), Dense(5, tanh), Dense(3)])],
    "batch norm inside": [Residual([Dense(4), BatchNorm(), Dense(3)])],
    "dropout first": [Residual([Dropout(0.5), Dense(3, tanh)])],
    "dropout last": [Residual([Dense(3, tanh), Dropout(0.5)])],
    "dropout alone": [Residual([Dropout(0.5)])],
    "softmax alone": [Residual([Softmax()]), Residual([LogSoftmax()])],
    "of residual": [Residual([Residual([Dense(3, tanh)])])],
    "of residuals": [
        Residual([Residual([Dense(3, tanh), Dropout(0.3)]), LayerNorm(), Residual([Softmax()])])
    ],
    "three deep": [Residual([Residual([Residual([Dense(2, gelu), Dense(3)]), BatchNorm()])]), Dense(2)],
    "after dense": [
        Dense(4, tanh),
        Residual([Dense(4, tanh)]),
        Residual([Dense(6, tanh), Dense(4)]),
        Dense(2),
    ],
}


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("B", [3, 4])
def test_residual_gradient_equals_slope_of_loss(backend, nest, B):
    network = Network(3, NESTS[nest], backend, "float64", seed=2)
    check_gradients(network, mean_squared_error, batch(B, 3), batch(B, network.widths[-1]))


@pytest.mark.parametrize("nest", NESTS)
def test_parameter_gradient_is_equal_with_and_without_dx(backend, nest):
    network = Network(3, NESTS[nest], backend, "float64", seed=2)
    x, found = backend.asarray(batch(4, 3)), []
    for wanted in (True, False):
        ws = network.workspace(4, input_gradient=wanted)
        network.forward(x, ws)
        network.backward(backend.asarray(batch(4, network.widths[-1], seed=1)), ws)
        found.append(np.array(backend.to_host(network.params.grad)))
    np.testing.assert_array_equal(*found)


def test_residual_adds_its_input(backend, dtype):
    network, x = Network(4, [Residual([Dense(4, tanh)])], backend, dtype), batch(5, 4).astype(dtype)
    inside = Network(4, [Dense(4, tanh)], backend, dtype)
    numbers = network.params.to_host()
    inside.params.assign({"0.W": numbers["0.layers.0.W"], "0.b": numbers["0.layers.0.b"]})
    assert_close(network.predict(x), x + inside.predict(x), tolerance("network", dtype, K=4), "x + f(x)")


def test_every_buffer_of_residual_has_the_dtype(backend, dtype):
    network = Network(3, NESTS["three deep"], backend, dtype)
    ws = network.workspace(4, input_gradient=True)
    z = network.forward(backend.asarray(batch(4, 3), network.dtype), ws)
    dx = network.backward(backend.asarray(batch(4, 2), network.dtype), ws)

    def dtypes(buffers):
        for buf in buffers:
            yield from (str(array.dtype) for array in vars(buf).values() if hasattr(array, "dtype"))
            yield from dtypes(getattr(buf, "layers", []))

    assert {str(z.dtype), str(dx.dtype), str(network.params.grad.dtype), *dtypes(ws.buffers)} == {dtype}


def test_residual_rejects_layers_that_change_the_width():
    with pytest.raises(ShapeError, match="change the width from 3 to 5"):
        Network(3, [Residual([Dense(4), Dense(5)])], "numpy")


@pytest.mark.parametrize("layers", [[], [3], ["Dense(3)"]])
def test_residual_rejects_values_that_are_not_layers(layers):
    with pytest.raises(ConfigurationError, match="Residual takes a list of at least one layer"):
        Residual(layers)


def test_residual_compares_and_hashes_by_its_layers():
    assert Residual([Dense(3)]) == Residual((Dense(3),)) != Residual([Dense(3, tanh)])
    assert hash(Residual([Dense(3)])) == hash(Residual((Dense(3),)))
    assert Residual([Dense(3)]).flops(3) == 2 * 9 + 3 + 3
