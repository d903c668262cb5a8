"""Recorded steps and predictions in bfloat16 and float16 equal those of the reference.

The reference computes every operation in float32 and rounds its results once. So do the commands. Only the
order of additions differs, which changes few of the rounded numbers, and these by one unit in the last place.
"""

import importlib

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    Adam,
    AdamW,
    Backend,
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    Lion,
    Nadam,
    Network,
    mean_squared_error,
    relu,
    softmax_cross_entropy,
    tanh,
    train_step,
)
from ffnn_gpu.arrays.precision import eps, floating
from ffnn_gpu.backends.choice import CompiledBackend
from ffnn_gpu.nn.activations import ACTIVATIONS
from ffnn_gpu.nn.layers import LogSoftmax, Softmax
from ffnn_gpu.nn.losses import SoftmaxCrossEntropy
from ffnn_gpu.nn.losses.standard import LOSSES
from ffnn_gpu.testing import assert_close, tolerance
from ffnn_gpu.training.step import gradient, recordable, update
from tests.backends.cpu.recording.test_recorded_step import (
    N_IN,
    NETWORKS,
    OPTIMIZERS,
    Averaged,
    C,
    Doubled,
    Halved,
    Patient,
    branching,
    odd,
)

pytest.importorskip("llvmlite")
pytest.importorskip("ml_dtypes")
recorded_step = importlib.import_module("ffnn_gpu.backends.cpu.recording.recorded_step")
UNEQUAL = 0.1  # of the numbers in 16 bits, at most; truncation instead of rounding changes half of them
USERS_OWN = {
    "layer": ((Dense(8, relu), Doubled(), Dense(8, tanh), Dense(C)), SGD(0.1), softmax_cross_entropy),
    "last layer": ((Dense(C), Doubled()), SGD(0.1), softmax_cross_entropy),
    "first layer": ((Doubled(), Dense(8, relu), Dense(C)), SGD(0.1), softmax_cross_entropy),
    "loss": ((Dense(8, relu), Dense(C)), SGD(0.1), Halved()),
    "untraceable activation": ((Dense(8, odd), Dense(C)), SGD(0.1), softmax_cross_entropy),
    "untraceable loss": ((Dense(8, relu), Dense(C)), SGD(0.1), branching),
    "rule": ((Dense(8, tanh), Dense(C)), Patient(0.1), softmax_cross_entropy),
    "untraceable rule": ((Dense(8, tanh), Dense(C)), Averaged(0.1), softmax_cross_entropy),
}


@pytest.fixture(params=["bfloat16", "float16"])
def dtype(request):
    if request.param not in recorded_step.RECORDED:
        pytest.skip(f"this processor has no instructions for {request.param}")
    return request.param


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", str(request.param))
    return request.param


def batch(dtype, rows, loss=softmax_cross_entropy, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, N_IN)).astype(np.float32).astype(floating(dtype))
    if isinstance(loss, SoftmaxCrossEntropy):
        return x, rng.integers(0, C, rows).astype(np.int32)
    return x, rng.dirichlet(np.ones(C), rows).astype(np.float32)


def networks(layers, dtype, S=2.0**10):
    """Return equal networks, one to record and one of the reference, with loss scale S."""
    found = [
        Network(N_IN, list(layers), backend, dtype, seed=3) for backend in (CompiledBackend(), Backend())
    ]
    rng = np.random.default_rng(1)
    values = {
        name: v + 0.05 * rng.random(v.shape, v.dtype) * (-1) ** rng.integers(0, 2, v.shape)
        for name, v in found[0].params.to_host().items()
    }
    values = {name: v.astype(np.float32) for name, v in values.items()}
    for network in found:
        network.params.assign(values)
        if network.params.loss_scale is not None:
            network.params.loss_scale[0] = S
    return found


def require_recorded(ws):
    assert [recording.reason for recording in ws.recordings] == [""]


def require_same_roundings(layers, buffers, others):
    """Compare the 16-bit arrays of two passes, bit for bit but for few numbers."""
    for k, (got, want) in enumerate(zip(buffers, others, strict=True)):
        if hasattr(got, "layers"):
            require_same_roundings(layers[k].layers, got.layers, want.layers)
        names = {"a", "s", "xhat", "mask", "dx"}
        if k and isinstance(layers[k - 1], BatchNorm):
            names -= {"dx"}  # its backward pass may overwrite it or not
        for name in names:
            pair = [getattr(each, name, None) for each in (got, want)]
            if pair[0] is not None:
                chosen = (pair[0] != 0) | (pair[1] != 0)  # the zeros of ReLU and dropout are equal anyway
                unequal = np.count_nonzero(pair[0][chosen] != pair[1][chosen])
                few = np.count_nonzero(chosen) < 200  # one number changes all that follow from it
                assert few or unequal <= UNEQUAL * np.count_nonzero(chosen), (k, name)


