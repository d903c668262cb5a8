"""Recorded steps and predictions equal plain ones with any number of threads; unsupported ones run plain."""

import gc
import importlib
import os
import threading
import time
import weakref
from dataclasses import dataclass

import numpy as np
import pytest

import ffnn_gpu
from ffnn_gpu import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    Lion,
    Muon,
    Nadam,
    Network,
    Residual,
    RMSprop,
    binary_cross_entropy_with_logits,
    mean_squared_error,
    relu,
    softmax_cross_entropy,
    tanh,
    train_step,
)
from ffnn_gpu.backends.choice import CompiledBackend
from ffnn_gpu.errors import ConfigurationError, DataError, DivergedError, WorkspaceError
from ffnn_gpu.nn.activations import ACTIVATIONS, Activation
from ffnn_gpu.nn.losses.standard import PointwiseLoss
from ffnn_gpu.nn.prediction import finite_outputs
from ffnn_gpu.nn.workspace import Workspace
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.training.step import recordable
from tests.every_case import in_turn

pytest.importorskip("llvmlite")
_step = train_step.__wrapped__  # a plain step, never recorded
ThreadPool = pytest.importorskip("ffnn_gpu.backends.cpu.recording.threads").ThreadPool

N_IN, C, B = 40, 6, 96
PLAIN = (Dense(256, relu), Dense(200, relu), Dense(C))
NETWORKS = {
    "dense": PLAIN,
    "small": (Dense(8, relu), Dense(C)),
    "linear": (Dense(C),),
    "no biases": (Dense(64, relu, bias=False), Dense(C, bias=False)),
    "batch norm": (Dense(256, bias=False), BatchNorm(), Dense(C)),
    "layer norm": (Dense(256, relu), LayerNorm(), Dense(C)),
    "dropout": (Dense(256, relu), Dropout(0.3), Dense(C)),
    "scheduled dropout": (Dense(256, relu), Dropout(0.3, "flat_cos"), Dense(C)),
    "residual": (Dense(256, relu), Residual([Dense(256, relu), Dropout(0.2), Dense(256)]), Dense(C)),
    "norms first": (BatchNorm(), LayerNorm(), Dense(C)),
    "last is layer norm": (Dense(C), LayerNorm()),
}
OPTIMIZERS = {
    "adam": Adam(), "adamw": AdamW(), "sgd": SGD(0.1), "momentum": SGD(0.1, momentum=0.9),
    "nesterov": SGD(0.1, momentum=0.9, nesterov=True), "rmsprop": RMSprop(),
    "rmsprop, momentum": RMSprop(momentum=0.9), "adagrad": Adagrad(), "nadam": Nadam(), "lion": Lion(),
    "muon": Muon(clip_norm=1.0, l2=0.1), "clipped": Adam(clip_norm=0.1),
    "clipped by value": Adam(clip_value=0.01),
    "penalized": SGD(0.1, l2=0.1, l1=0.01), "averaged": Adam(ema=0.9),
    "decay follows a schedule": AdamW(weight_decay=0.5, decay_schedule="cosine"),
    "everything": AdamW(l2=0.1, l1=0.01, clip_norm=0.2, clip_value=0.05, ema=0.9),
}  # fmt: skip
LOSSES = {
    "classes": softmax_cross_entropy, "numbers": mean_squared_error, "odds": binary_cross_entropy_with_logits,
}  # fmt: skip


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", str(request.param))
    return request.param


def batch(dtype="float64", rows=B, loss=softmax_cross_entropy, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, N_IN)).astype(dtype)
    if loss is softmax_cross_entropy:
        return x, rng.integers(0, C, rows)
    return x, (rng.standard_normal if loss is mean_squared_error else rng.random)((rows, C)).astype(dtype)


def made(layers, dtype="float64", rows=B):
    network = Network(N_IN, list(layers), CompiledBackend(), dtype)
    return network, network.workspace(rows)


def reasons(ws):
    return [recording.reason for recording in ws.recordings]


def numbers(network, optimizer):
    state = optimizer.state(network.params)
    vectors = {name: np.array(value) for name, value in vars(state).items()}
    return vectors | {
        name: np.array(getattr(network.params, name)) for name in ("theta", "grad", "state", "step")
    }


def trained(
    step, layers, optimizer, loss=softmax_cross_entropy, dtype="float64", rows=B, weight=None, steps=6
):
    """Return losses and all numbers after some steps, and the reasons for not recording them."""
    network, ws = made(layers, dtype, rows)
    x, y = batch(dtype, rows, loss)
    optimizer.state(network.params)
    losses = []
    for k in range(steps):
        for factor in network.params.factors.values():
            factor[0] = 1 / (1 + k)
        losses.append(step(network, loss, optimizer, x, y, ws, weight, None, True))
    return {"losses": np.array(losses)} | numbers(network, optimizer), reasons(ws)


