import numpy as np
import pytest

from ffnn_gpu import SGD, mean_squared_error, tanh, train_step
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.layers import BatchNorm, Dense, Residual
from ffnn_gpu.nn.network import Network
from ffnn_gpu.testing import assert_close, check_gradients, tolerance


def batch(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def step(network, x):
    """Run one backward pass, which moves the running statistics."""
    ws = network.workspace(len(x), input_gradient=True)
    z = network.forward(network.backend.asarray(x, network.dtype), ws)
    return z, network.backward(network.backend.duplicate(z), ws), ws


def running(network):
    numbers = network.params.to_host()
    return numbers["0.running_mean"], numbers["0.running_variance"]


@pytest.mark.parametrize("B", [2, 7])
def test_batch_norm_gradient_equals_slope_of_loss(backend, B):
    layers = [BatchNorm(), Dense(4, tanh), BatchNorm(eps=1e-2), Dense(2)]
    network = Network(3, layers, backend, "float64")
    rng = np.random.default_rng(2)
    numbers = {name: rng.uniform(0.5, 1.5, value.shape) for name, value in network.params.to_host().items()}
    network.params.assign(numbers)
    check_gradients(network, mean_squared_error, batch(B, 3), batch(B, 2))


def test_gradient_check_does_not_change_the_running_statistics(backend):
    network = Network(3, [BatchNorm()], backend, "float64")
    check_gradients(network, mean_squared_error, batch(4, 3), batch(4, 3, seed=1))
    assert running(network)[0].tolist() == [0, 0, 0] and running(network)[1].tolist() == [1, 1, 1]


def test_running_statistics_equal_pytorch_after_three_batches(backend, golden):
    stored = golden("normalization")["running"]
    network = Network(4, [BatchNorm(momentum=stored["momentum"])], backend, "float64")
    for rows in np.array(stored["batches"]):
        step(network, rows)
    relative = tolerance("network", "float64", K=5)
    assert_close(running(network)[0], stored["mean"], relative, "running mean")
    assert_close(running(network)[1], stored["variance"], relative, "running variance")
    assert_close(network.predict(np.array(stored["x"])), np.array(stored["out"]), relative, "prediction")


def test_forward_does_not_change_running_statistics(backend, dtype):
    network = Network(3, [BatchNorm()], backend, dtype)
    ws = network.workspace(5)
    network.forward(backend.asarray(batch(5, 3), network.dtype), ws)
    assert running(network)[0].tolist() == [0, 0, 0] and running(network)[1].tolist() == [1, 1, 1]


def test_momentum_one_stores_the_last_batch(backend, dtype):
    network, x = Network(3, [BatchNorm(momentum=1.0)], backend, dtype), batch(6, 3)
    step(network, x)
    relative = tolerance("network", dtype, K=6)
    assert_close(running(network)[0], x.mean(0), relative, "mean", scale=np.abs(x).max())
    assert_close(running(network)[1], x.var(0, ddof=1), relative, "unbiased variance")


@pytest.mark.parametrize("layer", [BatchNorm(), Residual([Dense(3), BatchNorm()])])
def test_training_batch_of_one_row_is_refused_and_changes_nothing(backend, dtype, layer):
    network = Network(3, [layer, Dense(2)], backend, dtype)
    before, ws = network.params.to_host(), network.workspace(4)
    x, y = batch(4, 3), batch(4, 2)
    for rows in (1, 3, 1):  # the second time a recorded step may run
        args = backend.asarray(x[:rows], network.dtype), backend.asarray(y[:rows], network.dtype)
        if rows > 1:
            train_step(network, mean_squared_error, SGD(lr=0.0), *args, ws.first(rows))
            before = network.params.to_host()
            continue
        with pytest.raises(ShapeError, match="x has 1 row; in training, BatchNorm"):
            train_step(network, mean_squared_error, SGD(), *args, ws.first(1))
        for name, value in network.params.to_host().items():
            np.testing.assert_array_equal(value, before[name])
    assert network.predict(x[:1]).shape == (1, 2)


def test_running_statistics_are_not_decayed_nor_moved_by_the_optimizer(backend, dtype):
    network, still = (Network(3, [BatchNorm(), Dense(2)], backend, dtype) for _ in range(2))
    x, y = backend.asarray(batch(5, 3), network.dtype), backend.asarray(batch(5, 2), network.dtype)
    train_step(
        network, mean_squared_error, SGD(lr=0.5, weight_decay=0.5, l2=0.5, l1=0.5), x, y, network.workspace(5)
    )
    train_step(still, mean_squared_error, SGD(lr=0.0), x, y, still.workspace(5))
    for name in ("0.running_mean", "0.running_variance"):
        np.testing.assert_array_equal(network.params.to_host()[name], still.params.to_host()[name])


def test_every_buffer_of_batch_norm_has_the_dtype(backend, dtype):
    network = Network(3, [BatchNorm()], backend, dtype)
    z, dx, ws = step(network, batch(5, 3))
    found = [z, dx, network.params.grad, network.params.state, network.params.theta]
    found += [array for array in vars(ws.buffers[0]).values() if hasattr(array, "dtype")]
    assert {str(array.dtype) for array in found} == {dtype}


@pytest.mark.parametrize(
    "settings", [{"eps": 0}, {"eps": -1}, {"momentum": 0}, {"momentum": 1.5}, {"eps": float("nan")}]
)
def test_batch_norm_rejects_bad_settings(settings):
    with pytest.raises(ConfigurationError, match="of BatchNorm must be"):
        BatchNorm(**settings)


def test_batch_norm_prints_the_call_that_creates_it():
    assert repr(BatchNorm()) == "BatchNorm()" and repr(BatchNorm(eps=0.1)) == "BatchNorm(eps=0.1)"
    assert repr(BatchNorm(0.2)) == "BatchNorm(0.2)"


def test_batch_of_zero_rows_does_not_change_running_statistics(backend):
    network = Network(3, [BatchNorm(), Dense(2)], backend, "float32")
    ws = network.workspace(4)
    for name in ("mean", "variance"):
        getattr(ws.buffers[0], name)[...] = 1e6  # uninitialized memory
    none = ws.first(0)
    z = network.forward(network.backend.zeros((0, 3), "float32"), none)
    network.backward(network.backend.zeros(z.shape, "float32"), none)
    mean, variance = running(network)
    assert not mean.any() and (variance == 1).all()