def require_near(network, other, dtype):
    """Compare θ, ∇θ and the statistics of two networks; `shadow` must be θ rounded."""
    got, want = network.params, other.params
    for slot in got.slots:
        pair = slot.view(got.grad), slot.view(want.grad)
        size = max(np.abs(pair[1]).max(), 0.01 * np.abs(want.grad).max())
        assert_close(*pair, 2 * eps(floating(dtype)), f"d{slot.name}", scale=size)
        error, norm = (float(np.linalg.norm(each)) for each in (pair[0] - pair[1], pair[1]))
        least = size * np.sqrt(slot.size)
        assert error <= eps(floating(dtype)) / 2 * max(norm, least), slot.name
    for name in ("theta", "state"):
        assert_close(getattr(got, name), getattr(want, name), eps(floating(dtype)) / 4, name)
    require_rounded_shadow(network)
    assert got.step[0] == want.step[0]
    assert got.loss_scale is None or got.loss_scale.tolist() == want.loss_scale.tolist()


def require_rounded_shadow(network):
    params = network.params
    np.testing.assert_array_equal(params.shadow, params.theta.astype(params.shadow.dtype))


def compare_steps(layers, dtype, optimizer=SGD(0.05), loss=softmax_cross_entropy, rows=96, weight=None):
    """Compare three steps. Each starts from equal numbers, as one flip of a ReLU changes all later ones."""
    pair = networks(layers, dtype)
    scratch = [network.workspace(rows) for network in pair]
    for k in range(3):
        x, y = batch(dtype, rows, loss, seed=k)
        values = [
            float(train_step(network, loss, optimizer, x, y, ws, weight, None, True))
            for network, ws in zip(pair, scratch, strict=True)
        ]
        assert values[0] == pytest.approx(values[1], rel=2 * eps(floating(dtype)), abs=1e-6)
        require_same_roundings(layers, *(ws.buffers for ws in scratch))
        require_near(*pair, dtype)
        copy_numbers(*pair, optimizer)
    require_recorded(scratch[0])


def copy_numbers(network, other, optimizer):
    for one, two in zip(vectors(other, optimizer), vectors(network, optimizer), strict=True):
        two[...] = one


def vectors(network, optimizer):
    params = network.params
    return params.theta, params.shadow, params.state, *vars(optimizer.state(params)).values()


# ---------------------------------------------------------------------- steps


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_recorded_steps_of_every_layer_equal_the_references(layers, dtype, threads):
    compare_steps(layers, dtype)


@pytest.mark.parametrize("layer", [Softmax(), LogSoftmax()], ids=repr)
def test_recorded_steps_of_softmax_layers_equal_the_references(layer, dtype):
    compare_steps((Dense(32, tanh), Dense(C), layer), dtype, loss=mean_squared_error)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 17, 333])
def test_recorded_steps_of_any_number_of_rows_equal_the_references(rows, dtype, threads):
    compare_steps((Dense(70, relu), Dense(33, tanh), Dense(C)), dtype, rows=rows)


def test_sums_over_several_depths_are_rounded_once(dtype):
    """A product of more than 512 terms is summed in parts, which stay in float32."""
    compare_steps((Dense(1500, relu), Dense(600, tanh), Dense(C)), dtype, rows=40)
    compare_steps((Dense(20, relu), Dense(C)), dtype, rows=1100)


@pytest.mark.parametrize("phi", ACTIVATIONS)
def test_recorded_steps_of_every_activation_equal_the_references(phi, dtype):
    compare_steps((Dense(24, phi), Dense(16, phi, bias=False), Dense(C)), dtype)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_recorded_steps_of_every_loss_equal_the_references(loss, weighted, dtype):
    weight = np.random.default_rng(3).random(96).astype(np.float32) if weighted else None
    layers = (Dense(24, tanh), Dense(C, "sigmoid"))
    compare_steps(layers, dtype, SGD(0.02), LOSSES[loss], weight=weight)


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(0.1), SoftmaxCrossEntropy(0.0, (1.0, 2, 3, 0.5, 1, 1))])
def test_recorded_steps_of_smoothed_and_weighted_classes_equal_the_references(loss, dtype):
    compare_steps((Dense(24, tanh), Dense(C)), dtype, loss=loss)


@pytest.mark.parametrize("name", USERS_OWN)
def test_recorded_steps_with_a_users_own_parts_equal_the_references(name, dtype):
    layers, optimizer, loss = USERS_OWN[name]
    compare_steps(layers, dtype, optimizer, loss)