def require_equal(found, expected, rtol, atol=0.0):
    for name, value in expected.items():
        largest = max(1, np.abs(value).max(initial=0))
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=atol * largest, err_msg=name)


# ---------------------------------------------------------------------- equal results


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_recorded_steps_of_every_layer_equal_plain_steps(layers, threads):
    found, why = trained(train_step, layers, SGD(0.05, momentum=0.9))
    assert why == [""]
    require_equal(found, trained(_step, layers, SGD(0.05, momentum=0.9))[0], 0, 1e-12)


@pytest.mark.parametrize(("name", "threads"), in_turn(OPTIMIZERS, [2, 3, 1]), indirect=["threads"])
def test_recorded_steps_of_every_optimizer_equal_plain_steps(name, threads):
    optimizer = OPTIMIZERS[name]
    found, why = trained(train_step, PLAIN, optimizer)
    assert why == [""]
    require_equal(found, trained(_step, PLAIN, optimizer)[0], 0, 1e-11)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_step_of_every_optimizer_is_recorded_without_a_call(optimizer, threads):
    network, ws = made((Dense(9, relu), Dense(9, relu), Dense(C)))
    train_step(network, softmax_cross_entropy, optimizer, *batch(), ws)
    (recording,) = ws.recordings
    assert recording.reason == "" and recording.table.calls == (None,)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_recorded_steps_with_factors_on_rates_and_decay_equal_plain_steps(optimizer):
    layers = Dense(9, relu, lr_factor=0.5, bias_lr_factor=0.1), Dense(9, decay_factor=3.0), Dense(C)
    found, why = trained(train_step, layers, optimizer)
    assert why == [""]
    require_equal(found, trained(_step, layers, optimizer)[0], 0, 1e-11)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_recorded_steps_of_every_loss_equal_plain_steps(loss, weighted, threads):
    weight = np.random.default_rng(3).random(B) if weighted else None
    found, why = trained(train_step, PLAIN, SGD(0.1), loss, weight=weight)
    assert why == [""]
    require_equal(found, trained(_step, PLAIN, SGD(0.1), loss, weight=weight)[0], 0, 1e-12)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 17, 333])
def test_recorded_steps_of_any_number_of_rows_equal_plain_steps(rows, threads):
    found, why = trained(train_step, PLAIN, SGD(0.1), rows=rows)
    assert why == [""]
    require_equal(found, trained(_step, PLAIN, SGD(0.1), rows=rows)[0], 0, 1e-12)


def test_recorded_steps_in_float32_equal_plain_steps_up_to_rounding(threads):
    found, why = trained(train_step, NETWORKS["layer norm"], SGD(0.1), dtype="float32")
    assert why == [""]
    require_equal(found, trained(_step, NETWORKS["layer norm"], SGD(0.1), dtype="float32")[0], 0, 1e-6)


def test_weights_that_are_all_zero_give_a_zero_gradient():
    found, _ = trained(train_step, PLAIN, SGD(0.1), weight=np.zeros(B), steps=1)
    assert found["losses"] == 0 and not found["grad"].any()


def test_learning_rate_given_with_a_step_holds_for_later_steps():
    network, ws = made(PLAIN)
    x, y = batch()
    optimizer = SGD(0.1)
    train_step(network, softmax_cross_entropy, optimizer, x, y, ws, lr=np.array([0.5]))
    before = network.params.theta.copy()
    train_step(network, softmax_cross_entropy, optimizer, x, y, ws)
    np.testing.assert_allclose(
        before - network.params.theta, 0.5 * network.params.grad, rtol=1e-9, atol=1e-15
    )
    assert reasons(ws) == ["", ""]


def test_arguments_may_be_new_arrays_in_every_step():
    network, ws = made(PLAIN)
    other, scratch = made(PLAIN)
    for seed in range(5):
        x, y = batch(seed=seed)
        train_step(network, softmax_cross_entropy, SGD(0.1), x, y.astype(np.int32), ws)
        _step(other, softmax_cross_entropy, SGD(0.1), x, y, scratch, None, None)
    np.testing.assert_allclose(network.params.theta, other.params.theta, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "rows", "threads"), in_turn(NETWORKS, [1, 2, 4, 5, 64, 300], [2, 3, 1]), indirect=["threads"]
)
def test_recorded_predictions_equal_plain_predictions(name, rows, threads):
    network, _ = made(NETWORKS[name])
    network.params.theta[:] += np.random.default_rng(2).standard_normal(len(network.params.theta)) / 10
    network.params.state[:] += 0.3
    x, _ = batch(rows=rows)
    ws, scratch = (network.workspace(rows, training=False) for _ in range(2))
    np.testing.assert_allclose(network.forward(x, ws), network.run(x, scratch), rtol=1e-12, atol=1e-12)
    assert reasons(ws) == [""]


