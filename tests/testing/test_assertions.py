"""check_gradients and assert_parity accept correct layers and detect wrong ones."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    Activation,
    Adam,
    BatchNorm,
    ConfigurationError,
    Constant,
    Dense,
    Dropout,
    Layer,
    LayerNorm,
    Network,
    PointwiseLoss,
    Residual,
    ShapeError,
    mean_squared_error,
    relu,
    softmax_cross_entropy,
    tanh,
)
from ffnn_gpu.backends.choice import Backend
from ffnn_gpu.nn.losses import Loss
from ffnn_gpu.optim.choice import OPTIMIZERS
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.testing import assert_no_worse, assert_parity, check_gradients, tolerance
from ffnn_gpu.testing.assertions import Report
from ffnn_gpu.testing.strict_device import StrictBackend
from ffnn_gpu.testing.tolerances import Difference

RNG = np.random.default_rng(0)
X, Y, LABELS = RNG.normal(size=(8, 4)), RNG.normal(size=(8, 3)), RNG.integers(0, 3, 8)


class Wrong(Backend):
    """A backend with one wrong operation."""

    name = "wrong"


class Doubling(Wrong):
    def affine(self, x, W, b, phi, out, s=None):
        return super().affine(2 * x, W, b, phi, out, s)


class OnePercent(Wrong):
    def affine_gradients(self, x, delta, dW, db):
        super().affine_gradients(x, delta, dW, db)
        dW[1, 2] *= 1.01


class HalfStep(Wrong):
    def adam(self, update, m, v, *constants):
        before = update.theta.copy()
        super().adam(update, m, v, *constants)
        update.theta[...] = (before + update.theta) / 2


@dataclass(frozen=True, repr=False)
class Magnitude(Layer):
    """a = |x| by abs, which drops the imaginary part, so that the complex step is wrong."""

    slope: float = 1.0

    def forward(self, backend, p, x, buf):
        buf.x = x
        buf.a[...] = abs(x)
        return buf.a

    def backward(self, backend, p, da, buf):
        return backend.xp.multiply(da, self.slope * backend.xp.sign(buf.x), out=buf.dx)


@dataclass(frozen=True, repr=False)
class Mute(Magnitude):
    """The same with a backward that returns no dx."""

    def backward(self, backend, p, da, buf):
        return None


STANDARD = Dense(6, tanh), Dropout(0.2), Dense(3)


def network_of(*layers, dtype="float32"):
    return Network(4, layers or STANDARD, "numpy", dtype)


# --- gradients


def test_report_names_the_complex_step_and_every_tensor():
    report = check_gradients(network_of(dtype="float64"), softmax_cross_entropy, X, LABELS)
    assert report.method == "complex step" and report.worst.excess <= 1
    names = [found.what.removeprefix("the gradient of ") for found in report.differences]
    assert sorted(names[2:-1]) == ["0.W", "0.b", "2.W", "2.b", "x"]
    assert "8 tensors: all agree" in str(report)


def test_loss_may_be_given_by_name():
    network, x, y = Network(2, [Dense(1)], "numpy", "float64"), np.ones((1, 2)), np.ones((1, 1))
    assert str(check_gradients(network, "mse", x, y)) == str(
        check_gradients(network, mean_squared_error, x, y)
    )
    assert str(assert_parity(network, x, y, "mse")) == str(assert_parity(network, x, y, mean_squared_error))


def test_wrong_element_of_a_gradient_is_named_with_its_index():
    network = Network(4, [Dense(6, tanh), Dense(3)], OnePercent(), "float64")
    with pytest.raises(
        AssertionError, match=r"2 of them differ, the gradient of 1\.W first; .* differs most at \(1, 2\)"
    ):
        check_gradients(network, softmax_cross_entropy, X, LABELS)


def test_formula_that_is_not_complex_differentiable_is_compared_with_float64_differences():
    report = check_gradients(network_of(Dense(3), Magnitude(), dtype="float64"), mean_squared_error, X, Y)
    assert report.method.startswith("float64 differences (along one direction the complex step gives ")


def test_complex_step_that_agrees_with_a_wrong_gradient_is_rejected():
    """The complex step of abs is 0, and so is this backward."""
    with pytest.raises(AssertionError, match=r"float64 differences .*the gradient of 0\.W first"):
        check_gradients(network_of(Dense(3), Magnitude(0.0), dtype="float64"), mean_squared_error, X, Y)


@pytest.mark.parametrize("error", [1 + 1e-5, 1 - 1e-5, -1.0])
def test_float64_differences_detect_small_errors(error):
    with pytest.raises(AssertionError, match="differs most at"):
        check_gradients(Magnitude(error), mean_squared_error, X, RNG.normal(size=X.shape))


def real_only(xp, z, y, _):
    if z.dtype.kind == "c":
        raise TypeError("no complex numbers")
    return (z - y) ** 2


def test_loss_for_real_numbers_only_is_compared_with_float64_differences():
    loss = PointwiseLoss("own", real_only, lambda xp, z, y, _: 2 * (z - y))
    report = check_gradients(network_of(dtype="float64"), loss, X, Y)
    assert report.method == "float64 differences (the complex step ended in TypeError: no complex numbers)"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_other_types_are_compared_with_float64_differences_in_their_own_eps(dtype):
    network = network_of(Dense(3), Magnitude(), dtype=dtype)
    assert check_gradients(network, mean_squared_error, X, Y).method.startswith("float64 differences")
    with pytest.raises(AssertionError):
        check_gradients(network_of(Dense(3), Magnitude(1.1), dtype=dtype), mean_squared_error, X, Y)


def test_layer_without_gradient_at_its_input_raises():
    with pytest.raises(ConfigurationError, match=r"Mute\.backward returned None"):
        check_gradients(Mute(), mean_squared_error, X, X)


@dataclass(frozen=True, repr=False)
class Gain(Layer):
    """a = g x, the base of layers that break the contract in one place."""

    def parameter_shapes(self, I):
        return {"g": (I,)}

    def initial_values(self, rng, I):
        return {"g": np.ones(I)}

    def forward(self, backend, p, x, buf):
        buf.x = x
        return backend.xp.multiply(x, p.g, out=buf.a)

    def backward(self, backend, p, da, buf):
        backend.column_sum(da * buf.x, out=p.dg)
        return backend.xp.multiply(da, p.g, out=buf.dx)


class Accumulating(Gain):
    def backward(self, backend, p, da, buf):
        p.dg += (da * buf.x).sum(axis=0)
        return backend.xp.multiply(da, p.g, out=buf.dx)


class Rebinding(Gain):
    def backward(self, backend, p, da, buf):
        p.dg = (da * buf.x).sum(axis=0)
        return backend.xp.multiply(da, p.g, out=buf.dx)


class Greedy(Gain):
    """Uses a buffer that is None in an inference pass."""

    def buffer_shapes(self, B, I):
        return super().buffer_shapes(B, I) | {"u": (B, I)}

    def forward(self, backend, p, x, buf):
        buf.u[...] = x
        return super().forward(backend, p, buf.u, buf)


class Forgetful(Gain):
    def forward(self, backend, p, x, buf):
        super().forward(backend, p, x, buf)


class Narrowing(Gain):
    def forward(self, backend, p, x, buf):
        return super().forward(backend, p, x, buf)[:, :2]


@dataclass(frozen=True, repr=False)
class Bend(Layer):
    """a = x + g x²        g (I,), 0 at the start"""

    factor: int = 2

    def parameter_shapes(self, I):
        return {"g": (I,)}

    def initial_values(self, rng, I):
        return {"g": np.zeros(I)}

    def forward(self, backend, p, x, buf):
        buf.x = x
        buf.a[...] = x + p.g * x * x
        return buf.a

    def backward(self, backend, p, da, buf):
        backend.column_sum(da * buf.x * buf.x, out=p.dg)
        if buf.dx is not None:
            buf.dx[...] = da * (1 + self.factor * p.g * buf.x)
        return buf.dx


class Squared(Gain):
    """a = g² x with the wrong dx = da g, which is right for g = 1"""

    def forward(self, backend, p, x, buf):
        buf.x = x
        return backend.xp.multiply(x, p.g * p.g, out=buf.a)

    def backward(self, backend, p, da, buf):
        backend.column_sum(2 * da * p.g * buf.x, out=p.dg)
        return backend.xp.multiply(da, p.g, out=buf.dx)


def test_error_that_parameters_of_0_or_1_hide_is_detected():
    check_gradients(Bend(), mean_squared_error, X, X + 1)
    nested = Network(4, [Residual([Bend(3)])], "numpy", "float64")
    for wrong in (Bend(3), nested, Squared()):
        with pytest.raises(AssertionError, match="the gradient of x at other values of the parameters"):
            check_gradients(wrong, mean_squared_error, X, X + 1)
    assert not any(nested.params.to_host()["0.layers.0.g"])


def test_correct_layer_passes_both_checks():
    check_gradients(Gain(), mean_squared_error, X, X + 1)
    assert_parity(Gain(), X, X + 1, mean_squared_error)


@pytest.mark.parametrize("layer", [Accumulating(), Rebinding()], ids=repr)
def test_gradient_that_is_not_assigned_in_place_fails_the_first_check(layer):
    for _ in range(2):
        with pytest.raises(AssertionError, match=r"the gradient of 0\.g first"):
            check_gradients(layer, mean_squared_error, X, X + 1)


@pytest.mark.parametrize(
    "check", [check_gradients, lambda layer, loss, x, y: assert_parity(layer, x, y, loss)]
)
def test_error_of_inference_names_the_layer(check):
    with pytest.raises(TypeError) as caught:
        check(Greedy(), mean_squared_error, X, X)
    assert caught.value.__notes__ == [
        "in the inference pass of layer 0, Greedy(), where every buffer but `a` is None"
    ]


@pytest.mark.parametrize(("layer", "what"), [(Forgetful(), "nothing"), (Narrowing(), r"shape \(8, 2\)")])
def test_output_that_is_none_or_of_another_shape_is_named(layer, what):
    with pytest.raises(
        ShapeError, match=rf"{type(layer).__name__}\.forward returned {what}; it must return shape \(8, 4\)"
    ):
        check_gradients(Network(4, [layer, Dense(3)], "numpy", "float64"), mean_squared_error, X, Y)


def test_subject_that_is_neither_network_nor_layer_raises():
    with pytest.raises(
        ConfigurationError, match=r"subject must be a Network or a layer such as Dense\(10\), not <class"
    ):
        check_gradients(Gain, mean_squared_error, X, X)


def test_tensors_are_reported_from_the_last_layer_to_the_first():
    """The first wrong tensor then belongs to the wrong layer, because earlier layers use its dx."""
    report = check_gradients(network_of(dtype="float64"), softmax_cross_entropy, X, LABELS)
    names = [found.what.removeprefix("the gradient of ") for found in report.differences]
    of_weights = "the gradient at the output with weights of rows"
    assert names == ["the output", "the loss", "2.W", "2.b", "0.W", "0.b", "x", of_weights]


class Coarse(Gain):
    """a = x g, with an output of 10 bits."""

    def forward(self, backend, p, x, buf):
        buf.x = x
        buf.a[...] = (x * p.g).astype(np.float16) if x.dtype == np.float32 else x * p.g
        return buf.a


def test_output_that_is_rounded_is_named_before_the_gradients_that_it_changes():
    with pytest.raises(AssertionError, match=r"differ, the output first"):
        check_gradients(Network(4, [Coarse(), Dense(3)], "numpy"), mean_squared_error, X, Y)


@dataclass(frozen=True)
class IgnoringWeights(Loss):
    """The squared error, whose gradient is right without weights only."""

    def value_and_gradient(self, backend, z, y, dz, sample_weight):
        w = backend.xp.ones(len(z), z.dtype) if sample_weight is None else sample_weight
        if dz is not None:
            dz[...] = 2 * (z - y) / z.size
        return (w[:, None] * (z - y) ** 2).sum() / (w.sum() * z.shape[1])

    def targets(self, y, O, dtype):
        return np.asarray(y, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_gradient_of_a_loss_that_ignores_weights_is_detected(dtype):
    network = network_of(dtype=dtype)
    with pytest.raises(AssertionError, match="1 of them differ, the gradient at the output with weights of"):
        check_gradients(network, IgnoringWeights(), X, Y)
    if dtype != "bfloat16":
        with pytest.raises(AssertionError, match=r"the gradient of 2\.W first"):
            check_gradients(network, IgnoringWeights(), X, Y, sample_weight=np.arange(1.0, 9.0))


class WithoutWeights(IgnoringWeights):
    def value_and_gradient(self, backend, z, y, dz, sample_weight):
        if sample_weight is not None:
            raise NotImplementedError("no weights")
        return super().value_and_gradient(backend, z, y, dz, None)


def test_report_names_the_check_that_a_loss_without_weights_leaves_out():
    report = str(check_gradients(network_of(dtype="float64"), WithoutWeights(), X, Y))
    assert "7 tensors: all agree" in report
    assert report.endswith(
        "with weights of rows was left out, because the loss raises NotImplementedError: no weights"
    )
    assert "left out" not in str(check_gradients(network_of(dtype="float64"), mean_squared_error, X, Y))


# --- parity


class Standing(SGD):
    """An update rule that creates a new θ instead of changing it in place."""

    def update(self, backend, update, state):
        backend.own_rule(update, self.formula)

    def formula(self, xp, theta, g, lr, t):
        theta = theta - lr * g


def test_optimizer_that_changes_nothing_raises():
    with pytest.raises(
        AssertionError, match=r"3 updates by Standing\(.*\) changed no parameter although .* theta -= "
    ):
        assert_parity(network_of(), X, LABELS, softmax_cross_entropy, optimizer=Standing())


@dataclass(frozen=True, eq=False)
class Replacing(Optimizer):
    """Momentum whose moment is a new array, and so stays 0: it trains as plain gradient descent."""

    moments = ("m",)

    def formula(self, xp, theta, g, lr, t, m):
        m = 0.9 * m + g
        theta -= lr * m


@dataclass(frozen=True, eq=False)
class Momentum(Replacing):
    def formula(self, xp, theta, g, lr, t, m):
        m[...] = 0.9 * m + g
        theta -= lr * m


def test_optimizer_that_replaces_its_moment_raises():
    with pytest.raises(
        AssertionError, match=r"the moment 'm' of Replacing\(.*\) is 0 after 3 .* m\[\.\.\.\] = "
    ):
        assert_parity(network_of(), X, LABELS, softmax_cross_entropy, optimizer=Replacing())
    assert_parity(network_of(), X, LABELS, softmax_cross_entropy, optimizer=Momentum())
    settled = np.zeros((8, 3))  # a gradient of 0 changes no moment
    network = network_of(Dense(3, weights=Constant(0.0)))
    assert_parity(network, X, settled, mean_squared_error, optimizer=Momentum())


class Branching(Gain):
    """Reads a value of the device in each pass."""

    def forward(self, backend, p, x, buf):
        buf.x = x
        scale = 1.0 if float(abs(x).max()) < 1e9 else 0.0
        return backend.xp.multiply(x, p.g * scale, out=buf.a)

    def backward(self, backend, p, da, buf):
        if (da > 1e9).any():
            da *= 0
        return super().backward(backend, p, da, buf)


def test_layer_that_reads_values_of_the_device_is_named():
    network = network_of(Dense(4), Branching(), Dense(3), dtype="float64")
    with pytest.warns(UserWarning, match=r"layer 1, Branching\(\): forward reads 1 of its values") as warned:
        report = assert_parity(network, X, Y, mean_squared_error)
    assert "layer 1, Branching(): backward reads 1 of its values from <strict backend>" in str(report)
    assert len(report.waits) == 2 and str(warned[0].message).startswith(report.waits[0])
    assert not assert_parity(network_of(), X, LABELS, softmax_cross_entropy).waits


def test_loss_that_reads_values_of_the_device_is_named():
    class Reading(IgnoringWeights):
        def value_and_gradient(self, backend, z, y, dz, sample_weight):
            assert float(z.max()) < 1e9
            return super().value_and_gradient(backend, z, y, dz, sample_weight)

    with pytest.warns(UserWarning, match=r"the loss .*Reading\(\): its call reads 1 of its values"):
        assert_parity(network_of(), X, Y, Reading())


class Deciding(Momentum):
    """Reads the number of the step on the host."""

    def formula(self, xp, theta, g, lr, t, m):
        m *= 0.9 if t > 1 else 0.0
        m += g
        theta -= lr * m


def test_optimizer_that_reads_values_of_the_device_is_named():
    with pytest.warns(
        UserWarning, match=r"the optimizer Deciding\(.*: its step reads 1 of its values from <s"
    ):
        assert_parity(network_of(), X, LABELS, softmax_cross_entropy, optimizer=Deciding())
    assert not assert_parity(network_of(), X, LABELS, softmax_cross_entropy, optimizer=Momentum()).waits


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parity_holds_between_the_backends_of_this_machine_and_does_not_change_the_network(name, dtype):
    network = network_of(Dense(16, relu), BatchNorm(), Dropout(0.2), Dense(3), dtype=dtype)
    before = network.params.to_host()
    report = assert_parity(network, X, LABELS, softmax_cross_entropy, optimizer=OPTIMIZERS[name](), steps=10)
    assert report.worst.excess <= 1 and report.method.startswith("parity with <reference")
    for key, value in network.params.to_host().items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize("name", ["adam", "lion", "rmsprop"])
def test_parity_holds_if_a_gradient_is_only_rounding(name):
    """The gradient of a bias before batch norm is 0 except for rounding, and these rules move it by lr."""
    network = network_of(Dense(8), BatchNorm(), Dense(3))
    assert_parity(network, X, LABELS, softmax_cross_entropy, optimizer=OPTIMIZERS[name](1e-2), steps=3)


def test_parity_accepts_custom_layers_losses_and_activations():
    cube = Activation("cube", lambda xp, s, _: s**3, lambda xp, s, _: 3 * s**2, needs_input=True)
    loss = PointwiseLoss("quartic", lambda xp, z, y, _: (z - y) ** 4, lambda xp, z, y, _: 4 * (z - y) ** 3)
    report = assert_parity(network_of(Dense(5, cube), Magnitude(), Dense(3)), X / 4, Y / 4, loss)
    assert len(report.differences) == 2 * (3 + 4 + 4)


def test_parity_names_the_wrong_backend_and_the_first_and_worst_tensor():
    with pytest.raises(
        AssertionError, match=r"output on <wrong backend> first; .* differs .*: got .*, expected .* eps of"
    ):
        assert_parity(network_of(), X, LABELS, softmax_cross_entropy, backends=("numpy", Doubling()))


def test_parity_detects_one_wrong_element_of_one_gradient():
    with pytest.raises(AssertionError, match=r"gradient of 2\.W on <wrong backend> first"):
        assert_parity(network_of(), X, LABELS, softmax_cross_entropy, backends=("numpy", OnePercent()))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_parity_detects_a_wrong_update(dtype):
    with pytest.raises(
        AssertionError, match=r"4 of them differ, 0\.W on <wrong backend> after 1 steps first"
    ):
        assert_parity(
            network_of(dtype=dtype),
            X,
            LABELS,
            softmax_cross_entropy,
            backends=("numpy", HalfStep()),
            optimizer=Adam(1e-3),
            steps=1,
        )


def test_parity_in_float16_compares_finite_gradients_after_an_overflow():
    x, y = 50 * X[:1], 1000 * Y[:1]
    report = assert_parity(
        network_of(dtype="float16"), x, y, mean_squared_error, steps=2, optimizer=SGD(1e-6)
    )
    assert report.worst.excess <= 1 and all(np.isfinite(found.error) for found in report.differences)


def test_assertions_need_neither_cupy_nor_pytest():
    code = (
        "import sys; sys.modules.update(cupy=None, pytest=None)\n"
        "import numpy as np, ffnn_gpu as f\n"
        "from ffnn_gpu.testing import assert_no_worse, assert_parity, check_gradients\n"
        "x, y = np.eye(4), np.arange(4) % 3; network = f.Network(4, [f.Dense(3)], 'numpy')\n"
        "loss = f.softmax_cross_entropy; print(check_gradients(network, loss, x, y).method, end=' ')\n"
        "print(assert_parity(network, x, y, loss))"
    )
    root = Path(__file__).parents[2]
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert shown.stdout.startswith("complex step parity with <reference backend>, 14 tensors: all agree"), (
        shown.stderr
    )


@pytest.mark.parametrize(("of_other", "most"), [(0.0, 4.0), (3.0, 16.0)])
def test_no_worse_allows_four_times_the_others_error_plus_four_eps(of_other, most):
    exact, eps = np.array([1.0, -2.0]), 2 * float(np.finfo(np.float32).eps)  # eps of the largest element
    other = exact + np.array([of_other * eps, 0])
    assert_no_worse((exact - [0, most * eps]).astype(np.float32), other, exact)
    with pytest.raises(AssertionError, match=r"dW has error \S+, the other has \S+; allowed: "):
        assert_no_worse((exact - [0, (most + 1) * eps]).astype(np.float32), other, exact, "dW")


def test_no_worse_rejects_nan():
    with pytest.raises(AssertionError, match="has error nan"):
        assert_no_worse(np.full(2, np.nan, np.float32), np.ones(2), np.ones(2))


# --- difficult cases


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("seed", range(6))
def test_bias_whose_gradient_is_only_rounding_is_accepted(dtype, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(16, 4)), rng.integers(0, 3, 16)
    network = Network(
        4, [Dense(8, tanh), BatchNorm(), Dense(6), BatchNorm(), Dense(3)], "numpy", dtype, seed=seed
    )
    check_gradients(network, softmax_cross_entropy, x, y)
    assert_parity(network, x, y, softmax_cross_entropy)


# Networks whose correct gradients cancel: BatchNorm over two and three rows, small sums of large numbers.
CANCELLING = {
    "batch norm over two rows": ([Dense(5, "gelu"), BatchNorm(), Dense(2)], 2, 1.0),
    "two batch norms": ([Dense(4), BatchNorm(), Dense(4, tanh), BatchNorm(), Dense(2)], 3, 1.0),
    "large numbers": ([Dense(6, "softplus"), BatchNorm(), Dense(2)], 3, 30.0),
    "layer norm of two": ([Dense(2), LayerNorm(), Dense(3, "selu"), Dense(2)], 4, 1.0),
}


def cancelling(name, dtype, seed, backend="numpy"):
    layers, rows, size = CANCELLING[name]
    rng = np.random.default_rng(seed)
    network = Network(4, layers, backend, dtype, seed=seed)
    return network, size * rng.normal(size=(rows, 4)), rng.normal(size=(rows, 2))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", CANCELLING)
def test_correct_gradients_that_cancel_are_accepted(name, dtype):
    for seed in range(2):
        network, x, y = cancelling(name, dtype, seed)
        check_gradients(network, mean_squared_error, x, y)
        assert_parity(network, x, y, mean_squared_error)


class MeanBias(Wrong):
    """The gradient of a bias is the mean over the rows, not the sum."""

    def column_sum(self, A, out):
        super().column_sum(A, out)
        out /= max(len(A), 1)
        return out


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", CANCELLING)
def test_wrong_gradients_beside_some_that_cancel_are_detected(name, dtype):
    network, x, y = cancelling(name, dtype, 0, MeanBias())
    with pytest.raises(AssertionError):
        check_gradients(network, mean_squared_error, x, y)
    network, x, y = cancelling(name, dtype, 0)
    with pytest.raises(AssertionError):
        assert_parity(network, x, y, mean_squared_error, backends=("numpy", MeanBias()))


def test_gradient_at_x_that_overflows_with_the_loss_scale_is_compared():
    network = Network(2, [Dense(1, weights=Constant(2.0))], "numpy", "float16")
    x, y = np.array([[0.1, 0.1]]), np.zeros((1, 1))
    check_gradients(network, mean_squared_error, x, y)
    assert_parity(network, x, y, mean_squared_error)


class TenPercent(Wrong):
    """Every gradient is 10 % too large."""

    def activation_backward(self, da, a, phi, s=None):
        super().activation_backward(da, a, phi, s)
        da *= 1.1
        return da


class Larger(Wrong):
    """Outputs are 10 % too large."""

    def affine(self, x, W, b, phi, out, s=None):
        super().affine(x, W, b, phi, out, s)
        out *= 1.1
        return out


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("backend", [TenPercent(), Larger()], ids=["gradients", "outputs"])
def test_parity_detects_ten_percent_in_16_bits(backend, dtype):
    with pytest.raises(AssertionError, match="on <wrong backend> first"):
        assert_parity(
            network_of(Dense(6, tanh), Dense(3), dtype=dtype),
            X,
            LABELS,
            softmax_cross_entropy,
            backends=("numpy", backend),
        )


def test_oracle_detects_a_gradient_ten_percent_too_large_in_16_bits():
    network = Network(4, [Dense(6, tanh), Dense(3)], TenPercent(), "bfloat16")
    with pytest.raises(AssertionError, match=r"the norm of the gradient of 1\.W first"):
        check_gradients(network, softmax_cross_entropy, X, LABELS)


class Late(Wrong):
    """The update is wrong from the third on."""

    def sgd(self, update, velocity, momentum, nesterov):
        if update.scalars[0] >= 3:
            update.theta[...] += 0.1
        super().sgd(update, velocity, momentum, nesterov)


def test_parity_makes_all_its_updates():
    network, backends = network_of(Dense(3)), ("numpy", Late())
    assert_parity(network, X, LABELS, softmax_cross_entropy, backends=backends, steps=2)
    with pytest.raises(AssertionError, match="after 3 steps first"):
        assert_parity(network, X, LABELS, softmax_cross_entropy, backends=backends, steps=3)


def test_worst_tensor_is_the_one_that_exceeds_its_bound_most():
    large = Difference("large", (0,), 1.0, 0.0, error=1.0, allowed=10.0, in_eps=1.0)
    beyond = Difference("beyond", (0,), 1.0, 0.0, error=0.1, allowed=0.05, in_eps=1.0)
    report = Report("a check", (large, beyond))
    assert report.worst is beyond and "1 of them differ, beyond first" in str(report)
    with pytest.raises(AssertionError, match="beyond differs most at"):
        report.checked()


class Short(Wrong):
    """Updates are 10 % too small."""

    def sgd(self, update, velocity, momentum, nesterov):
        before = update.theta.copy()
        super().sgd(update, velocity, momentum, nesterov)
        update.theta[...] += 0.1 * (before - update.theta)


def test_parity_detects_wrong_small_updates():
    network = network_of(Dense(3))
    y = network.predict(X) + 1e-5 * RNG.normal(size=(8, 3))
    with pytest.raises(AssertionError, match="after 1 steps"):
        assert_parity(network, X, y, mean_squared_error, backends=("numpy", Short()), steps=1)


def constant_plus(constant):
    return PointwiseLoss("constant", lambda xp, z, y, _: constant + abs(z - y), lambda xp, z, y, _: 0 * z)


def test_wrong_zero_gradient_with_a_large_constant_is_rejected():
    for constant in (0.0, 1e3):
        with pytest.raises(AssertionError, match="float64 differences"):
            check_gradients(network_of(dtype="float64"), constant_plus(constant), X, Y)
    with pytest.raises(ConfigurationError, match="float64 differences have a relative error of"):
        check_gradients(network_of(dtype="float64"), constant_plus(1e8), X, Y)


def test_correct_gradient_with_a_constant_is_accepted():
    loss = PointwiseLoss("c", lambda xp, z, y, _: 1e3 + abs(z - y), lambda xp, z, y, _: xp.sign(z - y))
    assert check_gradients(network_of(dtype="float64"), loss, X, Y).method.startswith("float64 differences")


def test_loss_may_be_a_python_number():
    def loss(backend, z, y, dz=None, sample_weight=None):
        if dz is not None:
            dz[...] = 2 * (z - y)
        value = ((z - y) ** 2).sum()
        return complex(value) if np.iscomplexobj(z) else float(value)

    assert check_gradients(network_of(dtype="float64"), loss, X, Y).method == "complex step"


def test_layer_that_is_not_a_function_of_its_input_raises():
    class Noisy(Gain):
        def forward(self, backend, p, x, buf):
            return super().forward(backend, p, x + RNG.normal(), buf)

    with pytest.raises(ConfigurationError, match=r"in one pass and .* in the next"):
        check_gradients(Noisy(), mean_squared_error, X, X)


def test_layer_that_changes_its_input_raises_and_the_callers_array_is_unchanged():
    class InPlace(Gain):
        def forward(self, backend, p, x, buf):
            x *= 2
            return super().forward(backend, p, x, buf)

    x = X.copy()
    with pytest.raises(AssertionError, match="a layer has changed its input x"):
        check_gradients(InPlace(), mean_squared_error, x, X)
    np.testing.assert_array_equal(x, X)


def test_check_does_not_change_the_network():
    network = network_of(Dense(3), dtype="float16")
    network.params.grad[...] = 3
    check_gradients(network, mean_squared_error, 50 * X[:1], 1000 * Y[:1])
    assert (network.params.grad == 3).all() and network.params.loss_scale[0] == 2.0**16


def test_layers_without_weights_do_not_widen_the_bound():
    few, many = (network_of(Dense(3), *(Dropout(0.0),) * n) for n in (0, 30))
    bounds = [
        assert_parity(network, X, LABELS, softmax_cross_entropy).differences[0].allowed
        for network in (few, many)
    ]
    assert bounds[0] == bounds[1]


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (
            lambda: assert_parity(Gain(), X, X, mean_squared_error, backends=("numpy",)),
            "backends has only numpy; give at least two",
        ),
        (lambda: tolerance("networks", "float32"), "kind must be one of product, network.*, not 'networks'"),
        (
            lambda: check_gradients(Gain(), mean_squared_error, X[0], X[0]),
            r"x has shape \(4,\); it must be a matrix",
        ),
    ],
)
def test_invalid_arguments_raise(call, what):
    with pytest.raises((ConfigurationError, ShapeError), match=what):
        call()


def test_parity_without_a_gpu_is_parity_with_a_strict_device():
    class OfNumpy(Gain):
        def forward(self, backend, p, x, buf):
            buf.x = x
            buf.a[...] = x * p.g + np.zeros(4)
            return buf.a

    assert_parity(OfNumpy(), X, X, mean_squared_error, backends=(Backend(), "numpy"))
    with pytest.raises(TypeError, match=r"Unsupported type .*numpy\.ndarray"):
        assert_parity(OfNumpy(), X, X, mean_squared_error, backends=(Backend(), StrictBackend()))


def test_parity_takes_the_optimizer_by_name():
    network = Network(3, [Dense(2, "tanh")], Backend(), "float64")
    x, y = np.ones((4, 3)), np.zeros((4, 2))
    by_name, by_object = (
        assert_parity(network, x, y, mean_squared_error, optimizer=optimizer, steps=2)
        for optimizer in ("adam", Adam())
    )
    assert str(by_name) == str(by_object)
