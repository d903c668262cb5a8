"""Recorded steps with every kind of targets and weights equal plain steps."""

import itertools

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    Adam,
    BatchNorm,
    Dense,
    Network,
    binary_cross_entropy_with_logits,
    mean_squared_error,
    relu,
    softmax_cross_entropy,
    train_step,
)
from ffnn_gpu.backends.choice import CompiledBackend
from ffnn_gpu.errors import ShapeError, WorkspaceError
from ffnn_gpu.nn.layers import LogSoftmax, Softmax
from ffnn_gpu.nn.losses import SoftmaxCrossEntropy, cross_entropy
from ffnn_gpu.training.step import recordable

pytest.importorskip("llvmlite")
_step = train_step.__wrapped__  # a plain step, never recorded
N_IN, C, B = 20, 6, 128
PLAIN = (Dense(32, relu), Dense(C))
rng = np.random.default_rng(5)
X, INDICES = rng.standard_normal((B, N_IN)), rng.integers(0, C, B)
DISTRIBUTIONS, WEIGHT = rng.dirichlet(np.ones(C), B), rng.random(B)
CLASS_WEIGHT = tuple(rng.random(C))
SOFTMAX_LOSSES = {
    f"smoothing {smoothing}, class weights {v is not None}": SoftmaxCrossEntropy(smoothing, v)
    for smoothing, v in itertools.product((0.0, 0.1), (None, CLASS_WEIGHT))
}


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", str(request.param))
    return request.param


def made(layers, dtype="float64", rows=B):
    network = Network(N_IN, list(layers), CompiledBackend(), dtype)
    return network, network.workspace(rows)


def reasons(ws):
    return [recording.reason for recording in ws.recordings]


def numbers(network, optimizer):
    """Return copies of all numbers that last, besides ∇θ."""
    kept = {name: getattr(network.params, name) for name in ("theta", "state", "step")}
    state = network.params.optimizer_states.get(optimizer)
    kept |= {} if state is None else vars(state)
    return {name: np.array(value) for name, value in kept.items()}


def cast(array, dtype):
    return array.astype(dtype) if array is not None and array.dtype.kind == "f" else array


def trained(recorded, layers, loss, y, dtype="float64", weight=None, checked=True):
    """Return losses, θ and ∇θ after some steps, and the reasons for not recording them."""
    network, ws = made(layers, dtype)
    x, optimizer = X.astype(dtype), SGD(0.02)
    calls = []

    def counted(*args):
        calls.append(args)
        return _step(*args)

    run = recordable(counted) if recorded else _step
    losses = [run(network, loss, optimizer, x, y, ws, weight, None, checked) for _ in range(3)]
    assert len(calls) == recorded  # the call that was recorded; one more is a replay that was refused
    return (np.array(losses), network.params.theta, network.params.grad), reasons(ws)


def require_equal_to_plain(layers, loss, y, dtype, weight=None, checked=True):
    eps = np.finfo(dtype).eps
    found, why = trained(True, layers, loss, y, dtype, weight, checked)
    assert why == [""]
    expected, _ = trained(False, layers, loss, y, dtype, weight, checked)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, 0, 32 * eps * np.abs(b).max())


# ---------------------------------------------------------------------- the softmax family


@pytest.mark.parametrize("loss", SOFTMAX_LOSSES.values(), ids=SOFTMAX_LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["int32", "int64", "distributions"])
def test_recorded_cross_entropy_of_logits_equals_plain(loss, weighted, kind, dtype, threads):
    y = DISTRIBUTIONS.astype(dtype) if kind == "distributions" else INDICES.astype(kind)
    require_equal_to_plain(PLAIN, loss, y, dtype, cast(WEIGHT, dtype) if weighted else None)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("hard", [False, True])
def test_recorded_cross_entropy_of_probabilities_equals_plain(hard, weighted, dtype, threads):
    y = (np.eye(C)[INDICES] if hard else DISTRIBUTIONS).astype(dtype)
    weight = cast(WEIGHT, dtype) if weighted else None
    require_equal_to_plain((*PLAIN, Softmax()), cross_entropy, y, dtype, weight)