@pytest.mark.parametrize("rows", [1, 40])
def test_recorded_prediction_checks_that_x_and_the_outputs_are_finite(rows, threads):
    network, _ = made((Dense(C), Dense(C)))
    x, _ = batch(rows=rows)
    want = network.predict(x)
    for place, value in ((0, np.nan), (-1, np.inf), (-1, -np.inf)):
        wrong = x.copy()
        wrong[place, place] = value
        row, column = place % rows, place % x.shape[1]
        with pytest.raises(DataError, match=rf"x holds 1 values .* {value} at index \({row}, {column}\)"):
            network.predict(wrong)
    with pytest.raises(DivergedError, match="output is not finite"):
        network.predict(np.full_like(x, np.finfo(x.dtype).max))
    np.testing.assert_array_equal(network.predict(x), want)
    ws = network._threads.ws.first(rows)
    assert reasons(ws) == ["", ""]  # the second one is the pass whose outputs are not finite, for the error
    assert ws.recordings[0].code is finite_outputs


def test_prediction_of_many_rows_replays_a_pass_for_its_equal_blocks(threads, monkeypatch):
    network, _ = made((Dense(C), BatchNorm(), Dense(C, tanh)))
    x, _ = batch(rows=400)
    want, found = network.run(x, network.workspace(400, training=False)).copy(), []
    monkeypatch.setattr(Workspace, "release", lambda ws: found.append(reasons(ws)))
    for batch_size, expected in ((100, [""]), (130, [""]), (180, []), (400, [])):
        np.testing.assert_allclose(network.predict(x, batch_size), want, 1e-12, 1e-12)
        assert found.pop() == expected
    with pytest.raises(DivergedError, match="output is not finite"):
        network.predict(np.full_like(x, np.finfo(x.dtype).max), 100)


def test_network_ending_in_a_layer_that_returns_its_input_is_recorded():
    network, _ = made((Dense(C), Dropout(0.5)))
    ws, (x, _) = network.workspace(B, training=False), batch()
    for _ in range(2):
        np.testing.assert_allclose(network.forward(x, ws), x @ network.params.views[0].W, 1e-12, 1e-12)
    assert reasons(ws) == [""]


# ---------------------------------------------------------------------- steps that are not recorded


class Doubled(ffnn_gpu.Layer):
    """a = 2 x, computed by NumPy without the backend."""

    def output_width(self, width):
        return width

    def buffer_shapes(self, rows, width):
        return {"a": (rows, width)}

    def forward(self, backend, p, x, buf):
        return np.multiply(x, 2, out=buf.a)

    def backward(self, backend, p, da, buf):
        return 2 * da


class Patient(Optimizer):
    """A custom update rule with a moment."""

    moments = ("total",)

    def formula(self, xp, theta, g, lr, t, total):
        total += xp.abs(g)
        theta -= lr * g / (t + total)


@dataclass(frozen=True)
class Halved(type(softmax_cross_entropy)):
    """Half the cross-entropy, a custom loss."""

    def value_and_gradient(self, backend, z, y, dz, sample_weight):
        value = super().value_and_gradient(backend, z, y, dz, sample_weight)
        dz /= 2
        return value / 2


class Averaged(Optimizer):
    """An update rule that is no elementwise formula."""

    def formula(self, xp, theta, g, lr, t):
        theta -= lr * (g - g.mean())


class Static(Optimizer):
    """An update rule without an owner that is no elementwise formula."""

    @staticmethod
    def formula(xp, theta, g, lr, t):
        theta -= lr * (g - g.mean())


class InPlace(Optimizer):
    """An update rule that changes vectors and numbers in place in every way."""

    moments = ("m",)

    def formula(self, xp, theta, g, lr, t, m):
        small, u = lr, +g
        small *= 0.1
        u *= 3
        xp.multiply(m, 0.9, m)
        m += u * u
        m **= 0.5
        theta -= lr * m * xp.sign(g) + small * u


class Stepped(SGD):
    """An optimizer with a step of its own, which computes by NumPy."""

    def step(self, params, lr=None):
        params.theta[...] -= 0.1 * params.grad


def softened(xp, s, _):
    return s if s.max() < 0 else s / 2  # no elementwise expression