class Typed(Doubled):
    """A layer that requires arrays of the network's type."""

    def forward(self, backend, p, x, buf):
        assert x.dtype.itemsize == buf.a.dtype.itemsize == 2
        return super().forward(backend, p, x, buf)

    def backward(self, backend, p, da, buf):
        assert da.dtype.itemsize == 2
        return super().backward(backend, p, da, buf)


def test_users_layers_receive_16_bit_arrays(dtype):
    layers = (Dense(8, relu), Typed(), Typed(), Dense(4), Typed())
    network, _ = networks(layers, dtype)
    loss, (x, y) = LOSSES["mean_squared_error"], batch(dtype, 8)
    y, ws = np.zeros((8, 4), np.float32), network.workspace(8)
    train_step(network, loss, SGD(0.1), x, y, ws, checked=True)
    require_recorded(ws)
    scratch = network.workspace(8, training=False)
    assert network.forward(x, scratch).dtype == floating(dtype)
    require_recorded(scratch)


@recordable
def two_updates(network, loss, optimizer, x, y, ws, sample_weight=None, lr=None, checked=False):
    for _ in range(2):
        value = loss(network.backend, network.forward(x, ws), y, ws.dz, sample_weight, checked)
        network.backward(ws.dz, ws)
        optimizer.step(network.params, lr)
    return value


@pytest.mark.parametrize("optimizer", [SGD(1.0), Averaged(1.0)], ids=["loop", "call"])
def test_second_update_of_one_step_reads_the_copy_that_the_first_has_written(optimizer, dtype):
    pair = networks((Dense(24, tanh), Dense(C)), dtype)
    x, y = batch(dtype, 50)
    scratch = [network.workspace(50) for network in pair]
    for network, ws in zip(pair, scratch, strict=True):
        two_updates(network, softmax_cross_entropy, optimizer, x, y, ws, checked=True)
    require_recorded(scratch[0])
    require_near(*pair, dtype)


@pytest.mark.parametrize("kind", ["another type", "another order"])
def test_rows_of_another_type_or_order_are_converted_and_recorded(kind, dtype):
    network, other = networks((Dense(24, tanh), Dense(C)), dtype)
    x = np.random.default_rng(0).standard_normal((4, N_IN)).astype(np.float32)
    x = x if kind == "another type" else np.asfortranarray(x.astype(floating(dtype)))
    y, scratch, optimizer = np.zeros(4, np.int32), [each.workspace(4) for each in (network, other)], SGD(0.0)
    values = [
        float(train_step(each, softmax_cross_entropy, optimizer, x, y, ws, checked=True))
        for each, ws in zip((network, other), scratch, strict=True)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    require_recorded(scratch[0])


def test_share_of_a_micro_batch_is_recorded(dtype):
    pair, share = networks((Dense(24, tanh), Dense(C)), dtype), np.array([0.3])
    x, y = batch(dtype, 50)
    for network in pair:
        ws = network.workspace(50)
        for _ in range(2):
            gradient(network, softmax_cross_entropy, None, x, y, ws, None, share, True)
    require_near(*pair, dtype)


# ---------------------------------------------------------------------- updates


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS.values(), Patient(0.1, clip_norm=1.0)], ids=str)
def test_recorded_updates_write_theta_and_its_copy(optimizer, dtype, threads):
    """The updates get equal gradients, because Adam turns the sign of a rounding error into a whole step."""
    pair = networks((Dense(300, relu), BatchNorm(), Dense(C)), dtype)
    rng = np.random.default_rng(2)
    scratch = [network.workspace(4) for network in pair]
    for _ in range(3):
        g = rng.standard_normal(len(pair[0].params.theta)).astype(np.float32)
        for network, ws in zip(pair, scratch, strict=True):
            network.params.grad[:] = g * (
                1 if network.params.loss_scale is None else network.params.loss_scale[0]
            )
            update(network, None, optimizer, None, None, ws, None, None, True)
    require_recorded(scratch[0])
    states = [vars(optimizer.state(network.params)) for network in pair]
    for name, want in states[1].items():
        assert_close(states[0][name], want, 1e-6, name, scale=max(np.abs(want).max(initial=0), 1e-30))
    assert_close(pair[0].params.theta, pair[1].params.theta, 1e-6, "theta")
    for network in pair:
        require_rounded_shadow(network)


