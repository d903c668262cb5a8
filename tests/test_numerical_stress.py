"""Extreme numbers, shapes and depths: the result is finite and correct, or an error explains the problem."""

import math

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    BatchNorm,
    Constant,
    Dense,
    DivergedError,
    Dropout,
    LayerNorm,
    LogSoftmax,
    Network,
    Normal,
    Residual,
    Softmax,
    evaluate,
    fit,
    mean_squared_error,
    relu,
    sigmoid,
    softmax_cross_entropy,
    tanh,
    train_step,
)
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.nn.losses.standard import LOSSES
from ffnn_gpu.optim.choice import OPTIMIZERS
from ffnn_gpu.testing import assert_close, check_gradients, tolerance
from ffnn_gpu.testing.derivatives import COMPLEX_STEP, ComplexBackend

ONE = Normal(1.0)


def fitted(network, loss, x, y, optimizer=None, **settings):
    history = fit(
        network,
        loss,
        optimizer or SGD(1e-3),
        (x, y),
        **({"epochs": 2, "batch_size": 4, "verbose": 0} | settings),
    )
    assert np.isfinite(network.backend.to_host(network.params.theta)).all()
    assert all(math.isfinite(value) for value in history["loss"])
    return history["loss"]


# ---------------------------------------------------------------------- values


@pytest.mark.parametrize("name", LOSSES)
def test_logits_of_ten_thousand_train_to_finite_numbers_or_to_a_divergence(backend, dtype, name):
    end = {
        "cross_entropy": [Softmax()],
        "binary_cross_entropy": [Dense(2, sigmoid, weights=Constant(1.0))],
    }.get(name, [])
    network = Network(1, [Dense(2, weights=Constant(1e4), bias=False), *end], backend, dtype)
    x, y = np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.array([[1, 0], [0, 1], [0, 1], [1, 0]])
    y = {"softmax_cross_entropy": y.argmax(1), "hinge": 2 * y - 1}.get(name, y)
    with np.errstate(divide="raise"):
        if name == "poisson":  # e^10000
            with pytest.raises(DivergedError, match="the loss is inf at step 1"):
                fitted(network, LOSSES[name], x, y)
        else:
            fitted(network, LOSSES[name], x, y)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_subnormal_numbers_are_those_numbers_or_zero_and_train_silently(backend, dtype, name):
    small = float(np.finfo(dtype).tiny) / 64
    network = Network(2, [Dense(3, tanh), Dense(1)], backend, dtype)
    x, y = np.full((4, 2), small), np.full((4, 1), small)
    with np.errstate(all="raise"):
        assert (np.abs(network.predict(x)) <= 16 * small).all()
        before = network.params.to_host()
        fitted(network, mean_squared_error, x, y, OPTIMIZERS[name](1e-3), epochs=3)
    for key, value in network.params.to_host().items():
        assert (np.abs(value - before[key]) <= 4e-3).all(), key  # three steps of about lr at most


@pytest.mark.parametrize("value", [1e4 / 3, -3e-5, 0.0])
def test_constant_feature_is_the_bias_after_batch_norm_and_trains(backend, dtype, value):
    x = np.random.default_rng(0).normal(size=(12, 3))
    x[:, 1] = value
    network = Network(3, [BatchNorm(), Dense(4, tanh), Dense(2)], backend, dtype)
    before = network.params.to_host()["1.W"]
    fitted(network, softmax_cross_entropy, x, np.arange(12) % 2, epochs=1, batch_size=12)
    after = network.params.to_host()["1.W"]
    np.testing.assert_array_equal(after[1], before[1])  # the bias starts at 0
    assert (after[0] != before[0]).all()
    fitted(network, softmax_cross_entropy, x, np.arange(12) % 2, epochs=3)


def test_rows_of_equal_numbers_are_the_bias_after_layer_norm_and_train(backend, dtype):
    network = Network(3, [LayerNorm(), Dense(4, tanh), Dense(2)], backend, dtype)
    x = np.full((8, 3), 1e4)
    np.testing.assert_array_equal(network.predict(x), network.predict(0 * x))
    fitted(network, softmax_cross_entropy, x, np.arange(8) % 2)


# ---------------------------------------------------------------------- many rows, many classes

MANY = 2_000_000