odd = Activation("odd", softened, lambda xp, a, _: a * 0 + 0.5)
branching = PointwiseLoss(
    "branching",
    lambda xp, z, y, _: (z - y) ** 2 if z.max() > -9 else z,
    lambda xp, z, y, _: 2 * (z - y) if z.max() > -9 else z,
)
cube = Activation("cube", lambda xp, s, _: s**3, lambda xp, s, _: 3 * s**2, needs_input=True)
quartic = PointwiseLoss("quartic", lambda xp, z, y, _: (z - y) ** 4, lambda xp, z, y, _: 4 * (z - y) ** 3)
NESTED = (Dense(8, tanh), Residual([Doubled(), Dense(8)]), Dense(C))


@pytest.mark.parametrize(
    ("layers", "optimizer", "loss"),
    [
        ((Dense(C), Doubled()), Adam(), softmax_cross_entropy),
        ((Doubled(), Dense(8, relu), Doubled(), Doubled(), Dense(C)), Adam(), softmax_cross_entropy),
        (NESTED, Adam(), softmax_cross_entropy),
        (PLAIN, Patient(0.1), softmax_cross_entropy),
        (PLAIN, Patient(0.1, l2=0.1, weight_decay=0.1, clip_norm=0.5), softmax_cross_entropy),
        (PLAIN, Averaged(0.1), softmax_cross_entropy),
        (PLAIN, Static(0.1), softmax_cross_entropy),
        (PLAIN, InPlace(0.1), softmax_cross_entropy),
        (PLAIN, Stepped(0.1), softmax_cross_entropy),
        (PLAIN, SGD(0.1), Halved()),
        ((Dense(8, odd), Dense(C)), SGD(0.1), softmax_cross_entropy),
        ((Dense(8, cube), Dense(C)), SGD(0.1), softmax_cross_entropy),
        (PLAIN, SGD(0.1), branching),
        (PLAIN, SGD(1e-3), quartic),
    ],
    ids=["last layer", "first and inner layers", "nested layer", "rule", "rule with penalties",
         "untraceable rule", "static rule", "rule in place", "step", "loss", "untraceable activation",
         "activation", "untraceable loss", "pointwise loss"],
)  # fmt: skip
def test_step_with_a_users_own_parts_is_recorded(layers, optimizer, loss):
    found, whys = trained(train_step, layers, optimizer, loss)
    assert set(whys) == {""}
    require_equal(found, trained(_step, layers, optimizer, loss)[0], 0, 1e-11)


@pytest.mark.parametrize("phi", ACTIVATIONS)
def test_every_activation_is_recorded(phi):
    layers = (Dense(24, phi), Dense(16, phi, bias=False), Dense(C, phi))
    found, whys = trained(train_step, layers, Adam())
    assert set(whys) == {""}
    require_equal(found, trained(_step, layers, Adam())[0], 0, 1e-11)


def test_losses_of_one_name_are_not_confused():
    steep = PointwiseLoss("quartic", lambda xp, z, y, _: z - y, lambda xp, z, y, _: 1 + 0 * z)
    (network, ws), (other, scratch) = made(PLAIN), made(PLAIN)
    x, y = batch(loss=mean_squared_error)
    optimizer = SGD(1e-3)
    for loss in (quartic, steep, quartic):
        train_step(network, loss, optimizer, x, y, ws, checked=True)
        _step(other, loss, optimizer, x, y, scratch, checked=True)
    np.testing.assert_allclose(network.params.theta, other.params.theta, rtol=0, atol=1e-12)


def test_prediction_through_a_users_layer_is_recorded():
    network, _ = made((Dense(8, tanh), Doubled(), Dense(C)))
    ws, (x, _) = network.workspace(16, training=False), batch(rows=16)
    expected = network.run(x, network.workspace(16, training=False))
    for _ in range(2):
        np.testing.assert_allclose(network.forward(x, ws), expected, rtol=0, atol=1e-13)
    assert reasons(ws) == [""]


class Wrong(Doubled):
    """A layer that returns a column for a matrix."""

    def forward(self, backend, p, x, buf):
        return x[:, :1]


class Broken(Doubled):
    """A layer without a gradient at its input."""

    def backward(self, backend, p, da, buf):
        return None


@pytest.mark.parametrize(
    ("layer", "error", "text"),
    [
        (Wrong(), ffnn_gpu.errors.ShapeError, r"Wrong.forward returned an array of shape \(96, 1\); it must"),
        (Broken(), ConfigurationError, "Broken.backward returned None; it must return dx"),
    ],
)  # fmt: skip
def test_wrong_result_of_a_users_layer_raises_a_sentence(layer, error, text):
    network, ws = made((Dense(8), layer, Dense(C)))
    for _ in range(2):
        with pytest.raises(error, match=text):
            train_step(network, softmax_cross_entropy, SGD(0.1), *batch(), ws)


