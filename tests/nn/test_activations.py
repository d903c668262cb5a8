import pickle

import numpy as np
import pytest

from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn import activations
from ffnn_gpu.nn.activations import ACTIVATIONS, Activation, elu, get_activation, leaky_relu, relu, tanh
from ffnn_gpu.testing import assert_close, tolerance

EVERY = [*ACTIVATIONS.values(), leaky_relu.with_alpha(0.2), elu.with_alpha(0.5)]
every = pytest.mark.parametrize("phi", EVERY, ids=repr)
KINKS = np.array([0.0, -1.0, 1.0, -3.0, 3.0])  # of all activations


def read(text):
    """Return the activation for the text of its repr."""
    name, _, alpha = text.removesuffix(")").partition(".with_alpha(")
    phi = getattr(activations, name)
    return phi.with_alpha(float(alpha)) if alpha else phi


def value_and_slope(backend, phi, s):
    """Return φ(s) and φ′(s), computed by the backend's operations, on the host."""
    s = backend.asarray(s.reshape(1, -1))
    a = backend.activate(backend.duplicate(s), phi)
    ones = backend.zeros(s.shape, s.dtype) + 1
    slope = backend.activation_backward(ones, a, phi, s if phi.needs_input else None)
    return backend.to_host(a)[0], backend.to_host(slope)[0]


def affine_and_slope(backend, phi, s):
    """Return the same, computed by `affine` with W = 1 as in Dense."""
    x = backend.asarray(s.reshape(-1, 1))
    out, pre = backend.empty(x.shape, x.dtype), backend.empty(x.shape, x.dtype) if phi.needs_input else None
    one, ones = backend.asarray(np.ones((1, 1), s.dtype)), backend.zeros(x.shape, x.dtype) + 1
    a = backend.affine(x, one, None, phi, out=out, s=pre)
    slope = backend.activation_backward(ones, a, phi, pre)
    return backend.to_host(a)[:, 0], backend.to_host(slope)[:, 0]


def smooth_points():
    s = np.concatenate([np.linspace(-7.03, 7.07, 301), [-30.3, -15.1, 15.2, 30.4]])
    return s[np.abs(s[:, None] - KINKS).min(axis=1) > 1e-3]


@every
def test_derivative_equals_complex_step_of_the_value(backend, phi):
    s, h = smooth_points(), 1e-30
    want = phi.value(np, s + 1j * h).imag / h
    _, got = value_and_slope(backend, phi, s)
    assert_close(
        got, want, 1e-13, f"{phi!r}′", scale=max(1, np.abs(want).max())
    )  # 450 eps, on slopes of size 1


@every
def test_value_and_derivative_equal_autograd(backend, golden, phi):
    stored = golden("activations")
    s, want = np.array(stored["s"]), stored["of"][repr(phi)]
    with np.errstate(all="raise"):
        value, slope = affine_and_slope(backend, phi, s)
    relative = tolerance("network", "float64")
    assert_close(value, want["value"], relative, f"{phi!r}", scale=np.maximum(1, np.abs(s)))
    assert_close(slope, want["slope"], relative, f"{phi!r}′", scale=1)


def test_golden_vectors_cover_every_activation(golden):
    assert {name.split(".")[0] for name in golden("activations")["of"]} == set(ACTIVATIONS)


@every
def test_float32_agrees_with_float64_at_the_rounded_inputs(backend, phi):
    s = smooth_points().astype(np.float32)
    value, slope = affine_and_slope(backend, phi, s)
    exact_value, exact_slope = affine_and_slope(backend, phi, s.astype(np.float64))
    relative = tolerance("network", "float32")
    assert_close(value, exact_value, relative, f"{phi!r}", scale=np.maximum(1, np.abs(s)))
    assert_close(slope, exact_slope, relative, f"{phi!r}′", scale=max(1, np.abs(exact_slope).max()))


@every
def test_value_and_derivative_of_nan_are_nan(backend, dtype, phi):
    value, _ = affine_and_slope(backend, phi, np.array([1.0, np.nan, -1.0], dtype))
    assert np.isnan(value).tolist() == [False, True, False]


@every
def test_dtype_is_kept(backend, dtype, phi):
    value, slope = affine_and_slope(backend, phi, np.linspace(-2, 2, 9).astype(dtype))
    assert value.dtype == dtype and slope.dtype == dtype


