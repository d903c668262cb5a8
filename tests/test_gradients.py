"""Every gradient is the derivative of the loss: all combinations by the complex step, random directions, and
laws.

Biases are drawn from N(0, 1), so that no pre-activation is at a kink. With zero biases, a row without active
relus would put the pre-activations of the next layer exactly at their kink.
"""

import itertools
import os

import numpy as np
import pytest

from ffnn_gpu import (
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    LogSoftmax,
    Network,
    Residual,
    Softmax,
    SoftmaxCrossEntropy,
    huber,
    mean_squared_error,
    relu,
    sigmoid,
    softmax_cross_entropy,
    tanh,
)
from ffnn_gpu.backends.choice import NumpyBackend
from ffnn_gpu.nn.activations import ACTIVATIONS
from ffnn_gpu.nn.initializers import Normal
from ffnn_gpu.nn.losses.standard import LOSSES
from ffnn_gpu.testing import assert_close, check_gradients, tolerance

ONE = Normal(1.0)
LAYERS = {
    "dense": [Dense(3, tanh, biases=ONE)],
    "softmax": [Softmax()],
    "log softmax": [LogSoftmax()],
    "dropout": [Dropout(0.3)],
    "layer norm": [LayerNorm()],
    "batch norm": [BatchNorm()],
    "residual": [Residual([LayerNorm(), Dense(3, tanh, biases=ONE)])],
}
MORE_LOSSES = {
    "huber 0.3": huber.with_alpha(0.3),
    "smoothed": SoftmaxCrossEntropy(label_smoothing=0.1),
    "class weights": SoftmaxCrossEntropy(class_weight=(0.5, 3.0)),
    "both": SoftmaxCrossEntropy(0.2, (0.5, 3.0)),
}
ALL_LOSSES = LOSSES | MORE_LOSSES
B, I, O = 3, 2, 2


def data(kind, shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) if kind == "normal" else rng.uniform(size=shape)


def targets(loss, B, seed=1):
    rng = np.random.default_rng(seed)
    return {
        "poisson": lambda: rng.integers(0, 5, (B, O)),
        "binary_cross_entropy": lambda: rng.uniform(size=(B, O)),
        "binary_cross_entropy_with_logits": lambda: rng.integers(0, 2, (B, O)),
        "cross_entropy": lambda: rng.dirichlet([1.0] * O, B),
        "softmax_cross_entropy": lambda: rng.integers(0, O, B),
        "smoothed": lambda: rng.integers(0, O, B),
        "class weights": lambda: rng.integers(0, O, B),
        "both": lambda: rng.dirichlet([1.0] * O, B),
        "hinge": lambda: rng.choice([-1, 1], (B, O)),
    }.get(loss, lambda: rng.normal(size=(B, O)))()


def last_layers(loss):
    """Return the last layer for a loss."""
    if loss == "cross_entropy":
        return [Dense(O, biases=ONE), Softmax()]
    return [Dense(O, sigmoid if loss == "binary_cross_entropy" else ACTIVATIONS["identity"], biases=ONE)]


def make(backend, layers, loss="mean_squared_error", dtype="float64", seed=3, n_in=I):
    return Network(n_in, [*layers, *last_layers(loss)], backend, dtype, seed)


def gradient(network, loss, x, y, sample_weight=None):
    """Return (loss, ∇θ, dx) on the host."""
    backend = network.backend
    ws = network.workspace(len(x), input_gradient=True)
    z = network.forward(backend.asarray(np.array(x, network.dtype)), ws)
    value = float(loss(backend, z, y, dz=ws.dz, sample_weight=sample_weight))
    dx = network.backward(ws.dz, ws)
    return value, np.array(backend.to_host(network.params.grad), np.float64), np.array(backend.to_host(dx))


# ---------------------------------------------------------------------- all combinations


