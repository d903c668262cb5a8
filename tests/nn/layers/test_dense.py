import numpy as np
import pytest

from ffnn_gpu import mean_squared_error
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.activations import ACTIVATIONS, identity, relu, tanh
from ffnn_gpu.nn.initializers import Constant, Normal, orthogonal
from ffnn_gpu.nn.layers import Dense
from ffnn_gpu.nn.network import Network
from ffnn_gpu.testing import assert_close, check_gradients, tolerance


def batch(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("B", [1, 5])
def test_dense_gradient_equals_slope_of_loss(backend, name, bias, B):
    layers = [
        Dense(4, ACTIVATIONS[name], bias, biases=Normal(1.0)),
        Dense(3, ACTIVATIONS[name], bias, biases=Normal(1.0)),
    ]
    network = Network(3, layers, backend, "float64", seed=1)
    check_gradients(network, mean_squared_error, batch(B, 3), batch(B, 3, seed=1))


def test_dense_equals_its_formula(backend, dtype):
    network = Network(7, [Dense(4, tanh, biases=Normal(1.0))], backend, dtype)
    x, numbers = batch(6, 7).astype(dtype), network.params.to_host()
    want = np.tanh(x.astype(np.float64) @ numbers["0.W"] + numbers["0.b"])
    assert_close(network.predict(x), want, tolerance("network", dtype, K=7), "a")


def test_every_buffer_and_gradient_of_dense_has_the_dtype(backend, dtype):
    for phi in ACTIVATIONS.values():
        network = Network(3, [Dense(4, phi), Dense(2, phi)], backend, dtype)
        ws = network.workspace(5, input_gradient=True)
        z = network.forward(backend.asarray(batch(5, 3), dtype), ws)
        dx = network.backward(backend.asarray(batch(5, 2), dtype), ws)
        found = [z, dx, network.params.theta, network.params.grad]
        found += [array for buf in ws.buffers for name, array in vars(buf).items() if hasattr(array, "dtype")]
        assert {str(array.dtype) for array in found} == {dtype}, phi


def test_dense_overwrites_da_and_assigns_its_gradients(backend):
    """Gradients are assigned, not accumulated: old values, even NaN, are overwritten."""
    network = Network(3, [Dense(2, relu)], backend, "float64")
    ws, x = network.workspace(4), backend.asarray(batch(4, 3))
    found = []
    for rubbish in (0.0, float("nan")):
        for slot in network.params.slots:
            slot.view(network.params.grad)[...] = rubbish
        network.forward(x, ws)
        network.backward(backend.asarray(batch(4, 2, seed=1)), ws)
        found.append(np.array(backend.to_host(network.params.grad)))
    np.testing.assert_array_equal(*found)


def test_dense_uses_its_initializers(backend, dtype):
    numbers = Network(
        4, [Dense(4, weights=orthogonal, biases=Constant(0.5))], backend, dtype
    ).params.to_host()
    assert (numbers["0.b"] == 0.5).all()
    assert_close(numbers["0.W"] @ numbers["0.W"].T, np.eye(4), tolerance("network", dtype, K=4), "W Wᵀ")


@pytest.mark.parametrize("width", [0, -1, 2.0, True, "3", None])
def test_dense_rejects_bad_widths(width):
    with pytest.raises(ConfigurationError, match="width of Dense must be a whole number of at least 1"):
        Dense(width)


def test_dense_accepts_its_activation_by_name():
    by_name = [Dense(3, "relu"), Dense(3, activation="relu"), Dense(3, " ReLU")]
    assert all(layer == Dense(3, relu) and layer.activation is layer.phi is relu for layer in by_name)
    assert all(repr(layer) == "Dense(3, relu)" and hash(layer) == hash(Dense(3, relu)) for layer in by_name)


def test_dense_rejects_values_that_are_not_activations():
    with pytest.raises(
        ConfigurationError, match=r"activation must be an object such as ffnn_gpu\.relu, or a name, not 3"
    ):
        Dense(3, 3)
    with pytest.raises(
        ConfigurationError, match=r"'rleu'; did you mean 'relu'\? There are identity, relu, leaky_relu"
    ):
        Dense(3, "rleu")


def test_old_keyword_of_the_activation_is_accepted_with_a_warning():
    with pytest.warns(DeprecationWarning, match="phi= is now called activation=") as warned:
        assert Dense(3, phi=relu) == Dense(3, relu)
    assert warned[0].filename == __file__
    with pytest.raises(ConfigurationError, match="phi= is the old name of activation="):
        Dense(3, activation=relu, phi=relu)


def test_dense_prints_the_call_that_creates_it():
    assert repr(Dense(3)) == "Dense(3)" and repr(Dense(3, relu)) == "Dense(3, relu)"
    assert repr(Dense(3, identity, bias=False)) == "Dense(3, bias=False)"
    assert repr(Dense(3, relu, weights=orthogonal)) == "Dense(3, relu, weights=orthogonal)"
    assert Dense(3, relu) == Dense(3, relu) != Dense(3) and len({Dense(3), Dense(3)}) == 1