def test_error_in_a_users_layer_leaves_the_workspace_usable():
    class Failing(Doubled):
        fails = False

        def forward(self, backend, p, x, buf):
            if Failing.fails:
                raise RuntimeError("mine")
            return super().forward(backend, p, x, buf)

    (network, ws), optimizer = made((Dense(8), Failing(), Dense(C))), SGD(0.1)
    train_step(network, softmax_cross_entropy, optimizer, *batch(), ws)
    Failing.fails = True
    with pytest.raises(RuntimeError, match="mine"):
        train_step(network, softmax_cross_entropy, optimizer, *batch(), ws)
    Failing.fails = False
    train_step(network, softmax_cross_entropy, optimizer, *batch(), ws)
    assert reasons(ws) == [""]


@pytest.mark.parametrize("kind", [Patient, Averaged, Stepped])
def test_users_optimizer_is_not_kept_alive(kind):
    optimizer = kind(0.1)
    network, ws = made(PLAIN)
    train_step(network, softmax_cross_entropy, optimizer, *batch(), ws)
    alive = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert alive() is None


@dataclass(frozen=True)
class FromOne(type(softmax_cross_entropy)):
    """Cross-entropy of classes that count from 1."""

    def targets(self, y, O, dtype):
        return super().targets(np.asarray(y) - 1, O, dtype)

    def value_and_gradient(self, backend, z, y, dz, sample_weight):
        return super().value_and_gradient(backend, z, y, dz, sample_weight)


def test_targets_of_a_users_loss_are_checked_and_converted_in_every_step():
    (network, ws), (other, scratch) = made(PLAIN), made(PLAIN)
    (x, y), optimizer, loss = batch(), SGD(0.1), FromOne()
    for _ in range(3):
        value = train_step(network, loss, optimizer, x, y + 1, ws)
        assert value == pytest.approx(_step(other, loss, optimizer, x, y + 1, scratch), rel=1e-12)
    assert reasons(ws) == [""]
    with pytest.raises(ffnn_gpu.errors.DataError):
        train_step(network, loss, optimizer, x, y, ws)  # a class 0


class Keeping(ffnn_gpu.Layer):
    """a = x + tanh(x), with tanh(x) stored in `a` and the output in a buffer of its own."""

    def buffer_shapes(self, rows, width):
        return {"a": (rows, width), "out": (rows, width), "dx": None}

    def forward(self, backend, p, x, buf):
        np.tanh(x, out=buf.a)
        return np.add(x, buf.a)

    def backward(self, backend, p, da, buf):
        return da * (2 - buf.a**2)


@pytest.mark.parametrize(
    "layers", [(Dense(8), Keeping(), Dense(C)), (Dense(C), Keeping()), (Keeping(), Dense(C))], ids=str
)
def test_buffers_of_a_users_layer_are_its_own(layers):
    found, whys = trained(train_step, layers, Adam())
    assert set(whys) == {""}
    require_equal(found, trained(_step, layers, Adam())[0], 0, 1e-11)
    network, _ = made(layers)
    ws, (x, _) = network.workspace(16, training=False), batch(rows=16)
    expected = network.run(x, network.workspace(16, training=False))
    np.testing.assert_allclose(network.forward(x, ws), expected, rtol=0, atol=1e-13)
    assert reasons(ws) == [""]


class Wide(Optimizer):
    """An update rule with a moment of another type, or with gaps."""

    moments = ("m",)

    def _new_state(self, params):
        state = super()._new_state(params)
        n = len(params.theta)
        state.m = np.zeros(2 * n, params.dtype)[::2] if self.lr > 0.15 else np.zeros(n, np.float16)
        return state

    def formula(self, xp, theta, g, lr, t, m):
        m += g.astype(m.dtype)
        theta -= lr * m.astype(theta.dtype)


@pytest.mark.parametrize("optimizer", [Wide(0.1), Wide(0.2)], ids=["another type", "gaps"])
def test_moments_of_another_type_or_layout_are_updated(optimizer):
    found, _ = trained(train_step, PLAIN, optimizer, dtype="float32")
    with np.errstate(all="ignore"):
        require_equal(found, trained(_step, PLAIN, optimizer, dtype="float32")[0], 0, 1e-3)


def test_underflow_in_a_users_layer_is_silent():
    class Tiny(Doubled):
        def forward(self, backend, p, x, buf):
            np.multiply(x, np.finfo(x.dtype).tiny, out=buf.a)
            buf.a *= 1e-10
            return np.multiply(x, 2, out=buf.a)

    network, ws = made((Dense(8), Tiny(), Dense(C)))
    with np.errstate(all="raise"):
        for _ in range(2):
            train_step(network, softmax_cross_entropy, SGD(0.1), *batch(), ws)


