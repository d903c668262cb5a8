import numpy as np
import pytest

from ffnn_gpu import Adam, mean_squared_error, softmax_cross_entropy, train_step
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.activations import gelu, tanh
from ffnn_gpu.nn.layers import (
    Average,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    LayerNorm,
    Residual,
    Softmax,
    Stack,
)
from ffnn_gpu.nn.network import Network
from ffnn_gpu.testing import assert_close, check_gradients, tolerance


def batch(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


ENSEMBLES = {
    "one member": [Average([Dense(3, tanh)])],
    "two members": [Average([[Dense(5, gelu), Dense(3)], [Dense(3, tanh)]])],
    "three unlike members": [
        Average([[Dense(4), BatchNorm(), Dense(2)], [Dropout(0.5), Dense(2)], Dense(2)], [0.5, 0.3, 0.2])
    ],
    "of probabilities": [Average([[Dense(4, tanh), Dense(3), Softmax()], [Dense(3), Softmax()]])],
    "between layers": [Dense(4, tanh), Average([Dense(3, tanh), [LayerNorm(), Dense(3)]]), Dense(2)],
    "members without weights": [Average([Dropout(0.5), Softmax()])],
    "in residual": [Residual([Average([Dense(3, tanh), Dense(3)])])],
    "of averages": [Average([Average([Dense(2), Dense(2, tanh)], [0.25, 0.75]), Dense(2)])],
}


@pytest.mark.parametrize("name", ENSEMBLES)
@pytest.mark.parametrize("B", [3, 4])
def test_average_gradient_equals_slope_of_loss(backend, name, B):
    network = Network(3, ENSEMBLES[name], backend, "float64", seed=2)
    check_gradients(network, mean_squared_error, batch(B, 3), batch(B, network.widths[-1]))


@pytest.mark.parametrize("name", ENSEMBLES)
def test_parameter_gradient_is_equal_with_and_without_dx(backend, name):
    network = Network(3, ENSEMBLES[name], backend, "float64", seed=2)
    x, found = backend.asarray(batch(4, 3)), []
    for wanted in (True, False):
        ws = network.workspace(4, input_gradient=wanted)
        network.forward(x, ws)
        network.backward(backend.asarray(batch(4, network.widths[-1], seed=1)), ws)
        found.append(np.array(backend.to_host(network.params.grad)))
    np.testing.assert_array_equal(*found)


def of_networks(members, backend, dtype, weights=None):
    """Return the networks of the members, and the Average with their parameter values."""
    alone = [Network(4, member, backend, dtype, seed=k) for k, member in enumerate(members)]
    together = Network(4, [Average(members, weights)], backend, dtype)
    together.params.assign(
        {
            f"0.layers.{r}.layers.{name}": value
            for r, network in enumerate(alone)
            for name, value in network.params.to_host().items()
        }
    )
    return alone, together


@pytest.mark.parametrize("weights", [None, (0.6, 0.3, 0.1)])
def test_average_is_the_weighted_mean_of_the_networks(backend, dtype, weights):
    members = [[Dense(6, tanh), Dense(3)], [Dense(3), Softmax()], [BatchNorm(), Dense(3)]]
    alone, together = of_networks(members, backend, dtype, weights)
    x = batch(70, 4).astype(dtype)
    wanted = sum(
        w * network.predict(x).astype(float)
        for w, network in zip(weights or (1 / 3,) * 3, alone, strict=True)
    )
    assert_close(together.predict(x), wanted.astype(together.dtype), tolerance("network", dtype, K=4), "mean")


def test_average_of_equal_embeddings_reads_codes(backend):
    members = [[Embedding((3, 2)), Dense(2)], [Embedding((3, 2)), Dense(4, tanh), Dense(2)]]
    alone, together = of_networks(members, backend, "float64")
    x = np.column_stack([batch(9, 2), np.arange(9) % 3, np.arange(9) % 2]).astype(float)
    wanted = (alone[0].predict(x) + alone[1].predict(x)) / 2
    assert_close(together.predict(x), wanted, tolerance("network", "float64", K=4), "mean")
    check_gradients(together, mean_squared_error, x, batch(9, 2))


def test_every_buffer_of_average_has_the_dtype(backend, dtype):
    network = Network(3, ENSEMBLES["between layers"], backend, dtype)
    ws = network.workspace(4, input_gradient=True)
    z = network.forward(backend.asarray(batch(4, 3), network.dtype), ws)
    dx = network.backward(backend.asarray(batch(4, 2), network.dtype), ws)

    def dtypes(buffers):
        for buf in buffers:
            yield from (str(array.dtype) for array in vars(buf).values() if hasattr(array, "dtype"))
            yield from dtypes(getattr(buf, "layers", []))

    assert {str(z.dtype), str(dx.dtype), str(network.params.grad.dtype), *dtypes(ws.buffers)} == {dtype}


def test_step_of_average_equals_the_step_without_recording(backend):
    x, y = batch(32, 3).astype("float32"), np.arange(32) % 3
    found = []
    for device in (backend, "numpy"):
        network = Network(3, [*ENSEMBLES["two members"], Dense(3)], device, "float32", seed=1)
        optimizer, ws = Adam(1e-2), network.workspace(32)
        for _ in range(5):
            rows = network.backend.asarray(x), network.backend.asarray(y)
            train_step(network, softmax_cross_entropy, optimizer, *rows, ws)
        found.append(np.array(network.backend.to_host(network.params.theta)))
    assert_close(*found, tolerance("network", "float32", K=8), "theta")


def test_average_rejects_members_of_unequal_width():
    with pytest.raises(ShapeError, match=r"the members of Average return \[4, 5\] columns"):
        Network(3, [Average([Dense(4), Dense(5)])], "numpy")


def test_average_rejects_members_that_read_different_codes():
    with pytest.raises(ConfigurationError, match="read different codes"):
        Average([[Embedding((3,)), Dense(2)], Dense(2)])


@pytest.mark.parametrize("weights", [(0.5,), (0.5, 0.6), (1.5, -0.5), (1.0, "a"), (1.0, 0.0)])
def test_average_rejects_weights_that_make_no_mean(weights):
    with pytest.raises(ConfigurationError, match="weights"):
        Average([Dense(2), Dense(2)], weights)


@pytest.mark.parametrize("members", [[], 3, [[]], [3], ["Dense(3)"]])
def test_average_rejects_values_that_are_no_members(members):
    with pytest.raises(ConfigurationError, match="takes a list of at least one"):
        Average(members)


def test_stack_rejects_an_embedding_after_its_first_layer():
    with pytest.raises(ConfigurationError, match="must be the first layer of Stack"):
        Stack([Dense(3), Embedding((3,))])


def test_average_compares_and_hashes_by_its_members():
    first, second = Average([Dense(3), [Dense(3)]]), Average([Stack([Dense(3)]), Dense(3)])
    assert first == second != Average([Dense(3), Dense(3, tanh)])
    assert hash(first) == hash(second)
    assert first.flops(3) == 2 * (2 * 9 + 3) + 2 * 2 * 3


def test_one_number_in_the_place_of_weights_is_counted_as_one():
    assert Average([Dense(1)], weights=1.0).weights == (1.0,)
    with pytest.raises(ConfigurationError, match="2 members and 1 weights"):
        Average([Dense(1), Dense(1)], weights=1.0)