def test_gradient_over_two_million_rows_is_that_of_float64(backend):
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(MANY, 1)).astype(np.float32), rng.uniform(size=(MANY, 1)).astype(np.float32)
    network = Network(1, [Dense(1, weights=Constant(2.0))], backend)
    ws, xp = network.workspace(MANY), backend
    z = network.forward(xp.asarray(x), ws)
    value = float(mean_squared_error(backend, z, xp.asarray(y), dz=ws.dz))
    network.backward(ws.dz, ws)
    e = 2.0 * x - y.astype(np.float64)
    relative = tolerance("network", "float32", K=MANY)
    assert value == pytest.approx((e * e).mean(), rel=tolerance("network", "float32"))
    p = network.params.views[0]
    assert_close(backend.to_host(p.dW), np.array([[(2 * e * x).mean()]]), relative, "dW")
    assert_close(backend.to_host(p.db), np.array([(2 * e).mean()]), relative, "db")


@pytest.mark.parametrize("O", [1, 8])
def test_column_sums_of_two_million_equal_rows_do_not_lose_the_last_ones(backend, O):
    A = backend.asarray(
        np.full((MANY + 1, O), 0.1, np.float32)
    )  # the sum of single elements would be 1.5 % too large
    total = backend.to_host(backend.column_sum(A, out=backend.empty((O,), np.float32)))
    relative = tolerance("product", "float32", K=4096)  # of blocks of rows; their sums are exact
    assert_close(total, np.full(O, (MANY + 1) * float(np.float32(0.1))), relative, "the sum")


def test_losses_and_predictions_of_two_million_rows_are_those_of_the_parts(backend):
    x = np.random.default_rng(2).uniform(size=(MANY, 1)).astype(np.float32)
    network = Network(1, [Dense(1, weights=Constant(2.0))], backend)
    np.testing.assert_array_equal(network.predict(x, batch_size=2**18)[-5:], network.predict(x[-5:]))
    loss = evaluate(network, mean_squared_error, (x, x), batch_size=2**18)["loss"]
    assert loss == pytest.approx((x.astype(np.float64) ** 2).mean(), rel=tolerance("network", "float32"))


def test_two_million_rows_far_from_zero_are_standardized_to_mean_zero_and_deviation_one():
    x = (1e4 + np.random.default_rng(3).normal(size=(MANY, 1))).astype(np.float32)
    z = Standardizer.fit(x).transform(x, np.float64)
    assert abs(z.mean()) < 1e-9 and z.std() == pytest.approx(1, rel=1e-9)


def test_hundred_thousand_classes_start_at_log_c_and_are_learnt(backend):
    C, y = 100_000, np.array([0, 99_999, 31_415])
    network = Network(3, [Dense(C, weights=Constant(0.0))], backend)
    x = np.eye(3, dtype=np.float32)
    losses = fitted(network, softmax_cross_entropy, x, y, SGD(30.0), epochs=3)
    assert losses[0] == pytest.approx(math.log(C), rel=tolerance("network", "float32"))
    assert losses[2] < losses[1] < losses[0]
    assert network.predict(x).argmax(axis=1).tolist() == y.tolist()


def test_gradient_of_a_hundred_thousand_classes_sums_to_zero_in_each_row(backend):
    C, z = 100_000, np.random.default_rng(4).normal(size=(2, 100_000)).astype(np.float32)
    z, dz = backend.asarray(z), backend.empty((2, C), np.float32)
    softmax_cross_entropy(backend, z, np.array([7, C - 1]), dz=dz)
    assert np.abs(backend.to_host(dz).sum(axis=1, dtype=np.float64)).max() <= tolerance(
        "network", "float32", K=C
    )


# ---------------------------------------------------------------------- narrow, few, shallow

NARROW = {
    "dense": Dense(1, tanh, biases=ONE),
    "softmax": Softmax(),
    "log softmax": LogSoftmax(),
    "dropout": Dropout(0.3),
    "layer norm": LayerNorm(),
    "batch norm": BatchNorm(),
    "residual": Residual([LayerNorm(), Dense(1, tanh, biases=ONE)]),
}


@pytest.mark.parametrize("B", [1, 2])
@pytest.mark.parametrize("layer", NARROW.values(), ids=NARROW)
def test_gradients_of_width_one_and_batch_one_are_exact(backend, layer, B):
    B = max(B, layer.least_rows)
    network = Network(1, [Dense(1, tanh, biases=ONE), layer, Dense(1, biases=ONE)], backend, "float64")
    x = np.random.default_rng(5).normal(size=(B, 1))
    check_gradients(network, mean_squared_error, x, x + 1)


@pytest.mark.parametrize("layer", NARROW.values(), ids=NARROW)
def test_width_one_trains_on_one_row_at_a_time(backend, dtype, layer):
    network = Network(1, [Dense(1, tanh), layer, Dense(1)], backend, dtype)
    x = np.array([[0.5], [-1.0], [2.0], [1.0]])
    fitted(network, mean_squared_error, x, np.ones(4), batch_size=layer.least_rows)