def activations_for(loss, layer, weighted):
    """Return the activations to combine with a loss and a layer: a fourth of them, or all if EVERY_CASE=1.

    The fourth differs from one combination to the next, so every pair of an activation with a loss, with a
    layer and with weights is in some test.
    """
    every = list(ACTIVATIONS.values())
    if os.environ.get("EVERY_CASE"):
        return every
    return every[([*ALL_LOSSES].index(loss) + [*LAYERS].index(layer) + 2 * weighted) % 4 :: 4]


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_gradient_of_every_layer_activation_and_loss_equals_the_slope(backend, loss, layer, weighted):
    x, y = data("uniform" if weighted else "normal", (B, I)), targets(loss, B)
    w = np.array([0.5, 2.0, 1.25]) if weighted else None
    for phi in activations_for(loss, layer, weighted):
        # if φ is linear on the batch, batch norm cancels a bias before it: the gradient is 0, without a scale
        # of its own
        first = Dense(3, phi, bias=layer != "batch norm", biases=ONE)
        check_gradients(make(backend, [first, *LAYERS[layer]], loss), ALL_LOSSES[loss], x, y, sample_weight=w)


def test_every_pair_of_an_activation_and_a_loss_or_layer_is_combined():
    found = {
        (phi.name, other)
        for loss, layer, weighted in itertools.product(ALL_LOSSES, LAYERS, (False, True))
        for phi in activations_for(loss, layer, weighted)
        for other in (loss, layer, weighted)
    }
    assert found == set(itertools.product(ACTIVATIONS, [*ALL_LOSSES, *LAYERS, False, True]))


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("loss", ["mean_squared_error", "softmax_cross_entropy"])
def test_gradient_of_a_deep_network_equals_the_slope(backend, name, kind, loss):
    phi = ACTIVATIONS[name]
    layers = [Dense(4, phi, biases=ONE), Dense(3, phi, biases=ONE), Dense(4, phi, biases=ONE)]
    check_gradients(make(backend, layers, loss), LOSSES[loss], data(kind, (5, I)), targets(loss, 5))


# ---------------------------------------------------------------------- other oracles

DEEP = [
    Dense(6, tanh, biases=ONE),
    BatchNorm(),
    Residual([LayerNorm(), Dense(6, ACTIVATIONS["gelu"])]),
    Dropout(0.2),
]


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_slope_along_random_directions_equals_central_differences(backend, loss, kind):
    network = make(backend, DEEP, loss)
    x, y, params = data(kind, (7, I)), targets(loss, 7), network.params
    _, grad, _ = gradient(network, ALL_LOSSES[loss], x, y)
    theta = np.array(backend.to_host(params.theta))
    for seed in range(5):
        direction = np.random.default_rng(seed).normal(size=theta.shape)
        values = []
        for h in (1e-5, -1e-5):
            backend.copy(backend.asarray(theta + h * direction), out=params.theta)
            values.append(gradient(network, ALL_LOSSES[loss], x, y)[0])
        backend.copy(backend.asarray(theta), out=params.theta)
        slope, want = (values[0] - values[1]) / 2e-5, grad @ direction
        # rtol 1e-6 for central differences in float64; a slope far below the gradient's size cancels
        assert abs(slope - want) <= 1e-6 * max(abs(want), 0.1 * np.linalg.norm(grad))


