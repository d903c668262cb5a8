"""bfloat16 and float16 networks: products in 16 bits; θ, gradients, statistics and losses in float32."""

import copy
import re
import sys
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    Adam,
    AdamW,
    Backend,
    BatchNorm,
    ConfigurationError,
    Constant,
    DataError,
    Dense,
    DivergedError,
    Dropout,
    IncompatibleCheckpointError,
    LayerNorm,
    LogSoftmax,
    Network,
    Residual,
    SoftmaxCrossEntropy,
    evaluate,
    fit,
    gelu,
    get_backend,
    load,
    mean_squared_error,
    relu,
    save,
    softmax_cross_entropy,
    tanh,
    train_step,
)
from ffnn_gpu.arrays.precision import eps
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.nn.activations import ACTIVATIONS
from ffnn_gpu.nn.losses.standard import LOSSES
from ffnn_gpu.testing import assert_close, assert_parity, check_gradients, tolerance
from ffnn_gpu.testing.strict_device import StrictBackend
from ffnn_gpu.training.callbacks import BestWeights
from tests.backends.cuda.emulated_cupy import EmulatedCupy, emulator
from tests.backends.cuda.fake_cupy import installed

LAYERS = [
    Dense(9, tanh),
    LayerNorm(),
    Dropout(0.3),
    Residual([Dense(6, gelu), BatchNorm(), Dense(9)]),
    Dense(3),
]
RNG = np.random.default_rng(0)
X, LABELS = RNG.normal(size=(32, 5)), RNG.integers(0, 3, 32)


@cache
def emulated():
    emulator.require()
    with pytest.MonkeyPatch.context() as patch, installed(patch, EmulatedCupy()):
        return CupyBackend(0)