FAR = np.array([-1e4, -1000.0, 1000.0, 1e4])
LIMITS = {  # values and slopes at −10⁴, −1000, 1000, 10⁴
    "identity": (FAR, [1, 1, 1, 1]),
    "relu": ([0, 0, 1000, 1e4], [0, 0, 1, 1]),
    "leaky_relu": ([-100, -10, 1000, 1e4], [0.01, 0.01, 1, 1]),
    "elu": ([-1, -1, 1000, 1e4], [0, 0, 1, 1]),
    "selu": (
        [-1.7580993408473766, -1.7580993408473766, 1050.7009873554805, 10507.009873554805],
        [0, 0, 1.0507009873554805, 1.0507009873554805],
    ),
    "gelu": ([0, 0, 1000, 1e4], [0, 0, 1, 1]),
    "gelu_tanh": ([0, 0, 1000, 1e4], [0, 0, 1, 1]),
    "silu": ([0, 0, 1000, 1e4], [0, 0, 1, 1]),
    "mish": ([0, 0, 1000, 1e4], [0, 0, 1, 1]),
    "softplus": ([0, 0, 1000, 1e4], [0, 0, 1, 1]),
    "softsign": (FAR / (1 + abs(FAR)), (1 + abs(FAR)) ** -2.0),
    "tanh": ([-1, -1, 1, 1], [0, 0, 0, 0]),
    "sigmoid": ([0, 0, 1, 1], [0, 0, 0, 0]),
    "hard_sigmoid": ([0, 0, 1, 1], [0, 0, 0, 0]),
    "hard_tanh": ([-1, -1, 1, 1], [0, 0, 0, 0]),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_limits_are_exact_and_without_warnings(backend, dtype, name):
    with np.errstate(all="raise"):
        value, slope = affine_and_slope(backend, ACTIVATIONS[name], FAR.astype(dtype))
    relative = tolerance("product", dtype)
    want_value, want_slope = (np.array(want, float) for want in LIMITS[name])
    assert_close(value, want_value, relative, name, scale=np.abs(want_value))  # a limit of 0 is 0 exactly
    room = (
        1 if name in ("elu", "selu", "softsign") else np.abs(want_slope)
    )  # a + λα and 1 − |a| of the stored a round
    assert_close(slope, want_slope, relative, f"{name}′", scale=room)


ENDS = {  # values and slopes at −∞ and ∞
    name: ([wanted[0][0], wanted[0][-1]], [wanted[1][0], wanted[1][-1]]) for name, wanted in LIMITS.items()
} | {"softsign": ([-1, 1], [0, 0])}
UNBOUNDED = {"identity": (1, 1), "leaky_relu": (1, 1)} | dict.fromkeys(  # φ is ∞ there as well
    ("relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "mish", "softplus"), (0, 1)
)
TYPES = ["float32", "float64", "bfloat16", "float16"]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", TYPES)
def test_value_and_derivative_at_infinity_are_their_limits(backend, dtype, name):
    s = np.array([-np.inf, np.inf, 0.5, np.inf, -np.inf]).astype(backend.dtype(dtype))
    below, above = UNBOUNDED.get(name, (0, 0))
    values, slopes = (np.array(wanted, float) for wanted in ENDS[name])
    values[0], values[1] = -np.inf if below else values[0], np.inf if above else values[1]
    relative = tolerance("product", dtype)
    for computed in (value_and_slope, affine_and_slope):
        value, slope = (found.astype(float) for found in computed(backend, ACTIVATIONS[name], s))
        if computed is value_and_slope or np.isfinite(values).all():
            np.testing.assert_allclose(value[[0, 1, 3, 4]], values[[0, 1, 1, 0]], relative, 0)
        np.testing.assert_allclose(slope[[0, 1, 3, 4]], slopes[[0, 1, 1, 0]], 0, 4 * relative)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", TYPES)
def test_value_and_derivative_are_finite_at_every_size(backend, dtype, name):
    """Up to half the largest number, because selu multiplies by 1.05."""
    import ml_dtypes

    largest = float(ml_dtypes.finfo(backend.dtype(dtype)).max) / 2
    sizes = np.geomspace(1, largest, 60)
    s = np.concatenate([-sizes[::-1], sizes]).astype(backend.dtype(dtype))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, slope = value_and_slope(backend, ACTIVATIONS[name], s)
    assert np.isfinite(value.astype(float)).all() and np.isfinite(slope.astype(float)).all()
    assert np.abs(slope.astype(float)).max() < 2
    exact = ACTIVATIONS[name].value(np, s.astype(float))
    assert_close(value.astype(float), exact, 4 * tolerance("network", dtype), name, np.maximum(1, abs(exact)))


def test_small_tail_of_sigmoid_has_full_relative_accuracy(backend):
    s = np.array([-700.0, -300.0, -50.0])
    value, _ = affine_and_slope(backend, activations.sigmoid, s)
    assert_close(value, np.exp(s), tolerance("product", "float64", K=700), "sigmoid", scale=np.exp(s))


def test_small_tail_of_gelu_has_full_relative_accuracy(backend):
    # −20 Φ(−20) and −10 Φ(−10), Φ from 50-digit arithmetic
    want = np.array([-20 * 2.7536241186062336951e-89, -10 * 7.6198530241605260660e-24])
    value, _ = affine_and_slope(backend, activations.gelu, np.array([-20.0, -10.0]))
    assert_close(
        value, want, 300 * np.finfo(np.float64).eps, "gelu", scale=np.abs(want)
    )  # erfc errs by (40 + x²) eps


def test_derivative_at_a_kink_is_the_left_hand_derivative(backend, dtype):
    want = {
        "relu": 0,
        "leaky_relu": 0.01,
        "elu": 1,
        "selu": 1.0507009873554805 * 1.6732632423543772,
        "softsign": 1,
    }
    for name, slope in want.items():
        _, got = affine_and_slope(backend, ACTIVATIONS[name], np.zeros(1, dtype))
        assert_close(got, np.array([slope]), tolerance("product", dtype), name)


def test_hard_activations_are_flat_at_their_ends(backend, dtype):
    _, slope = affine_and_slope(backend, activations.hard_tanh, np.array([-1, 1], dtype))
    assert slope.tolist() == [0, 0]
    _, slope = affine_and_slope(backend, activations.hard_sigmoid, np.array([-3, 3], dtype))
    assert slope.tolist() == [0, 0]


@every
def test_repr_evaluates_to_the_same_activation(phi):
    assert read(repr(phi)) == phi and repr(read(repr(phi))) == repr(phi)


@every
def test_pickle_returns_the_same_activation(phi):
    back = pickle.loads(pickle.dumps(phi))  # noqa: S301
    assert back == phi and back.value(np, np.array(-0.5)) == phi.value(np, np.array(-0.5))


def test_activations_compare_by_name_and_constant():
    assert leaky_relu.with_alpha(0.01) == leaky_relu and leaky_relu.with_alpha(0.2) != leaky_relu
    assert hash(leaky_relu.with_alpha(0.01)) == hash(leaky_relu) and relu != tanh


def square(xp, s, alpha):
    return s * s


def twice(xp, s, alpha):
    return 2 * s


def test_custom_activation_prints_its_name_and_pickles():
    mine = Activation("square", square, twice, needs_input=True)
    assert repr(mine) == "square"
    assert pickle.loads(pickle.dumps(mine)).value(np, 3.0) == 9.0  # noqa: S301


def test_custom_activations_compare_by_name_and_settings():
    mine = Activation("mine", square, twice)
    assert mine == Activation("mine", twice, square) and hash(mine) == hash(Activation("mine", twice, square))
    for other in (
        Activation("yours", square, twice),
        Activation("mine", square, twice, True),
        Activation("mine", square, twice, alpha=1.0),
    ):
        assert mine != other
    with pytest.raises(AttributeError):
        mine.alpha = 2.0


def test_custom_activation_is_computed_by_its_own_formula(backend):
    """Neither a backend nor pickle may replace it by a built-in one of the same name; or the name raises."""
    for name in ("identity", "relu", "tanh"):
        try:
            mine = Activation(name, square, twice, needs_input=True)
        except ConfigurationError:
            continue
        value, slope = value_and_slope(backend, mine, np.array([3.0]))
        assert (value.tolist(), slope.tolist()) == ([9.0], [6.0])
        assert pickle.loads(pickle.dumps(mine)).value(np, 3.0) == 9.0  # noqa: S301


def test_activation_by_name():
    assert get_activation("relu") is relu and get_activation("elu", 0.5) == elu.with_alpha(0.5)
    with pytest.raises(
        ConfigurationError,
        match=r"no activation is called 'rellu'; did you mean 'relu'\? There are identity, relu",
    ):
        get_activation("rellu")


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf"), float("nan")])
def test_with_alpha_rejects_values_that_are_not_positive_and_finite(alpha):
    with pytest.raises(ConfigurationError, match="alpha of elu must be positive and finite"):
        elu.with_alpha(alpha)


def test_with_alpha_rejects_activations_without_a_constant():
    with pytest.raises(ConfigurationError, match="tanh has no constant alpha"):
        tanh.with_alpha(0.5)