def test_whole_network_equals_autograd(backend, golden, dtype):
    stored = golden("network")
    gelu = ACTIVATIONS["gelu"]
    layers = [
        Dense(4, tanh), BatchNorm(), Residual([LayerNorm(), Dense(6, gelu), Dense(4)]),
        Dense(5, relu), Dense(3),
    ]  # fmt: skip
    network = Network(3, layers, backend, dtype)
    numbers = network.params.to_host()
    network.params.assign(numbers | {name: np.array(value, dtype) for name, value in stored["theta"].items()})
    value, _, dx = gradient(network, softmax_cross_entropy, stored["x"], np.array(stored["y"]))
    found = {
        slot.name: np.array(backend.to_host(slot.view(network.params.grad))) for slot in network.params.slots
    }
    relative = tolerance("network", dtype, K=6, L=6)
    assert abs(value - stored["loss"]) <= relative * abs(stored["loss"])
    largest = max(np.abs(want).max() for want in stored["gradients"].values())
    for name, want in stored["gradients"].items():
        got = dx if name == "x" else found[name]
        # 1.W is the rounding of a small difference of large numbers in float32: relative to the largest
        # gradient
        assert_close(got, np.array(want), relative, f"gradient of {name}", scale=largest)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_float32_gradient_equals_the_float64_oracle(backend, name, kind):
    phi, K = ACTIVATIONS[name], 64
    layers = [Dense(48, phi), Dense(32, phi)]
    low, high = (
        make(each, layers, "softmax_cross_entropy", dtype, n_in=20)
        for each, dtype in ((backend, "float32"), (Network(1, []).backend, "float64"))
    )
    high.params.assign({key: value.astype(np.float64) for key, value in low.params.to_host().items()})
    x, y = data(kind, (K, 20)).astype(np.float32), targets("softmax_cross_entropy", K)
    value, grad, dx = gradient(low, softmax_cross_entropy, x, y)
    want_value, want_grad, want_dx = gradient(high, softmax_cross_entropy, x, y)
    relative = tolerance("network", "float32", K=K, L=3)
    assert abs(value - want_value) <= relative * want_value
    assert_close(dx, want_dx, relative, "dx")
    views = zip(low.params.slots, high.params.slots, strict=True)  # padded differently
    for here, there in views:
        assert_close(here.view(grad), there.view(want_grad), relative, f"gradient of {here.name}")


# ---------------------------------------------------------------------- laws

EXACT = 1e-12  # of the largest element, in float64: sums in another order
no_batch_norm = [
    Dense(6, relu, biases=ONE),
    Residual([LayerNorm(), Dense(6, tanh)]),
    Dense(5, ACTIVATIONS["silu"]),
]


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_order_of_the_rows_does_not_change_loss_and_gradient(backend, loss):
    layers = [*no_batch_norm, BatchNorm()]
    network, x, y = make(backend, layers, loss), data("normal", (9, I)), targets(loss, 9)
    w, order = data("uniform", 9, seed=5), np.random.default_rng(0).permutation(9)
    value, grad, dx = gradient(network, ALL_LOSSES[loss], x, y, w)
    value_2, grad_2, dx_2 = gradient(network, ALL_LOSSES[loss], x[order], y[order], w[order])
    assert value_2 == pytest.approx(value, rel=EXACT)
    assert_close(grad_2, grad, EXACT, "∇θ")
    assert_close(dx_2, dx[order], EXACT, "dx")


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_batch_is_the_weighted_mean_of_its_parts(backend, loss):
    network, x, y = make(backend, no_batch_norm, loss), data("normal", (9, I)), targets(loss, 9)
    w = data("uniform", 9, seed=5)
    rule = ALL_LOSSES[loss]
    for weight in (None, w):
        whole_value, whole, _ = gradient(network, rule, x, y, weight)
        total = value = N = 0.0
        for rows in (slice(0, 2), slice(2, 9)):
            part = None if weight is None else weight[rows]
            one_value, one, _ = gradient(network, rule, x[rows], y[rows], part)
            n = float(
                rule.total_weight(
                    backend, backend.asarray(y[rows]), None if part is None else backend.asarray(part)
                )
            )
            total, value, N = total + n * one, value + n * one_value, N + n
        assert value / N == pytest.approx(whole_value, rel=EXACT)
        assert_close(total / N, whole, EXACT, "∇θ")


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_weight_two_equals_the_row_twice(backend, loss):
    network, x, y = make(backend, no_batch_norm, loss), data("normal", (4, I)), targets(loss, 4)
    twice = [0, 1, 1, 2, 3]
    value, grad, _ = gradient(network, ALL_LOSSES[loss], x, y, np.array([1.0, 2, 1, 1]))
    value_2, grad_2, _ = gradient(network, ALL_LOSSES[loss], x[twice], y[twice])
    assert value_2 == pytest.approx(value, rel=EXACT)
    assert_close(grad_2, grad, EXACT, "∇θ")


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_scale_of_the_weights_and_rows_of_weight_zero_change_nothing(backend, loss):
    network, x, y = make(backend, no_batch_norm, loss), data("normal", (4, I)), targets(loss, 4)
    value, grad, _ = gradient(network, ALL_LOSSES[loss], x[:3], y[:3], np.array([1.0, 2, 3]))
    for w in ([1e3, 2e3, 3e3, 0], [1e-3, 2e-3, 3e-3, 0]):
        value_2, grad_2, _ = gradient(network, ALL_LOSSES[loss], x, y, np.array(w))
        assert value_2 == pytest.approx(value, rel=EXACT)
        assert_close(grad_2, grad, EXACT, "∇θ")


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_all_weights_zero_give_no_loss_and_no_gradient(backend, loss):
    network, x, y = make(backend, no_batch_norm, loss), data("normal", (4, I)), targets(loss, 4)
    value, grad, dx = gradient(network, ALL_LOSSES[loss], x, y, np.zeros(4))
    assert value == 0 and not grad.any() and not dx.any()