def test_network_without_hidden_layers_is_logistic_regression(backend):
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(40, 3)), rng.integers(0, 2, 40)
    network = Network(3, [Dense(2)], backend, "float64")
    check_gradients(network, softmax_cross_entropy, x[:5], y[:5])
    fitted(network, softmax_cross_entropy, x, y, SGD(1.0), epochs=300, batch_size=40)
    p = np.exp(network.predict(x))
    p /= p.sum(axis=1, keepdims=True)
    slope = x.T @ (p - np.eye(2)[y]) / 40  # 0 at the maximum of the likelihood
    assert np.abs(slope).max() < 1e-6


def test_network_without_layers_is_the_identity_and_has_nothing_to_learn(backend, dtype):
    network = Network(3, [], backend, dtype)
    x = np.random.default_rng(7).normal(size=(4, 3)).astype(dtype)
    np.testing.assert_array_equal(network.predict(x), x)
    losses = fitted(network, mean_squared_error, x, np.zeros((4, 3)))
    assert losses == pytest.approx([(x.astype(np.float64) ** 2).mean()] * 2, rel=tolerance("network", dtype))


# ---------------------------------------------------------------------- deep

DEEP = {
    "plain": [Dense(4, tanh, biases=Normal(0.1))] * 200,
    "residual": [Residual([LayerNorm(), Dense(4, relu)])] * 200,
    "normalized": [Dense(4, relu), BatchNorm()] * 100,
}


@pytest.mark.parametrize("layers", DEEP.values(), ids=DEEP)
def test_gradient_through_two_hundred_layers_is_the_slope_along_it(backend, layers):
    network = Network(3, [Dense(4), *layers, Dense(2)], backend, "float64")
    x, y = backend.asarray(np.random.default_rng(8).normal(size=(5, 3))), backend.asarray(np.arange(5) % 2)
    ws = network.workspace(5)
    softmax_cross_entropy(backend, network.forward(x, ws), y, dz=ws.dz)
    network.backward(ws.dz, ws)
    g = {slot.name: backend.to_host(slot.view(network.params.grad)) for slot in network.params.slots}
    twin = Network(3, network.layers, ComplexBackend(), "complex128")
    twin.params.assign({k: v + 1j * COMPLEX_STEP * g.get(k, 0) for k, v in network.params.to_host().items()})
    z = twin.run(np.asarray(backend.to_host(x), complex), twin.workspace(5))
    slope = float(softmax_cross_entropy(twin.backend, z, np.arange(5) % 2).imag) / COMPLEX_STEP
    want = sum((v * v).sum() for v in g.values())  # along ∇θ itself: ‖∇θ‖²
    assert slope == pytest.approx(want, rel=1e-6)  # through 100 batch norms ∇θ grows by 10⁶


@pytest.mark.parametrize("layers", DEEP.values(), ids=DEEP)
def test_two_hundred_layers_train_to_finite_numbers(backend, layers):
    network = Network(3, [Dense(4), *layers, Dense(2)], backend)
    fitted(network, softmax_cross_entropy, np.random.default_rng(9).normal(size=(8, 3)), np.arange(8) % 2)


def test_residuals_two_hundred_deep_inside_each_other_train(backend):
    layer = Dense(2, tanh)
    for _ in range(200):
        layer = Residual([layer])
    network = Network(2, [layer], backend, "float64")
    network.params.assign({name: value / 2**200 for name, value in network.params.to_host().items()})
    x = np.random.default_rng(10).normal(size=(4, 2))
    np.testing.assert_allclose(network.predict(x), 200 * x, atol=0.1)
    fitted(network, mean_squared_error, x, 200 * x, SGD(1e-9))


def test_outputs_that_overflow_are_a_divergence_in_words(backend):
    network = Network(2, [Dense(4, relu, weights=Constant(10.0))] * 200, backend)
    with pytest.raises(DivergedError, match="output is not finite although its input is"):
        network.predict(np.ones((3, 2)))
    with pytest.raises(DivergedError, match=r"the loss is .* at step 1 "):
        fitted(network, mean_squared_error, np.ones((3, 2)), np.ones((3, 4)))


def test_step_through_two_hundred_layers_moves_every_parameter(backend):
    network = Network(3, [Dense(4), *DEEP["residual"], Dense(2)], backend, "float64")
    before = network.params.to_host()
    x, y = backend.asarray(np.random.default_rng(11).normal(size=(16, 3))), backend.asarray(np.arange(16) % 2)
    train_step(network, softmax_cross_entropy, SGD(0.1), x, y, network.workspace(16))
    assert all((value != before[name]).any() for name, value in network.params.to_host().items())