@pytest.mark.parametrize(
    "optimizer",
    [
        AdamW(l2=0.1, clip_norm=0.2, clip_value=0.5, ema=0.9),
        Nadam(),
        SGD(0.1, momentum=0.9),
        Lion(),
        Patient(0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_update_of_a_gradient_that_is_not_finite_is_skipped(optimizer, bad, threads):
    if "float16" not in recorded_step.RECORDED:
        pytest.skip("this processor has no instructions for float16")
    (network, other), rng = networks((Dense(100, relu), Dense(C)), "float16"), np.random.default_rng(2)
    pair = [(each, each.workspace(4)) for each in (network, other)]
    n = len(network.params.theta)
    for overflows in (True, False, True, False):
        g = (1000 * rng.standard_normal(n)).astype(np.float32)
        g[n // 2] = bad if overflows else 1.0
        params, state = network.params, optimizer.state(network.params)
        vectors = [
            params.theta,
            params.shadow,
            params.step,
            *(v for k, v in vars(state).items() if k != "mean"),
        ]
        before = [vector.copy() for vector in vectors]
        for each, ws in pair:
            each.params.grad[:] = g
            update(each, None, optimizer, None, None, ws, None, None, True)
        equal = [np.array_equal(vector, old) for vector, old in zip(vectors, before, strict=True)]
        assert all(equal) if overflows else not any(equal[:3])
        assert network.params.loss_scale.tolist() == other.params.loss_scale.tolist()
        assert_close(network.params.theta, other.params.theta, 1e-6)
        require_rounded_shadow(network)
    require_recorded(pair[0][1])


@pytest.mark.parametrize("start", [[2.0**10, 1998.0], [2.0**24, 1999.0], [1.0, 5.0]], ids=str)
@pytest.mark.parametrize("bad", [False, True])
def test_loss_scale_grows_and_shrinks_as_in_the_reference(start, bad):
    if "float16" not in recorded_step.RECORDED:
        pytest.skip("this processor has no instructions for float16")
    pair, optimizer = networks((Dense(C),), "float16"), SGD(0.1, clip_norm=1.0)
    for network in pair:
        network.params.loss_scale[:] = start
        ws = network.workspace(4)
        for _ in range(3):
            network.params.grad[:] = np.nan if bad else 1.0
            update(network, None, optimizer, None, None, ws, None, None, True)
    scales, controls = (
        [p.tolist() for p in each]
        for each in (
            (network.params.loss_scale for network in pair),
            (optimizer.state(network.params).control for network in pair),
        )
    )
    assert scales[0] == scales[1] and controls[0] == pytest.approx(controls[1])


def test_overflow_in_a_recorded_step_skips_it():
    if "float16" not in recorded_step.RECORDED:
        pytest.skip("this processor has no instructions for float16")
    (network, _), optimizer = networks((Dense(40, relu), Dense(C)), "float16", S=2.0**40), Adam()
    ws, (x, y) = network.workspace(32), batch("float16", 32)
    before = network.params.theta.copy()
    for halved in (2.0**39, 2.0**38):
        assert np.isfinite(train_step(network, softmax_cross_entropy, optimizer, x, y, ws, checked=True))
        assert network.params.loss_scale.tolist() == [halved, 0] and network.params.step[0] == 0
    np.testing.assert_array_equal(network.params.theta, before)
    network.params.loss_scale[0] = 2.0**10
    train_step(network, softmax_cross_entropy, optimizer, x, y, ws, checked=True)
    assert network.params.step[0] == 1 and (network.params.theta != before).any()
    require_rounded_shadow(network)
    require_recorded(ws)


# ---------------------------------------------------------------------- predictions


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 64, 300])
@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_recorded_predictions_equal_the_references(layers, rows, dtype):
    network, other = networks(layers, dtype)
    x, _ = batch(dtype, rows)
    (ws, scratch) = (each.workspace(rows, training=False) for each in (network, other))
    for _ in range(2):
        got, want = network.forward(x, ws), other.forward(x, scratch)
        assert got.dtype == floating(dtype)
        assert_close(got, want, tolerance("output16", floating(dtype)))
        assert np.count_nonzero(got != want) <= UNEQUAL * got.size + 3
    require_recorded(ws)


def test_prediction_reads_parameters_that_were_written_after_the_recording(dtype):
    network, other = networks((Dense(24, relu), LayerNorm(), Dropout(0.1), Dense(C)), dtype)
    (ws, scratch), (x, _) = (each.workspace(9, training=False) for each in (network, other)), batch(dtype, 9)
    network.forward(x, ws)
    for each in (network, other):
        each.params.assign({name: 2 * value for name, value in each.params.to_host().items()})
    assert_close(network.forward(x, ws), other.forward(x, scratch), tolerance("output16", floating(dtype)))


def test_float16_is_not_recorded_without_its_instructions(monkeypatch):
    monkeypatch.setattr(recorded_step, "RECORDED", ("float32", "float64", "bfloat16"))
    network, _ = networks((Dense(C),), "float16")
    ws, (x, y) = network.workspace(8), batch("float16", 8)
    train_step(network, softmax_cross_entropy, SGD(0.1), x, y, ws, checked=True)
    assert [each.reason for each in ws.recordings] == ["this processor has no instructions for float16"]
