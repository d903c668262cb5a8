import numpy as np
import pytest

from ffnn_gpu import mean_squared_error, tanh
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layers import Dense, LayerNorm
from ffnn_gpu.nn.network import Network
from ffnn_gpu.testing import assert_close, check_gradients, tolerance


def batch(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def random_numbers(network):
    rng = np.random.default_rng(2)
    network.params.assign(
        {
            name: rng.uniform(0.5, 1.5, value.shape).astype(network.dtype)
            for name, value in network.params.to_host().items()
        }
    )
    return network


@pytest.mark.parametrize("B", [1, 6])
def test_layer_norm_gradient_equals_slope_of_loss(backend, B):
    network = random_numbers(
        Network(3, [LayerNorm(), Dense(4, tanh), LayerNorm(eps=1e-2), Dense(2)], backend, "float64")
    )
    check_gradients(network, mean_squared_error, batch(B, 3), batch(B, 2))


def test_layer_norm_equals_its_formula_in_training_and_inference(backend, dtype):
    network, x = random_numbers(Network(9, [LayerNorm()], backend, dtype)), batch(4, 9).astype(dtype)
    wide, numbers = x.astype(np.float64), network.params.to_host()
    mean, variance = wide.mean(1, keepdims=True), wide.var(1, keepdims=True)
    want = (wide - mean) / np.sqrt(variance + 1e-5) * numbers["0.gain"] + numbers["0.bias"]
    assert_close(network.predict(x), want, tolerance("network", dtype, K=9), "a")
    trained = network.forward(backend.asarray(x), network.workspace(4))
    np.testing.assert_array_equal(backend.to_host(trained), network.predict(x))


def test_rows_of_layer_norm_are_independent(backend, dtype):
    network, x = Network(5, [LayerNorm()], backend, dtype), batch(6, 5)
    np.testing.assert_array_equal(network.predict(x)[2:4], network.predict(x[2:4]))


def test_every_buffer_of_layer_norm_has_the_dtype(backend, dtype):
    network = Network(3, [LayerNorm()], backend, dtype)
    ws = network.workspace(5, input_gradient=True)
    z = network.forward(backend.asarray(batch(5, 3), network.dtype), ws)
    dx = network.backward(backend.asarray(batch(5, 3), network.dtype), ws)
    found = [
        z,
        dx,
        network.params.grad,
        *(array for array in vars(ws.buffers[0]).values() if hasattr(array, "dtype")),
    ]
    assert {str(array.dtype) for array in found} == {dtype}


@pytest.mark.parametrize("eps", [0, -1e-5, float("inf"), True, "1e-5"])
def test_layer_norm_rejects_bad_eps(eps):
    with pytest.raises(ConfigurationError, match="eps of LayerNorm must be positive and finite"):
        LayerNorm(eps)


def test_layer_norm_prints_the_call_that_creates_it():
    assert repr(LayerNorm()) == "LayerNorm()" and repr(LayerNorm(0.1)) == "LayerNorm(0.1)"