@pytest.mark.parametrize("layer", [Softmax(), LogSoftmax()], ids=repr)
def test_recorded_softmax_layer_equals_plain(layer, dtype, threads):
    y = DISTRIBUTIONS.astype(dtype)
    require_equal_to_plain((*PLAIN, layer), mean_squared_error, y, dtype)
    require_equal_to_plain((Dense(8), layer, Dense(C)), mean_squared_error, y, dtype)
    network, _ = made((*PLAIN, layer), dtype)
    scratch, ws = (network.workspace(B, training=False) for _ in range(2))
    x = X.astype(dtype)
    np.testing.assert_allclose(network.forward(x, ws), network.run(x, scratch), 16 * np.finfo(dtype).eps)
    assert reasons(ws) == [""]


@pytest.mark.parametrize("kind", ["int64", "distributions"])
@pytest.mark.parametrize("loss", SOFTMAX_LOSSES.values(), ids=SOFTMAX_LOSSES)
def test_gradient_of_recorded_cross_entropy_does_not_depend_on_the_threads(loss, kind, monkeypatch):
    y, found = INDICES if kind == "int64" else DISTRIBUTIONS, []
    for number in ("1", "2", "3"):
        monkeypatch.setenv("FFNN_GPU_THREADS", number)
        found.append(trained(True, PLAIN, loss, y, weight=WEIGHT)[0])
    for losses, theta, grad in found[1:]:
        np.testing.assert_allclose(losses, found[0][0], 1e-14)
        np.testing.assert_array_equal(theta, found[0][1])
        np.testing.assert_array_equal(grad, found[0][2])


@pytest.mark.parametrize("loss", SOFTMAX_LOSSES.values(), ids=SOFTMAX_LOSSES)
@pytest.mark.parametrize("bad", [-1, C, 2**30])
def test_class_out_of_range_changes_nothing_in_any_loss(loss, bad, threads):
    network, ws = made(PLAIN)
    optimizer = Adam()
    for y in (INDICES, np.where(INDICES == 2, bad, INDICES)):
        before = network.params.theta.copy(), optimizer.state(network.params).m.copy()
        if y is INDICES:
            train_step(network, loss, optimizer, X, y, ws, checked=True)
            continue
        with pytest.raises(IndexError):
            train_step(network, loss, optimizer, X, y, ws, checked=True)
        np.testing.assert_array_equal(network.params.theta, before[0])
        np.testing.assert_array_equal(optimizer.state(network.params).m, before[1])
    assert reasons(ws) == [""] and not ws.recordings[0].table.failed[0]


# ---------------------------------------------------------------------- unchecked targets and weights