def test_scaled_gradient_at_the_output_scales_every_gradient(backend):
    network, x = make(backend, DEEP), data("normal", (6, I))
    found = []
    for factor in (1.0, -8.0):  # a power of two: exact
        ws = network.workspace(6, input_gradient=True)
        network.forward(backend.asarray(x), ws)
        dx = network.backward(backend.asarray(factor * data("normal", (6, O), seed=2)), ws)
        found.append((np.array(backend.to_host(network.params.grad)), np.array(backend.to_host(dx))))
    for here, there in zip(*found, strict=True):
        np.testing.assert_array_equal(-8.0 * here, there)


def test_features_of_zero_change_nothing(backend, dtype):
    narrow = Network(3, [Dense(5, tanh), Dense(O)], backend, dtype)
    wide = Network(7, [Dense(5, tanh), Dense(O)], backend, dtype)
    numbers = narrow.params.to_host()
    wide.params.assign(numbers | {"0.W": np.vstack([numbers["0.W"], np.ones((4, 5), dtype)])})
    x, y = data("normal", (6, 3)), data("normal", (6, O), seed=1)
    value, _, dx = gradient(narrow, mean_squared_error, x, y)
    value_2, _, dx_2 = gradient(wide, mean_squared_error, np.hstack([x, np.zeros((6, 4))]), y)
    relative = tolerance("network", dtype, K=7, L=2)
    assert value_2 == pytest.approx(value, rel=relative)
    assert_close(dx_2[:, :3], dx, relative, "dx")
    for slot in wide.params.slots:
        got = backend.to_host(slot.view(wide.params.grad))
        want = next(
            backend.to_host(s.view(narrow.params.grad)) for s in narrow.params.slots if s.name == slot.name
        )
        assert_close(got[:3] if slot.name == "0.W" else got, want, relative, f"gradient of {slot.name}")
        assert slot.name != "0.W" or not got[3:].any()


def test_every_row_reaches_every_gradient(backend):
    """Changing one target in any row changes the gradient of every matrix and bias."""
    smooth = [Dense(6, tanh), Residual([LayerNorm(), Dense(6, tanh)]), Dense(5, ACTIVATIONS["silu"])]
    network, x, y = make(backend, smooth), data("normal", (7, I)), data("normal", (7, O), seed=1)
    _, grad, _ = gradient(network, mean_squared_error, x, y)
    for row in range(7):
        other = y.copy()
        other[row] += 1
        _, changed, _ = gradient(network, mean_squared_error, x, other)
        for slot in network.params.slots:
            assert (slot.view(changed) != slot.view(grad)).any(), f"row {row} does not reach {slot.name}"


# ---------------------------------------------------------------------- planted bugs


def of_loss(factor):
    """Return a loss whose gradient is divided by a wrong number of rows."""

    def pointwise_loss(self, kind, z, y, weight, dz):
        value = NumpyBackend.pointwise_loss(self, kind, z, y, weight, dz)
        if dz is not None:
            dz *= factor(len(z))
        return value

    return {"pointwise_loss": pointwise_loss}