class Labels(FromOne):
    """A loss whose targets are Python objects."""

    def targets(self, y, O, dtype):
        return np.array([int(each) for each in y], object)

    def value_and_gradient(self, backend, z, y, dz, sample_weight):
        return super().value_and_gradient(backend, z, y.astype(np.int64), dz, sample_weight)


def test_targets_of_a_users_loss_may_have_any_type():
    (network, ws), (other, scratch) = made(PLAIN), made(PLAIN)
    (x, y), optimizer = batch(), SGD(0.1)
    for _ in range(2):
        train_step(network, Labels(), optimizer, x, y, ws)
        _step(other, Labels(), optimizer, x, y, scratch)
    np.testing.assert_allclose(network.params.theta, other.params.theta, rtol=0, atol=1e-12)
    assert reasons(ws) == [""]


def test_rows_of_another_type_or_layout_are_converted_and_recorded():
    network, ws = made(PLAIN)
    (x, y), optimizer = batch(), SGD(0.0)
    values = [
        float(train_step(network, softmax_cross_entropy, optimizer, rows, y, ws))
        for rows in (x, np.asfortranarray(x), x.astype(np.float32), np.repeat(x, 2, axis=0)[::2])
    ]
    assert values[0] == values[1] == values[3]
    assert values[0] == pytest.approx(values[2], rel=1e-6)
    assert reasons(ws) == [""]


def test_rows_as_their_own_targets_are_not_confused_with_other_targets():
    (network, ws), (other, scratch) = (made((Dense(8, relu), Dense(N_IN))) for _ in range(2))
    rng, loss, optimizer = np.random.default_rng(0), mean_squared_error, SGD(0.1)
    x, y = rng.standard_normal((2, B, N_IN))
    for targets in (x, y):
        values = (
            train_step(network, loss, optimizer, x, targets, ws, checked=True),
            _step(other, loss, optimizer, x, targets, scratch, checked=True),
        )
        assert values[0] == pytest.approx(values[1], rel=1e-13)
    assert reasons(ws) == [""]


def test_empty_batch_is_not_recorded():
    network, ws = made(PLAIN, rows=0)
    assert train_step(network, softmax_cross_entropy, SGD(0.1), *batch(rows=0), ws) == 0
    assert reasons(ws) == ["there is no row"]


def test_rows_in_the_memory_of_the_network_are_neither_recorded_nor_replayed():
    network, _ = made((Dense(N_IN),))
    ws, (x, _) = network.workspace(16, training=False), batch(rows=16)
    expected = [network.run(x, network.workspace(16, training=False)).copy()]
    expected.append(network.run(expected[0], network.workspace(16, training=False)).copy())
    for _ in range(2):
        first = network.forward(x, ws)
        np.testing.assert_allclose(first, expected[0], rtol=0, atol=1e-13)
        np.testing.assert_allclose(
            network.forward(first[:4], ws.first(4)), expected[1][:4], rtol=0, atol=1e-13
        )
        part = network.forward(x[:4].copy(), ws.first(4))
        np.testing.assert_allclose(part, expected[0][:4], rtol=0, atol=1e-13)


@pytest.mark.parametrize("lr", [np.array([0.5], np.float32), np.array([1]), np.array([0.5, 0.5])], ids=str)
def test_learning_rate_of_another_type_runs_unrecorded(lr):
    (network, ws), (other, scratch) = made(PLAIN), made(PLAIN)
    x, y = batch()
    train_step(network, softmax_cross_entropy, SGD(0.1), x, y, ws, lr=lr)
    _step(other, softmax_cross_entropy, SGD(0.1), x, y, scratch, None, lr)
    np.testing.assert_array_equal(network.params.theta, other.params.theta)
    assert reasons(ws) == ["there is no command for a learning rate that is not float64 (1,)"]


@pytest.mark.parametrize(
    ("y", "weight"),
    [
        (np.zeros((B, C)), None),
        (np.zeros((B, 1), np.float32), None),
        (np.zeros((B, C), np.int64), None),
        (np.zeros((B, C), np.float32), np.ones(B)),
        (np.zeros(B, np.int64), np.ones(B)),
    ],
    ids=["wide", "one column", "whole numbers", "wide weights", "wide weights of classes"],
)
def test_targets_and_weights_of_another_type_run_unrecorded(y, weight):
    loss = softmax_cross_entropy if y.ndim == 1 else mean_squared_error
    (network, ws), (other, scratch) = made(PLAIN, "float32"), made(PLAIN, "float32")
    x, _ = batch("float32")
    value = train_step(network, loss, SGD(0.1), x, y, ws, weight, checked=True)
    assert value == _step(other, loss, SGD(0.1), x, y, scratch, weight, None, True)
    assert reasons(ws) != [""]


