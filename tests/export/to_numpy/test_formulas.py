"""Every activation is written as a function, from its trace, with the bits of the activation."""

import numpy as np
import pytest
from ffnn_gpu.activations import Activation, leaky_relu

from ffnn_gpu import Dense, Network
from ffnn_gpu.backends.cpu.numpy_backend import NumpyBackend
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.export.to_numpy import formulas, numpy_source
from ffnn_gpu.nn.activations import ACTIVATIONS
from tests.export.models import assert_same_bits

S = np.concatenate([np.linspace(-30, 30, 999), 10.0 ** np.arange(-12, 0), [0.0, -0.0]])


@pytest.fixture
def called(imported):
    """Return a function that computes a formula of s by its source."""

    def call(formula, s):
        sources = formulas.functions("phi", formula, s.dtype, "it").values()
        return imported("\n".join(("import numpy as np", *sources))).phi(s)

    return call


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activation_has_the_same_bits(name, dtype, called):
    s = S.astype(dtype)
    with np.errstate(under="ignore"):
        assert_same_bits(called(ACTIVATIONS[name].value, s), ACTIVATIONS[name].value(np, s))


@pytest.mark.parametrize(
    "formula",
    [
        lambda xp, x: xp.where((x > 0) & (x <= 2) | ~(x != -1), x, xp.sign(x)),
        lambda xp, x: xp.logaddexp(x, 0) ** 3 / (1 + x * x),
        lambda xp, x: xp.clip(x, -1, 2) * xp.where(xp.logical_xor(x < 0, x >= 3), 1, 2),
        lambda xp, x: xp.ones_like(x),
        lambda xp, x: (x > 0).astype(x.dtype) - xp.isnan(x),
        lambda xp, x: xp.where(xp.isfinite(x), xp.arctan2(x, 2) + xp.hypot(x, 1), -xp.inf),
        lambda xp, x: -(-x - (3 - x)) - (x - (x - (x / (x / (x * x + 1) + 40)))),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_formula_of_a_user_is_computed(formula, dtype, called):
    s = S.astype(dtype)
    got = called(formula, s)
    assert got.dtype == dtype
    rtol, atol = (1e-6, 1e-40) if dtype == "float32" else (1e-14, 0)
    np.testing.assert_allclose(got, formula(np, s), rtol, atol)


def test_activations_that_differ_have_names_that_differ(loaded):
    mine = Activation("predict", lambda xp, s, _: s * s, lambda xp, a, _: a)
    other = Activation("2s", lambda xp, s, _: s + s, lambda xp, a, _: a)
    layers = [
        Dense(3, phi) for phi in (leaky_relu, leaky_relu.with_alpha(0.5), mine, other, leaky_relu, "gelu")
    ]
    network = Network(2, layers, NumpyBackend(), "float64")
    x = np.linspace(-2, 2, 20).reshape(10, 2)
    file = loaded(network)
    assert_same_bits(file.predict(x), network.predict(x))
    assert numpy_source(network).count("def leaky_relu") == 2


def test_activation_without_a_trace_is_refused():
    mine = Activation("mine", lambda xp, s, _: s if s.sum() > 0 else -s, lambda xp, a, _: a)
    with pytest.raises(ConfigurationError, match="the activation mine of layer 1 cannot be written as NumPy"):
        numpy_source(Network(2, [Dense(2), Dense(2, mine)], "numpy"))