ONE = (Dense(16, relu), Dense(1))
NUMBERS = rng.standard_normal((B, C))
UNCHECKED = {
    "classes": (PLAIN, softmax_cross_entropy, INDICES),
    "int32 classes": (PLAIN, softmax_cross_entropy, INDICES.astype("int32")),
    "bytes": (PLAIN, softmax_cross_entropy, INDICES.astype("uint8")),
    "floating classes": (PLAIN, softmax_cross_entropy, INDICES.astype("float64")),
    "classes in every other place": (PLAIN, softmax_cross_entropy, np.repeat(INDICES, 2)[::2]),
    "listed classes": (PLAIN, softmax_cross_entropy, INDICES.tolist()),
    "smoothed": (PLAIN, SoftmaxCrossEntropy(0.1, CLASS_WEIGHT), INDICES),
    "distributions": (PLAIN, softmax_cross_entropy, DISTRIBUTIONS),
    "classes of probabilities": ((*PLAIN, Softmax()), cross_entropy, INDICES),
    "numbers": (PLAIN, mean_squared_error, NUMBERS),
    "float32 numbers": (PLAIN, mean_squared_error, NUMBERS.astype("float32")),
    "columns first": (PLAIN, mean_squared_error, np.asfortranarray(NUMBERS)),
    "listed numbers": (PLAIN, mean_squared_error, NUMBERS.tolist()),
    "one column": (ONE, mean_squared_error, NUMBERS[:, 0]),
    "whole numbers": (ONE, mean_squared_error, INDICES),
    "odds": (PLAIN, binary_cross_entropy_with_logits, NUMBERS > 0),
    "rows themselves": ((Dense(8), Dense(N_IN)), mean_squared_error, X),
}
WEIGHTS = {
    "no weights": None, "float64": WEIGHT, "float32": WEIGHT.astype("float32"), "list": [1, 2] * (B // 2),
}  # fmt: skip
WRONG = {
    "class too large": (PLAIN, softmax_cross_entropy, INDICES, np.where(INDICES == 2, C, INDICES)),
    "class below 0": (PLAIN, softmax_cross_entropy, INDICES, INDICES - 1),
    "part of a class": (PLAIN, softmax_cross_entropy, INDICES + 0.0, INDICES + 0.5),
    "no distribution": (PLAIN, softmax_cross_entropy, DISTRIBUTIONS, 2 * DISTRIBUTIONS),
    "class of probabilities": ((*PLAIN, Softmax()), cross_entropy, INDICES, INDICES + 1),
    "not finite": (PLAIN, mean_squared_error, NUMBERS, np.where(NUMBERS > 1, np.nan, NUMBERS)),
    "odds": (PLAIN, binary_cross_entropy_with_logits, NUMBERS * 0, NUMBERS),
    "fewer columns": (PLAIN, mean_squared_error, NUMBERS, NUMBERS[:, 1:]),
    "fewer rows": (PLAIN, mean_squared_error, NUMBERS, NUMBERS[1:]),
    "strings": (PLAIN, softmax_cross_entropy, INDICES, np.array(["a"] * B)),
    "lists of unequal lengths": (PLAIN, mean_squared_error, NUMBERS.tolist(), [[1.0], [1.0, 2.0]]),
}


@pytest.mark.parametrize(("layers", "loss", "y"), UNCHECKED.values(), ids=UNCHECKED)
@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
def test_unchecked_targets_and_weights_are_recorded(layers, loss, y, weight, dtype):
    require_equal_to_plain(layers, loss, y, dtype, weight, checked=False)


@pytest.mark.parametrize(("layers", "loss", "good", "bad"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("warm", [0, 2])
def test_wrong_targets_raise_as_in_a_plain_step_and_change_nothing(layers, loss, good, bad, warm):
    (network, ws), optimizer = made((BatchNorm(), *layers)), Adam(ema=0.9)
    for _ in range(warm):
        train_step(network, loss, optimizer, X, good, ws)
    before = numbers(network, optimizer)
    other, scratch = made((BatchNorm(), *layers))
    with pytest.raises(Exception) as expected:
        _step(other, loss, optimizer, X, bad, scratch)
    with pytest.raises(type(expected.value)) as found:
        train_step(network, loss, optimizer, X, bad, ws)
    assert str(found.value) == str(expected.value)
    for name, value in numbers(network, optimizer).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    train_step(network, loss, optimizer, X, good, ws)
    assert reasons(ws) == [""]


@pytest.mark.parametrize(
    "bad",
    [-WEIGHT, WEIGHT * np.nan, WEIGHT[1:], WEIGHT[:, None], np.array(["a"] * B), WEIGHT[1:].tolist(), "a"],
    ids=["negative", "not a number", "too few", "matrix", "strings", "short list", "text"],
)
@pytest.mark.parametrize("y", [INDICES, DISTRIBUTIONS], ids=["classes", "distributions"])
def test_wrong_weights_raise_as_in_a_plain_step_and_change_nothing(y, bad):
    (network, ws), optimizer = made((BatchNorm(), *PLAIN)), Adam()
    train_step(network, softmax_cross_entropy, optimizer, X, y, ws, WEIGHT)
    before = numbers(network, optimizer)
    other, scratch = made(PLAIN)
    with pytest.raises(Exception) as expected:
        _step(other, softmax_cross_entropy, optimizer, X, y, scratch, bad)
    with pytest.raises(type(expected.value)) as found:
        train_step(network, softmax_cross_entropy, optimizer, X, y, ws, bad)
    assert str(found.value) == str(expected.value)
    for name, value in numbers(network, optimizer).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_wrong_rows_are_reported_before_wrong_targets():
    network, ws = made(PLAIN)
    for x, message in ((X[:, 1:], "columns"), (X[1:], "rows"), (X[0], "shape")):
        with pytest.raises(ShapeError, match=f"x has .*{message}"):
            train_step(network, mean_squared_error, SGD(0.1), x, NUMBERS[:, 1:], ws)


def test_unchecked_targets_in_a_workspace_for_predictions_raise():
    network, _ = made(PLAIN)
    with pytest.raises(WorkspaceError, match="training=False"):
        train_step(network, mean_squared_error, SGD(0.1), X, NUMBERS, network.workspace(B, training=False))