def test_fewer_targets_than_rows_raise():
    network, ws = made(PLAIN)
    x, y = batch()
    with pytest.raises(IndexError):
        train_step(network, softmax_cross_entropy, SGD(0.1), x, y[:-5], ws, checked=True)


def test_overrides_in_subclasses_of_backend_and_network_are_called():
    class Backend(CompiledBackend):
        def adam(self, update, *args):
            self.calls = getattr(self, "calls", 0) + 1

    class Limited(Network):
        def forward(self, x, ws):
            self.calls = getattr(self, "calls", 0) + 1
            return super().forward(x, ws)

    (x, y), backend = batch(), Backend()
    network, limited = (
        Network(N_IN, PLAIN, backend, "float64"),
        Limited(N_IN, PLAIN, CompiledBackend(), "float64"),
    )
    for trained_one in (network, limited):
        ws = trained_one.workspace(B)
        for _ in range(3):
            train_step(trained_one, softmax_cross_entropy, Adam(), x, y, ws)
    assert (backend.calls, limited.calls) == (3, 3)


def test_replayed_step_uses_replaced_velocity_seed_and_row():
    layers, optimizer = (Dense(64, relu), Dropout(0.5), Dense(C)), SGD(0.1, momentum=0.9)
    (network, ws), (other, scratch), (x, y) = made(layers), made(layers), batch()
    for change in (None, "velocity", "seed", "row"):
        for one, memory in ((network, ws), (other, scratch)):
            if change == "velocity":
                optimizer.state(one.params).velocity = np.zeros_like(one.params.theta)
            elif change:
                setattr(memory.stream, change, 3)
        train_step(network, softmax_cross_entropy, optimizer, x, y, ws)
        _step(other, softmax_cross_entropy, optimizer, x, y, scratch, None, None)
        np.testing.assert_allclose(
            network.params.theta, other.params.theta, rtol=0, atol=1e-13, err_msg=str(change)
        )


def test_custom_step_has_its_own_recording():
    @recordable
    def gradient_only(network, loss, optimizer, x, y, ws, sample_weight=None, lr=None, checked=False):
        value = loss(network.backend, network.forward(x, ws), y, ws.dz, sample_weight, checked)
        network.backward(ws.dz, ws)
        return value

    (network, ws), (x, y), optimizer = made(PLAIN), batch(), SGD(0.1)
    train_step(network, softmax_cross_entropy, optimizer, x, y, ws)
    before = network.params.theta.copy()
    gradient_only(network, softmax_cross_entropy, optimizer, x, y, ws)
    np.testing.assert_array_equal(network.params.theta, before)


def test_optimizer_with_only_a_step_method_works():
    class Descent:
        def step(self, params, lr=None):
            params.theta -= 0.1 * params.grad

    (network, ws), (other, scratch), (x, y) = made(PLAIN), made(PLAIN), batch()
    for _ in range(2):
        train_step(network, softmax_cross_entropy, Descent(), x, y, ws)
    for _ in range(2):
        _step(other, softmax_cross_entropy, SGD(0.1), x, y, scratch)
    np.testing.assert_allclose(network.params.theta, other.params.theta, rtol=0, atol=1e-13)


def test_optimizer_is_not_kept_alive():
    (network, ws), (x, y), optimizer = made(PLAIN), batch(), Adam()
    train_step(network, softmax_cross_entropy, optimizer, x, y, ws)
    gone = weakref.ref(optimizer)
    del optimizer
    assert gone() is None


def test_refused_step_leaves_the_pass_of_another_thread_unchanged():
    network, ws = made(PLAIN)
    x, y = batch()
    network.forward(x, ws)
    ws._pass.acquire()  # as a backward in another thread would
    with pytest.raises(WorkspaceError, match="another thread"):
        train_step(network, softmax_cross_entropy, SGD(0.1), x, y, ws)
    assert ws.buffers[0].x is x and ws._whole._latest is ws


# ---------------------------------------------------------------------- errors and state


@pytest.mark.parametrize("bad", [-1, C])
@pytest.mark.parametrize("warm", [0, 2])
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_class_out_of_range_changes_nothing(bad, warm, kind, threads):
    network, ws = made(PLAIN)
    optimizer, (x, y) = Adam(), batch()
    y = y.astype(kind)
    for _ in range(warm):
        train_step(network, softmax_cross_entropy, optimizer, x, y, ws, checked=True)
    before = numbers(network, optimizer)
    before.pop("grad")
    wrong = np.where(y == 2, kind(bad), y)
    with pytest.raises(IndexError):
        train_step(network, softmax_cross_entropy, optimizer, x, wrong, ws, checked=True)
    with pytest.raises(ffnn_gpu.DataError, match=str(bad)):
        train_step(network, softmax_cross_entropy, optimizer, x, wrong, ws)
    require_equal(numbers(network, optimizer), before, 0)
    table = ws.recordings[0].table
    assert not table.failed[0] and np.isfinite(table.run(x, y))


