import numpy as np
import pytest

from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn import initializers
from ffnn_gpu.nn.activations import ACTIVATIONS
from ffnn_gpu.nn.initializers import (
    INITIALIZERS,
    Constant,
    Initializer,
    Normal,
    Orthogonal,
    Uniform,
    VarianceScaling,
    default_initializer,
)

VARIANCE = {"he": lambda I, O: 2 / I, "lecun": lambda I, O: 1 / I, "glorot": lambda I, O: 2 / (I + O)}
BOUNDED = {
    "uniform": 1.8,
    "normal": 3.3,
}  # largest |w|/σ of 60,000 draws: √3 for one, above 3.3 for the other


def draw(initializer, shape, seed=0):
    return initializer(np.random.default_rng(seed), shape)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializer_draws_float64_of_the_shape_and_the_seed(name):
    first, again, other = (draw(INITIALIZERS[name], (7, 5), seed) for seed in (1, 1, 2))
    assert first.shape == (7, 5) and first.dtype == np.float64 and np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    assert name == "zeros" or (first != other).all()


@pytest.mark.parametrize("family", VARIANCE)
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_scaled_initializer_has_the_variance_of_its_paper(family, distribution):
    I, O = 300, 200
    values, variance = draw(INITIALIZERS[f"{family}_{distribution}"], (I, O)), VARIANCE[family](I, O)
    n = values.size
    assert abs(values.mean()) < 5 * (variance / n) ** 0.5  # 5 σ of the mean
    assert (
        abs(values.var() / variance - 1) < 5 * (2 / n) ** 0.5
    )  # 5 σ of a normal's sample variance; a uniform's is less
    largest = np.abs(values).max() / variance**0.5
    assert largest < BOUNDED["uniform"] if distribution == "uniform" else largest > BOUNDED["normal"]


def test_plain_initializers_have_their_parameters():
    n = 60_000
    normal, uniform = draw(Normal(std=2, mean=3), (n,)), draw(Uniform(-1, 3), (n,))
    assert abs(normal.mean() - 3) < 5 * 2 / n**0.5 and abs(normal.std() - 2) < 5 * 2 / (2 * n) ** 0.5  # 5 σ
    assert uniform.min() >= -1 and uniform.max() < 3 and abs(uniform.mean() - 1) < 5 * 4 / (12 * n) ** 0.5
    assert (draw(Constant(0.25), (3,)) == 0.25).all()


def test_standard_constants_equal_the_documented_ones():
    assert (
        Constant() == Constant(0)
        and Normal() == Normal(std=0.01, mean=0)
        and Uniform() == Uniform(-0.05, 0.05)
    )
    assert Orthogonal() == Orthogonal(gain=1) and initializers.zeros == Constant(0)
    gains = {
        name: (rule.gain, rule.fan)
        for name, rule in INITIALIZERS.items()
        if isinstance(rule, VarianceScaling)
    }
    of = {"glorot": (1, "mean"), "he": (2, "in"), "lecun": (1, "in")}
    assert gains == {
        f"{name}_{kind}": values for name, values in of.items() for kind in ("normal", "uniform")
    }


def test_initializers_are_immutable_values():
    for rule in INITIALIZERS.values():
        assert rule == type(rule)(**vars(rule)) and hash(rule) == hash(type(rule)(**vars(rule)))
        with pytest.raises(AttributeError):
            rule.gain = 2


@pytest.mark.parametrize("shape", [(40, 40), (60, 20), (20, 60), (1, 5)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    Q = draw(Orthogonal(gain=2.0), shape)
    product = Q.T @ Q if shape[0] >= shape[1] else Q @ Q.T
    assert Q.shape == shape
    np.testing.assert_allclose(product, 4 * np.eye(min(shape)), atol=1e-13)  # 4 √60 eps, with room


def test_orthogonal_is_haar_distributed():
    """Without the sign rule most diagonal elements of Q are negative."""
    diagonals = np.array([np.diag(draw(initializers.orthogonal, (3, 3), seed)) for seed in range(2000)])
    assert abs((diagonals > 0).mean() - 0.5) < 5 * 0.5 / 6000**0.5  # 5 σ


@pytest.mark.parametrize("shape", [(6, 4), (4, 4), (4, 6)])
def test_orthogonal_is_the_qr_factor_with_a_positive_diagonal_of_r(shape):
    for seed in range(20):
        tall = np.random.default_rng(seed).standard_normal((max(shape), min(shape)))
        Q = draw(initializers.orthogonal, shape, seed)
        R = (Q if shape[0] >= shape[1] else Q.T).T @ tall
        assert (np.diag(R) > 0).all() and np.abs(np.tril(R, -1)).max() < 1e-13


@pytest.mark.parametrize("name", INITIALIZERS)
def test_repr_of_a_standard_initializer_is_its_name(name):
    assert repr(INITIALIZERS[name]) == name and getattr(initializers, name) == INITIALIZERS[name]


@pytest.mark.parametrize(
    "initializer",
    [Constant(0.5), Normal(0.1), Uniform(-1, 1), Orthogonal(2.0), VarianceScaling(3.0, "in", "normal")],
)
def test_repr_of_another_initializer_is_the_call_that_creates_it(initializer):
    name, _, settings = repr(initializer).removesuffix(")").partition("(")
    values = {key: value.strip("'") for key, value in (entry.split("=") for entry in settings.split(", "))}
    kind = getattr(initializers, name)
    assert (
        kind(**{key: value if value.isalpha() else float(value) for key, value in values.items()})
        == initializer
    )


@pytest.mark.parametrize(("fan", "distribution"), [("out", "normal"), ("in", "cauchy"), ("mean", "Normal")])
def test_variance_scaling_rejects_unknown_settings(fan, distribution):
    with pytest.raises(ConfigurationError, match="fan must be 'in' or 'mean'"):
        VarianceScaling(1.0, fan, distribution)


DEFAULTS = {
    "he_normal": {"relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish", "softplus"},
    "lecun_normal": {"selu"},
    "glorot_uniform": {"identity", "softsign", "tanh", "sigmoid", "hard_sigmoid", "hard_tanh"},
}


def test_default_initializer_depends_on_the_activation():
    want = {name: initializer for initializer, names in DEFAULTS.items() for name in names}
    assert {name: repr(default_initializer(phi)) for name, phi in ACTIVATIONS.items()} == want
    assert default_initializer(ACTIVATIONS["elu"].with_alpha(0.3)) == initializers.he_normal


def test_base_initializer_raises():
    with pytest.raises(NotImplementedError, match="Initializer must define __call__"):
        draw(Initializer(), (2,))


def test_initializer_custom_prints_its_name():
    class Mine(Initializer):
        pass

    assert repr(Mine()) == "Mine()" and Mine() == Mine()