@pytest.fixture(params=["numpy", "reference", "emulated", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request):
    return {"reference": Backend, "emulated": emulated}.get(
        request.param, lambda: get_backend(request.param)
    )()


@pytest.fixture(params=["bfloat16", "float16"])
def dtype(request):
    return request.param


def network_of(backend, dtype, layers=LAYERS, n_in=5, seed=1):
    return Network(n_in, layers, backend, dtype, seed)


def scale(network):
    S = network.params.loss_scale
    return 1.0 if S is None else network.backend.to_host(S)[0]


def one_pass(network, x, y, loss=softmax_cross_entropy):
    """Return outputs, loss, and the gradients of every parameter and of x, as float64."""
    backend, ws = network.backend, network.workspace(len(x), input_gradient=True)
    z = network.forward(backend.asarray(x, network.compute_dtype), ws)
    found = {
        "z": z,
        "loss": loss(backend, z, backend.asarray(y), dz=ws.dz),
        "dx": network.backward(ws.dz, ws),
    }
    found = {name: np.array(backend.to_host(value), np.float64) for name, value in found.items()}
    for slot in network.params.slots:
        found[f"d{slot.name}"] = backend.to_host(slot.view(network.params.grad)).astype(np.float64) / scale(
            network
        )
    return found


def yardstick(network):
    """Return the same numbers, computed in float64 on the reference."""
    twin = network_of(Backend(), "float64", network.layers, network.n_in, network.seed)
    twin.params.assign({name: value.astype(np.float64) for name, value in network.params.to_host().items()})
    return twin


def assert_near(got, want, dtype, factor=1):
    """Assert errors of at most max(16, √(L K)) eps, relative to each tensor's largest element."""
    relative = factor * tolerance("network", dtype, K=len(X), L=len(LAYERS))
    largest = max(np.abs(value).max() for name, value in want.items() if name.startswith("d"))
    for name, value in want.items():
        least = 0.01 * largest if name.startswith("d") else 0  # a bias before BatchNorm has no gradient
        bound = max(np.abs(value).max(), least)
        assert_close(got[name], value, relative, name, scale=bound)


def test_gradient_at_x_that_overflows_with_the_scale_is_computed_with_a_smaller_one(backend):
    """dx = 1.6, and 1.6 · 2¹⁶ is larger than any number of float16. ∇θ does not overflow."""
    layers = [BatchNorm(), Dense(1, weights=Constant(2.0))]
    network, twin = (network_of(backend, "float16", layers, 2) for _ in range(2))
    ws, other = network.workspace(2, input_gradient=True), twin.workspace(2)
    x, dz = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([[0.8], [0.6]])
    for each, of in ((network, ws), (twin, other)):
        each.forward(backend.asarray(x, each.compute_dtype), of)
        dx = each.backward(backend.asarray(dz, each.dtype), of)
        assert (dx is None) == (of is other) and (dx is None or np.isfinite(backend.to_host(dx)).all())
    assert scale(twin) == 2.0**16
    np.testing.assert_array_equal(backend.to_host(network.params.state), backend.to_host(twin.params.state))
    plain = network_of(backend, "float16", layers[1:], 2)
    ws = plain.workspace(1, input_gradient=True)
    plain.forward(backend.asarray(np.full((1, 2), 0.1), plain.compute_dtype), ws)
    dx = backend.to_host(plain.backward(backend.asarray(np.array([[0.8]]), plain.dtype), ws))
    assert_close(dx, np.full((1, 2), 1.6), tolerance("product", "float16"), "dx")
    assert scale(plain) == 2.0**15
    grad = [backend.to_host(slot.view(plain.params.grad)) / 2.0**15 for slot in plain.params.slots]
    assert_close(grad[0], np.full((2, 1), 0.08), tolerance("product", "float16"), "dW")
    infinite = backend.asarray(np.array([[np.inf]]), plain.dtype)  # no scale helps
    plain.forward(backend.asarray(np.full((1, 2), 0.1), plain.compute_dtype), ws)
    with np.errstate(invalid="ignore", over="ignore"):
        plain.backward(infinite, ws)
    assert scale(plain) == 2.0**15


def test_captured_step_does_not_wait_for_the_gradient_at_x():
    backend = StrictBackend()
    network = network_of(backend, "float16", [Dense(1, weights=Constant(2.0))], 2)
    ws, x = network.workspace(1, input_gradient=True), backend.asarray(np.full((1, 2), 0.1, np.float16))
    dz = backend.asarray(np.array([[0.8]], np.float32))
    network.forward(x, ws)
    dx = backend.capture(network.backward)(dz, ws)
    assert np.isinf(backend.to_host(dx)).all() and scale(network) == 2.0**16


# ---------------------------------------------------------------------- results of a pass


def test_outputs_and_every_gradient_equal_float64(backend, dtype):
    network = network_of(backend, dtype)
    assert_near(one_pass(network, X, LABELS), one_pass(yardstick(network), X, LABELS), np.dtype(dtype))


def test_errors_are_a_few_units_of_the_type(backend, dtype):
    """Norms of errors are at most 4 eps, so a wrong factor is detected that elementwise tolerances allow."""
    network = network_of(backend, dtype, [Dense(64, tanh), Dense(64, tanh), Dense(3)])
    got, want = one_pass(network, X, LABELS), one_pass(yardstick(network), X, LABELS)
    for name, value in want.items():
        assert np.linalg.norm(got[name] - value) <= 4 * eps(np.dtype(dtype)) * np.linalg.norm(value), name


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_trains(backend, dtype, name):
    layers = [Dense(8, ACTIVATIONS[name]), Dense(3)]
    assert_parity(
        network_of("numpy", dtype, layers), X, LABELS, softmax_cross_entropy, backends=(Backend(), backend)
    )


@pytest.mark.parametrize("weight", [None, RNG.random(32)], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_float32_and_has_its_gradient(backend, dtype, name, weight):
    loss, layers = LOSSES[name], [Dense(8, tanh), Dense(3, ACTIVATIONS["sigmoid"])]
    network = network_of(backend, dtype, layers)
    one_hot = np.eye(3)[LABELS]
    y = {"hinge": 2 * one_hot - 1, "softmax_cross_entropy": LABELS}.get(name, one_hot)

    def weighted(backend, z, y, dz):
        return loss(backend, z, y, dz=dz, sample_weight=weight)

    got, want = one_pass(network, X, y, weighted), one_pass(yardstick(network), X, y, weighted)
    assert_near(got, want, np.dtype(dtype), factor=2)
    ws = network.workspace(32)
    value = loss(
        network.backend, network.forward(network.backend.asarray(X), ws), network.backend.asarray(y), dz=ws.dz
    )
    assert value.dtype == np.float32
    assert ws.dz.dtype == (np.float32 if dtype == "float16" else network.compute_dtype)


def test_check_gradients_accepts_16_bit_networks(backend, dtype):
    check_gradients(
        network_of(backend, dtype, [Dense(4, tanh), Dense(3)]), softmax_cross_entropy, X[:4], LABELS[:4]
    )


def test_gradient_at_the_input_is_without_the_loss_scale(backend):
    network = network_of(backend, "float16", [Dense(4, tanh), Dense(3)])
    got, want = one_pass(network, X, LABELS), one_pass(yardstick(network), X, LABELS)
    assert np.linalg.norm(got["dx"] - want["dx"]) <= 4 * 2.0**-10 * np.linalg.norm(want["dx"])


def test_ten_steps_equal_float64(backend, dtype):
    network, optimizer = network_of(backend, dtype), SGD(lr=0.05, momentum=0.9)
    twin = yardstick(network)
    for each in (network, twin):
        x, y, ws = (
            each.backend.asarray(X, each.compute_dtype),
            each.backend.asarray(LABELS),
            each.workspace(32),
        )
        for _ in range(10):
            train_step(each, softmax_cross_entropy, optimizer, x, y, ws)
    assert int(network.params.step[0]) == 10
    mine, theirs = network.params.to_host(), twin.params.to_host()
    relative = 10 * tolerance("network", np.dtype(dtype), K=32, L=len(LAYERS))
    for name, value in theirs.items():
        moved = np.abs(value - yardstick(network_of("numpy", dtype)).params.to_host()[name]).max()
        assert_close(mine[name], value, relative, name, scale=max(moved, 0.01))


@pytest.mark.parametrize(
    "layers", [LAYERS, [Dense(4, relu), BatchNorm(), Dense(3), LogSoftmax()]], ids=["all", "log"]
)
def test_steps_on_a_strict_device_equal_the_reference_bit_for_bit(layers, dtype):
    def after_three_steps(backend):
        network, optimizer = network_of(backend, dtype, layers), AdamW(clip_norm=1.0, ema=0.9)
        x, y = backend.asarray(X, network.compute_dtype), backend.asarray(LABELS, np.int32)
        w, ws = backend.asarray(np.ones(32, np.float32)), network.workspace(32)
        loss = SoftmaxCrossEntropy(0.1, (1, 2, 3))
        z = backend.asarray(np.ones((1, 3)), network.compute_dtype)
        loss(backend, z, y[:1], checked=True)  # moves class weights
        optimizer.state(network.params)
        step = backend.capture(lambda: train_step(network, loss, optimizer, x, y, ws, w, checked=True))
        for _ in range(3):
            step()
        return {name: value.tobytes() for name, value in network.params.to_host().items()}

    assert after_three_steps(StrictBackend()) == after_three_steps(Backend())


# ---------------------------------------------------------------------- types


def test_types_of_everything(backend, dtype):
    network = network_of(backend, dtype, [Dense(4, gelu), LayerNorm(), BatchNorm(), Dropout(0.1), Dense(3)])
    params, narrow, ws = network.params, network.compute_dtype, network.workspace(6)
    assert narrow == dtype and network.dtype == params.dtype == np.float32
    assert {a.dtype for a in (params.theta, params.grad, params.state)} == {np.dtype(np.float32)}
    assert params.shadow.dtype == params.views[0].W.dtype == params.views[1].gain.dtype == narrow
    assert (
        params.views[0].dW.dtype
        == params.views[1].dbias.dtype
        == params.views[2].running_mean.dtype
        == np.float32
    )
    assert {slot.start * 2 % 256 for slot in (*params.slots, *params.state_slots)} == {0}
    dense, norm, batch, drop, _ = ws.buffers
    assert {a.dtype for a in (dense.a, dense.s, norm.dx, norm.xhat, drop.mask)} == {narrow}
    assert {a.dtype for a in (norm.rstd, batch.mean, batch.variance)} == {np.dtype(np.float32)}
    assert network.predict(X).dtype == np.float32 and repr(network).count(dtype) == 1
    state = Adam().state(params)
    assert state.m.dtype == state.v.dtype == np.float32


def test_wider_networks_have_neither_shadow_nor_scale(backend):
    for dtype in ("float32", "float64"):
        network = network_of(backend, dtype)
        assert network.params.shadow is None and network.params.loss_scale is None and network.dtype == dtype
        assert network.compute_dtype == network.dtype and network.workspace(2).scaled_dz is None


def test_gradients_of_parameters_are_not_rounded_to_16_bits(backend, dtype):
    network = network_of(backend, dtype)
    one_pass(network, X, LABELS)
    for p in network.params.views[0].dW, network.params.views[1].dgain, network.params.views[4].db:
        value = network.backend.to_host(p)
        assert (value != value.astype(dtype).astype(np.float32)).mean() > 0.9


def test_updates_smaller_than_a_unit_of_the_type_are_not_lost(backend, dtype):
    network = network_of(backend, dtype, [Dense(2, bias=False)], n_in=2)
    network.params.assign({"0.W": np.ones((2, 2), np.float32)})
    x, y, ws = (
        network.backend.asarray(np.eye(2), dtype),
        network.backend.asarray(np.zeros((2, 2))),
        network.workspace(2),
    )
    for _ in range(100):
        train_step(network, mean_squared_error, Adam(lr=1e-4), x, y, ws)  # a new Adam moves each step by lr
    assert_close(network.params.to_host()["0.W"][[0, 1], [0, 1]], np.full(2, 1 - 100 * 1e-4), 1e-5)
    step = np.array(1 - 1e-4).astype(dtype)
    assert dtype == "float16" or step == 1  # with bfloat16 parameters nothing would change


def test_targets_and_weights_are_not_rounded_to_16_bits(backend, dtype):
    network = network_of(backend, dtype, [Dense(1)])
    network.params.assign({name: 0 * value for name, value in network.params.to_host().items()})
    y, w = RNG.normal(size=(32, 1)), RNG.random(32)
    want = float((w * y[:, 0] ** 2).sum() / w.sum())
    ws = network.workspace(32)
    z = network.forward(backend.asarray(X, dtype), ws)
    value = mean_squared_error(backend, z, backend.asarray(y), dz=ws.dz, sample_weight=backend.asarray(w))
    history = fit(network, mean_squared_error, SGD(lr=0.0), (X, y, w), epochs=1, batch_size=8, verbose=0)
    assert [float(value), history.rows[0]["loss"]] == pytest.approx([want] * 2, rel=1e-6)
    assert evaluate(network, mean_squared_error, (X, y, w))["loss"] == pytest.approx(want, rel=1e-6)


def test_running_mean_far_from_zero_survives(backend, dtype):
    network = network_of(backend, dtype, [BatchNorm(momentum=0.1)], n_in=2)
    network.params.assign(network.params.to_host() | {"0.running_mean": np.full(2, 1000.1, np.float32)})
    x = network.backend.asarray(np.full((4, 2), 1000), dtype)
    ws = network.workspace(4)
    train_step(network, mean_squared_error, SGD(lr=0.0), x, network.backend.asarray(np.zeros((4, 2))), ws)
    assert_close(network.params.to_host()["0.running_mean"], np.full(2, 1000.09), 1e-6)


def test_shadow_is_theta_rounded_after_every_write_of_theta(backend, dtype):
    def in_step(network):
        params, to_host = network.params, network.backend.to_host
        assert np.array_equal(to_host(params.shadow), to_host(params.theta).astype(dtype))

    network, optimizer = network_of(backend, dtype), Adam(lr=0.01, ema=0.5)
    in_step(network)
    data = {"epochs": 2, "batch_size": 16, "verbose": 0}
    fit(network, softmax_cross_entropy, optimizer, (X, LABELS), callbacks=[BestWeights("loss")], **data)
    in_step(network)
    x, y = backend.asarray(X, network.compute_dtype), backend.asarray(LABELS)
    train_step(network, softmax_cross_entropy, optimizer, x, y, network.workspace(32))
    in_step(network)
    optimizer.swap_average(network.params)
    in_step(network)
    optimizer.load_average(network.params)
    in_step(network)
    in_step(copy.deepcopy(network))
    assert np.array_equal(copy.deepcopy(network).predict(X), network.predict(X))


# ---------------------------------------------------------------------- training


@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_converges(backend, dtype, accumulate):
    x = np.random.default_rng(3).normal(size=(120, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)  # exclusive or: no linear model does better than chance
    network = network_of(backend, dtype, [Dense(16, tanh), BatchNorm(), Dense(2)], n_in=2)
    history = fit(
        network,
        softmax_cross_entropy,
        Adam(lr=0.03),
        (x, y),
        epochs=25,
        batch_size=30,
        verbose=0,
        metrics=["accuracy"],
        accumulate=accumulate,
        class_weight="balanced",
        validation=(x, y),
    )
    assert history.rows[-1]["val_accuracy"] > 0.93 and history.rows[-1]["val_loss"] < 0.25
    assert evaluate(network, softmax_cross_entropy, (x, y))["loss"] == pytest.approx(
        history.rows[-1]["val_loss"]
    )


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float16, np.float32, np.float64])
def test_data_of_any_type_is_rounded_once(backend, dtype, kind):
    x = (X * 50 % 200).astype(kind)
    network = network_of(backend, dtype, [Dense(3)])
    fit(network, softmax_cross_entropy, SGD(lr=0.0), (x, LABELS), epochs=1, batch_size=8, verbose=0)
    want = yardstick(network).predict(x.astype(np.float32).astype(dtype).astype(np.float64))
    assert_close(network.predict(x), want, 2 * eps(np.dtype(dtype)))


def test_data_in_the_compute_type_is_accepted(backend, dtype):
    network, x = network_of(backend, dtype), X.astype(dtype)
    assert np.array_equal(network.predict(x), network.predict(x.astype(np.float32)))
    history = fit(network, softmax_cross_entropy, Adam(), (x, LABELS), epochs=1, verbose=0)
    assert np.isfinite(history.rows[0]["loss"])


@pytest.mark.parametrize("value", [70000, 70000.0, np.int64(10) ** 6])
def test_numbers_too_large_for_float16_raise(backend, value):
    x = np.full((2, 5), value)
    with pytest.raises(DataError, match="too large for float16"):
        network_of(backend, "float16").predict(x)
    assert np.isfinite(network_of(backend, "bfloat16").predict(x)).all()


# ---------------------------------------------------------------------- the loss scale of float16


def small_gradients(backend, scale):
    """Return how far one step moves W if the gradients, −5·10⁻⁹, are below the smallest float16, 6·10⁻⁸."""
    network = network_of(backend, "float16", [Dense(4, bias=False), Dense(1, bias=False)], n_in=4)
    network.params.assign({"0.W": np.eye(4, dtype="f"), "1.W": np.full((4, 1), 1e-4, np.float32)})
    network.backend.write(network.params.loss_scale, 0, scale)
    x, y, ws = (
        backend.asarray(np.eye(4), "float16"),
        backend.asarray(np.full((4, 1), 2e-4)),
        network.workspace(4),
    )
    before = network.params.to_host()["0.W"]
    train_step(network, mean_squared_error, SGD(lr=1e6), x, y, ws)
    return network.params.to_host()["0.W"] - before


def test_gradients_too_small_for_float16_are_used_with_the_scale(backend):
    dW = 2 / 4 * (1e-4 - 2e-4) * 1e-4  # ∂L/∂z of each of the 4 rows, times w
    assert not small_gradients(backend, 1.0).any()
    assert_close(small_gradients(backend, 2.0**16), np.full((4, 4), -1e6 * dW), 2.0**-9)


def test_overflow_skips_the_step_and_halves_the_scale(backend):
    network, optimizer = network_of(backend, "float16", [Dense(3), BatchNorm(), Dense(3)]), AdamW(lr=0.01)
    x, y, ws = backend.asarray(X, "float16"), backend.asarray(LABELS), network.workspace(32)
    train_step(network, softmax_cross_entropy, optimizer, x, y, ws)
    backend.write(network.params.loss_scale, 0, 2.0**40)
    to_host, state = backend.to_host, optimizer.state(network.params)
    vectors = (
        network.params.theta,
        network.params.shadow,
        network.params.step,
        state.m,
        state.v,
        state.scalars,
    )
    before = [np.array(to_host(vector)).tobytes() for vector in vectors]
    for halved in (2.0**39, 2.0**38):
        value = train_step(network, softmax_cross_entropy, optimizer, x, y, ws)
        assert np.isfinite(float(value)) and to_host(network.params.loss_scale).tolist() == [halved, 0]
    assert [np.array(to_host(vector)).tobytes() for vector in vectors] == before
    backend.write(network.params.loss_scale, 0, 2.0**10)
    train_step(network, softmax_cross_entropy, optimizer, x, y, ws)
    assert to_host(network.params.loss_scale).tolist() == [2.0**10, 1] and int(network.params.step[0]) == 2


@dataclass(frozen=True)
class NotANumber(Dense):
    """A layer whose gradient is wrong."""

    def backward(self, backend, p, da, buf):
        backend.copy(np.nan, out=da)
        return super().backward(backend, p, da, buf)


def test_gradient_that_is_never_finite_ends_training(backend, dtype):
    network = network_of(backend, dtype, [NotANumber(4), Dense(3)])
    said = "step of epoch 1 is not finite in float16 although the loss scale is down to 1"
    if dtype != "float16":
        said = "loss is nan"
    with pytest.raises(DivergedError, match=said):
        fit(network, softmax_cross_entropy, Adam(), (X, LABELS), epochs=2, batch_size=1, verbose=0)


def test_error_names_outputs_beyond_float16():
    network = network_of("numpy", "float16", [Dense(3)])
    with pytest.raises(DivergedError, match="or its activations are too large for float16"):
        network.predict(np.full((1, 5), 65000.0))


def test_scale_changes_only_the_rounding(backend):
    def moved(S):
        network = network_of(backend, "float16", [Dense(6, tanh), Dense(3)])
        backend.write(network.params.loss_scale, 0, S)
        ws = network.workspace(32)
        train_step(
            network,
            softmax_cross_entropy,
            SGD(lr=1.0),
            backend.asarray(X, "float16"),
            backend.asarray(LABELS),
            ws,
        )
        return network.params.to_host()["0.W"]

    assert_close(moved(2.0**15), moved(2.0**8), 2.0**-12)


# ---------------------------------------------------------------------- files


def test_checkpoint_contains_float32_parameters_and_the_type(tmp_path, backend, dtype):
    network = network_of(backend, dtype)
    fit(network, softmax_cross_entropy, Adam(lr=0.01), (X, LABELS), epochs=1, verbose=0)
    save(network, tmp_path / "model")
    same, wide = load(tmp_path / "model", "numpy"), load(tmp_path / "model", "numpy", dtype="float32")
    assert same.compute_dtype == dtype and wide.compute_dtype == wide.dtype == np.float32
    for name, value in network.params.to_host().items():
        assert (
            value.tobytes() == same.params.to_host()[name].tobytes() == wide.params.to_host()[name].tobytes()
        )
    assert_close(wide.predict(X), network.predict(X), tolerance("network", np.dtype(dtype)))
    assert load(tmp_path / "model", "numpy", dtype="float64").dtype == np.float64


@pytest.mark.parametrize(("type_", "large"), [("float16", 1e5), ("bfloat16", 3.4e38), ("float32", 1e300)])
def test_numbers_too_large_for_another_type_raise(tmp_path, backend, type_, large):
    network = Network(5, [Dense(3), BatchNorm()], "numpy", "float64")
    network.params.views[1].running_variance[1] = 1e5  # a statistic is stored in float32
    save(network, tmp_path / "model")
    assert load(tmp_path / "model", backend, dtype=type_).params.to_host()["1.running_variance"][1] == 1e5
    network.params.views[0].b[1] = -large
    save(network, tmp_path / "model")
    with pytest.raises(
        ConfigurationError, match=re.escape(f"model.safetensors holds {large:g}, too large for {type_}")
    ):
        load(tmp_path / "model", backend, dtype=type_)


def test_file_of_a_bfloat16_network_without_ml_dtypes(tmp_path, monkeypatch):
    save(network_of("numpy", "bfloat16"), tmp_path / "model")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(IncompatibleCheckpointError, match="pip install ml_dtypes"):
        load(tmp_path / "model", "numpy")
    assert np.isfinite(load(tmp_path / "model", "numpy", dtype="float32").predict(X)).all()


def test_resumed_run_equals_the_uninterrupted_run(tmp_path, backend, dtype):
    def train(epochs, path, resume=False):
        network, optimizer = network_of(backend, dtype), Adam(lr=0.01, ema=0.9)
        if dtype == "float16" and not resume:
            backend.write(network.params.loss_scale, 0, 2.0**9)
        options = {"batch_size": 8, "verbose": 0, "checkpoint": path, "resume": resume, "early_stopping": 9}
        history = fit(network, softmax_cross_entropy, optimizer, (X, LABELS), epochs=epochs, **options)
        to_host, params = backend.to_host, network.params
        kept = [params.theta, params.state, *vars(optimizer.state(params)).values()]
        kept += [] if params.loss_scale is None else [params.loss_scale]
        return [np.array(to_host(vector)).tobytes() for vector in kept], [row["loss"] for row in history.rows]

    whole = train(4, tmp_path / "whole")
    train(2, tmp_path / "parts")
    assert train(4, tmp_path / "parts", resume=True) == whole


def test_resume_in_another_type_raises(tmp_path, dtype):
    options = {"epochs": 1, "verbose": 0, "checkpoint": tmp_path / "run"}
    fit(network_of("numpy", dtype), softmax_cross_entropy, Adam(), (X, LABELS), **options)
    with pytest.raises(IncompatibleCheckpointError, match=f"dtype {dtype}; this run has float32"):
        fit(
            network_of("numpy", "float32"), softmax_cross_entropy, Adam(), (X, LABELS), **options, resume=True
        )