def test_workspace_of_another_network_is_refused():
    (network, ws), (other, _) = made(PLAIN), made(PLAIN)
    x, y = batch()
    train_step(network, softmax_cross_entropy, SGD(0.1), x, y, ws)
    with pytest.raises(WorkspaceError, match="another network"):
        train_step(other, softmax_cross_entropy, SGD(0.1), x, y, ws)


def test_step_is_recorded_again_after_the_optimizer_state_is_deleted():
    network, ws = made(PLAIN)
    optimizer, (x, y) = Adam(), batch()
    for _ in range(2):
        train_step(network, softmax_cross_entropy, optimizer, x, y, ws)
    del network.params.optimizer_states[optimizer]
    train_step(network, softmax_cross_entropy, optimizer, x, y, ws)
    assert optimizer.state(network.params).scalars[0] == 1 and reasons(ws) == ["", ""]


def test_backward_after_a_recorded_step_raises():
    network, ws = made(PLAIN)
    x, y = batch()
    for _ in range(2):
        train_step(network, softmax_cross_entropy, SGD(0.1), x, y, ws)
        with pytest.raises(WorkspaceError):
            network.backward(ws.dz, ws)


def test_calls_beyond_the_limit_of_recordings_are_correct():
    network, ws = made(PLAIN)
    x, y = batch()
    for _ in range(12):
        train_step(network, softmax_cross_entropy, SGD(0.0), x, y, ws)
    assert len(ws.recordings) == 8 and set(reasons(ws)) == {""}
    value = train_step(network, softmax_cross_entropy, SGD(0.0), x, y, ws)
    assert value == pytest.approx(
        float(softmax_cross_entropy(network.backend, network.forward(x, ws), y)), rel=1e-12
    )


# ---------------------------------------------------------------------- threads


def test_result_does_not_depend_on_which_thread_computes_a_part(monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", "2")
    together = trained(train_step, PLAIN, Adam())[0]
    time.sleep(0.05)  # until the worker sleeps
    monkeypatch.setattr(ThreadPool, "wake", lambda pool: None)
    require_equal(trained(train_step, PLAIN, Adam())[0], together, 0)


def test_networks_trained_in_several_threads_equal_those_trained_one_by_one(monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", "2")
    expected, results = trained(train_step, PLAIN, SGD(0.1), steps=40)[0], {}
    threads = [
        threading.Thread(
            target=lambda k=k: results.update({k: trained(train_step, PLAIN, SGD(0.1), steps=40)[0]})
        )
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        require_equal(results[k], expected, 0)


@pytest.mark.parametrize(
    ("variables", "number"),
    [
        ({}, os.cpu_count()),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "2"}, 2),
        ({"OPENBLAS_NUM_THREADS": "many"}, os.cpu_count()),
        ({"FFNN_GPU_THREADS": "4", "OPENBLAS_NUM_THREADS": "1"}, 4),
    ],
)
def test_threads_follow_our_variable_then_the_blas_variables_then_the_cores(variables, number, monkeypatch):
    for name in ("FFNN_GPU_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        importlib.import_module("ffnn_gpu.backends.cpu.recording.threads"), "cores", os.cpu_count
    )
    assert importlib.import_module("ffnn_gpu.backends.cpu.recording.threads").threads() == number


def test_idle_threads_do_not_spin(monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", "3")
    trained(train_step, PLAIN, SGD(0.1))
    time.sleep(0.1)
    began = time.process_time()
    time.sleep(0.4)
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "1025"])
def test_invalid_number_of_threads_raises(text, monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", text)
    network, ws = made(PLAIN)
    with pytest.raises(
        ConfigurationError, match=f"FFNN_GPU_THREADS must be a whole number from 1 to 1,024, not '{text}'"
    ):
        train_step(network, softmax_cross_entropy, SGD(0.1), *batch(), ws)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", float("nan"), 10**9])
def test_invalid_number_of_threads_of_a_backend_raises(threads):
    with pytest.raises(ConfigurationError, match=f"threads must be .* from 1 to 1,024, not {threads!r}"):
        CompiledBackend(threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_process_trains_with_a_thread_pool_of_its_own(monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", "2")
    expected = trained(train_step, PLAIN, SGD(0.1))[0]
    child = os.fork()
    if child == 0:
        found = trained(train_step, PLAIN, SGD(0.1))[0]
        os._exit(0 if all((found[name] == value).all() for name, value in expected.items()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