def of_bias(fault):
    return {"column_sum": lambda self, A, out: NumpyBackend.column_sum(self, *fault(A), out=out)}


def of_slope(name, fault):
    """Return φ′ of the activation with this name, as a function of (da, a)."""

    def activation_backward(self, da, a, phi, s=None):
        if phi.name != name:
            return NumpyBackend.activation_backward(self, da, a, phi, s)
        da *= fault(da, a)
        return da

    return {"activation_backward": activation_backward}


def of_matrix(fault):
    def affine_gradients(self, x, delta, dW, db):
        NumpyBackend.affine_gradients(self, x, delta, dW, db)
        fault(x, delta, dW)

    return {"affine_gradients": affine_gradients}


def not_transposed(self, A, B, out):
    square = B.shape[0] == B.shape[1] and B.flags.f_contiguous and not B.flags.c_contiguous
    return NumpyBackend.gemm(self, A, B.T if square else B, out)


def stale_row(x, delta, dW):
    dW[...] = x[:-1].T @ delta[:-1] + np.outer(x[0], delta[-1])


def one_percent(x, delta, dW):
    dW[0, 0] *= 1.01


def through_float16(x, delta, dW):
    dW[...] = dW.astype(np.float16)


def tf32(self, A, B, out):
    """Round to ten bits of mantissa, as a tensor core does with TF32."""
    low = [
        ((np.ascontiguousarray(M).view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000))
        for M in (A, B)
    ]
    return NumpyBackend.gemm(self, low[0].view(np.float32), low[1].view(np.float32), out)


PLANTED = {
    "no 1/N": of_loss(lambda N: N),
    "N − 1": of_loss(lambda N: N / (N - 1)),
    "/64 on a partial batch": of_loss(lambda N: N / 64),
    "bias mean instead of sum": of_bias(lambda A: (A / len(A),)),
    "last row dropped from the bias gradient": of_bias(lambda A: (A[:-1],)),
    "zero bias gradient": of_bias(lambda A: (0 * A,)),
    "relu′ missing": of_slope("relu", lambda da, a: 1),
    "relu′ of the upstream value": of_slope("relu", lambda da, a: da > 0),
    "leak 0.01": of_slope("relu", lambda da, a: np.where(a > 0, 1, 0.01)),
    "tanh′ = 1 − |a|": of_slope("tanh", lambda da, a: 1 - abs(a)),
    "tanh′ with a second activation": of_slope("tanh", lambda da, a: 1 - np.tanh(a) ** 2),
    "W not transposed": {"gemm": not_transposed},
    "one stale row": of_matrix(stale_row),
    "one element + 1 %": of_matrix(one_percent),
    "through float16": of_matrix(through_float16),
}


def planted(methods):
    return type("Planted", (NumpyBackend,), methods)()


@pytest.mark.parametrize("bug", PLANTED)
def test_complex_step_detects_the_planted_bug(bug):
    layers = [Dense(4, relu, biases=ONE), Dense(4, tanh, biases=ONE)]
    network = Network(4, layers, planted(PLANTED[bug]), "float64")
    with pytest.raises(AssertionError, match="the gradient of"):
        check_gradients(network, mean_squared_error, data("normal", (6, 4)), data("normal", (6, 4), seed=1))


def test_float64_oracle_detects_tf32():
    layers, x, y = (
        [Dense(48, relu), Dense(O)],
        data("normal", (64, 20)).astype(np.float32),
        data("normal", (64, O), seed=1),
    )
    low, high = (
        Network(20, layers, planted({"gemm": tf32}), "float32"),
        Network(20, layers, "numpy", "float64"),
    )
    high.params.assign({key: value.astype(np.float64) for key, value in low.params.to_host().items()})
    (_, _, dx), (_, _, want) = (gradient(network, mean_squared_error, x, y) for network in (low, high))
    with pytest.raises(AssertionError, match="dx differs most"):
        assert_close(dx, want, tolerance("network", "float32", K=64, L=2), "dx")
