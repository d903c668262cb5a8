"""ParametricActivation: φ or the identity or between, and the gradient of its strength."""

import numpy as np
import pytest

from ffnn_gpu import AdamW, Network, mean_squared_error, train_step
from ffnn_gpu.backends import Backend, get_backend
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.activations import ACTIVATIONS, Activation
from ffnn_gpu.nn.initializers import Normal
from ffnn_gpu.nn.layers import Dense, ParametricActivation
from ffnn_gpu.testing import assert_close, assert_parity, check_gradients, tolerance
from ffnn_gpu.testing.strict_device import StrictBackend

SMALL = Normal(0.1)  # so that float16, whose gradients are multiplied by 65,536, does not overflow
LAYERS = [
    Dense(6), ParametricActivation("selu"), Dense(5), ParametricActivation("mish"), Dense(2, weights=SMALL),
]  # fmt: skip
CUBE = Activation("cube", lambda xp, s, _: s**3, lambda xp, s, _: 3 * s**2, needs_input=True)
HOST = Activation(  # no elementwise expression, so it runs as it is
    "shaped", lambda xp, s, _: s * (1.5 if s.shape else 1), lambda xp, a, _: 1.5 * xp.ones_like(a)
)


def batch(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def scattered(network):
    """Return the network with other strengths than 1."""
    rng, numbers = np.random.default_rng(2), network.params.to_host()
    strengths = {
        name: rng.normal(1, 0.5, v.shape).astype(v.dtype) for name, v in numbers.items() if "alpha" in name
    }
    network.params.assign(numbers | strengths)
    return network


@pytest.mark.parametrize("phi", [*ACTIVATIONS.values(), CUBE, HOST], ids=repr)
def test_outputs_and_gradients_equal_those_composed_of_the_activation(backend, dtype, phi):
    network = scattered(Network(4, [ParametricActivation(phi)], backend, dtype))
    x, da = batch(300, 4).astype(dtype), batch(300, 4, 1).astype(dtype)
    alpha, ws = network.params.to_host()["0.alpha"].astype(float), network.workspace(300, input_gradient=True)
    a = backend.to_host(network.forward(backend.asarray(x), ws))
    wide = x.astype(np.float64)
    value = phi.value(np, wide)
    slope = phi.derivative(np, wide if phi.needs_input else value)
    relative = tolerance("network", dtype, K=300)
    assert_close(a, wide + alpha * (value - wide), relative, "a")
    dx = backend.to_host(network.backward(backend.asarray(da.copy()), ws))
    assert_close(dx, da * (1 + alpha * (slope - 1)), relative, "dx")
    terms = da * (value - wide)
    dalpha = backend.to_host(network.params.views[0].dalpha)
    assert_close(dalpha, terms.sum(0), relative, "dalpha", scale=max(abs(terms).sum(0).max(), 1))


@pytest.mark.parametrize("phi", ACTIVATIONS.values(), ids=repr)
def test_strength_1_is_the_activation_and_0_the_identity(backend, phi):
    network, x = Network(4, [ParametricActivation(phi)], backend, "float64"), batch(5, 4)
    assert_close(network.predict(x), phi.value(np, x), tolerance("network", "float64"), "a")
    network.params.assign({"0.alpha": np.zeros(4)})
    np.testing.assert_array_equal(network.predict(x), x)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_gradient_equals_the_slope_of_the_loss(backend, dtype):
    check_gradients(
        scattered(Network(3, LAYERS, backend, dtype)), mean_squared_error, batch(6, 3), batch(6, 2)
    )


def test_gradient_of_the_first_layer_equals_the_slope_of_the_loss(backend):
    network = scattered(Network(3, [ParametricActivation("tanh"), Dense(2)], backend, "float64"))
    check_gradients(network, mean_squared_error, batch(6, 3), batch(6, 2))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_backends_agree(dtype):
    network = scattered(Network(3, LAYERS, "numpy", dtype))
    assert_parity(network, batch(9, 3), batch(9, 2), "mean_squared_error",
                  backends=(Backend(), "numpy", StrictBackend()), optimizer=AdamW(ema=0.9))  # fmt: skip


def test_a_formula_that_cannot_be_compiled_is_called_in_a_recorded_step():
    pytest.importorskip("llvmlite")

    def branching(xp, s, _):
        return s * 2 if float(s.sum()) > 0 else s * 3

    phi = Activation("branching", branching, lambda xp, a, _: 2 * xp.ones_like(a))
    backend = get_backend("numpy")
    networks = [
        Network(3, [Dense(4), ParametricActivation(phi), Dense(2)], each) for each in (backend, Backend())
    ]
    x, y = abs(batch(64, 3)).astype("float32"), batch(64, 2).astype("float32")
    spaces, rule = [network.workspace(64) for network in networks], AdamW()
    for _ in range(3):
        losses = [
            float(train_step(network, mean_squared_error, rule, x, y, ws))
            for network, ws in zip(networks, spaces, strict=True)
        ]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    (recording,) = spaces[0].recordings
    assert recording.reason == "" and len([call for call in recording.table.calls if call]) == 2


def test_activation_is_read_by_name_and_others_are_refused():
    assert ParametricActivation("mish") == ParametricActivation(ACTIVATIONS["mish"])
    assert repr(ParametricActivation("mish")) == "ParametricActivation(mish)"
    with pytest.raises(ConfigurationError, match="no activation is called 'mush'"):
        ParametricActivation("mush")
