"""fit performs train_step on every minibatch; its settings, callbacks and exits behave as documented."""

import functools
import inspect
import os
import signal
import sys
import threading
import time
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest

from ffnn_gpu import fit, train_step
from ffnn_gpu.checkpoints.checkpoint import load
from ffnn_gpu.data.minibatches import Order
from ffnn_gpu.data.readers import read
from ffnn_gpu.errors import (
    ConfigurationError,
    DataError,
    DivergedError,
    IncompatibleCheckpointError,
    ShapeError,
)
from ffnn_gpu.evaluation.evaluate import evaluate
from ffnn_gpu.evaluation.metrics import get_metric, get_metrics
from ffnn_gpu.nn.activations import relu, tanh
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual
from ffnn_gpu.nn.losses.standard import SoftmaxCrossEntropy, huber, mean_squared_error, softmax_cross_entropy
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.schedules import Cosine, Schedule, StepDecay
from ffnn_gpu.optim.optimizers import SGD, Adam, AdamW
from ffnn_gpu.testing import assert_close
from ffnn_gpu.testing.strict_device import StrictBackend
from ffnn_gpu.training.callbacks import BestWeights, Callback, Checkpoints, EarlyStopping, ReduceOnPlateau

rng = np.random.default_rng(3)
X = rng.normal(size=(50, 4))
LABELS = rng.integers(0, 3, 50)
NUMBERS = X @ rng.normal(size=(4, 3)) + 0.1 * rng.normal(size=(50, 3))


class After(Callback):
    """Do something after update number `step` (counted from 1), or after the row of epoch `epoch`."""

    def __init__(self, action, step=None, epoch=None):
        self.action, self.step, self.epoch = action, step, epoch

    def after_step(self, run):
        if run.steps_done == self.step:
            self.action(run)

    def after_epoch(self, run, row):
        if run.epoch == self.epoch:
            self.action(run)


class Recorder(Callback):
    """Records θ and the learning rate after every update."""

    def start(self, run):
        self.thetas, self.rates = [], []

    def after_step(self, run):
        self.thetas.append(np.array(run.network.backend.to_host(run.network.params.theta)))
        self.rates.append(
            float(run.network.backend.to_host(run.optimizer.state(run.network.params).scalars)[1])
        )


def network_of(backend="numpy", *layers, seed=0, dtype="float64"):
    return Network(4, layers or [Dense(8, tanh), Dense(3)], backend, dtype, seed)


def quiet(network, loss, optimizer, data, **settings):
    return fit(network, loss, optimizer, data, **({"verbose": 0, "epochs": 3, "batch_size": 16} | settings))


def interrupt(run):
    os.kill(os.getpid(), signal.SIGINT)


def fail(run):
    raise ZeroDivisionError("a callback failed")


def numbers(network):
    return network.params.to_host()


def assert_same_numbers(a, b):
    for (name, x), (other, y) in zip(numbers(a).items(), numbers(b).items(), strict=True):
        assert name == other
        np.testing.assert_array_equal(x, y, err_msg=name)


# ---------------------------------------------------------------------- the step


def test_train_step_is_the_hand_written_formula_on_a_linear_network(backend):
    network = network_of(backend, Dense(3))
    W, b, lr = numbers(network)["0.W"], numbers(network)["0.b"], 0.1
    value = train_step(
        network,
        mean_squared_error,
        SGD(lr),
        backend.asarray(X),
        backend.asarray(NUMBERS),
        network.workspace(50),
    )
    e = X @ W + b - NUMBERS
    # The loss is computed before the update.
    np.testing.assert_allclose(float(value), (e * e).mean(), rtol=1e-14)
    np.testing.assert_allclose(numbers(network)["0.W"], W - lr * X.T @ (2 * e / e.size), rtol=1e-12)
    np.testing.assert_allclose(numbers(network)["0.b"], b - lr * (2 * e / e.size).sum(axis=0), rtol=1e-12)
    assert int(network.params.step[0]) == 1


def test_train_step_with_weights_equals_rows_repeated(backend):
    w = rng.integers(0, 4, 50)
    weighted, repeated = network_of(backend), network_of(backend)
    x, y = np.repeat(X, w, axis=0), np.repeat(LABELS, w)
    a = train_step(
        weighted,
        softmax_cross_entropy,
        SGD(0.1),
        backend.asarray(X),
        backend.asarray(LABELS),
        weighted.workspace(50),
        backend.asarray(w.astype(float)),
    )
    b = train_step(
        repeated,
        softmax_cross_entropy,
        SGD(0.1),
        backend.asarray(x),
        backend.asarray(y),
        repeated.workspace(len(x)),
    )
    np.testing.assert_allclose(float(a), float(b), rtol=1e-13)
    for name, value in numbers(weighted).items():
        assert_close(value, numbers(repeated)[name], 1e-13, name)


def test_fit_is_train_step_on_the_minibatches_of_the_order(backend):
    by_fit, by_hand = network_of(backend), network_of(backend)
    history = quiet(by_fit, softmax_cross_entropy, SGD(0.1), (X, LABELS), epochs=2, batch_size=16, seed=9)
    optimizer, ws, means = SGD(0.1), by_hand.workspace(16), []
    for epoch in range(2):
        order, total = Order(16, seed=9).permutation(50, epoch), 0.0
        for start in range(0, 50, 16):
            rows = order[start : start + 16]  # the last one has 2 rows
            x, y = backend.asarray(X[rows]), backend.asarray(LABELS[rows].astype(np.int32))
            total += len(rows) * float(
                train_step(by_hand, softmax_cross_entropy, optimizer, x, y, ws.first(len(rows)))
            )
        means.append(total / 50)
    assert_same_numbers(by_fit, by_hand)
    np.testing.assert_allclose(history["loss"], means, rtol=1e-14)
    assert int(by_fit.params.step[0]) == 8


# ---------------------------------------------------------------------- fit learns


def test_documented_example_runs():
    x, y = read("digits").x, read("digits").y
    network = Network(
        64, [Dense(128, relu), Dropout(0.1), Dense(10)], device="numpy", dtype="float32", seed=0
    )
    history = fit(
        network,
        softmax_cross_entropy,
        Adam(1e-3),
        (x / 16, y),
        epochs=8,
        batch_size=64,
        validation=0.1,
        metrics=["accuracy"],
        early_stopping=5,
        verbose=0,
    )
    assert len(history) == 8 and history.interrupted is None
    assert all(later < earlier for earlier, later in zip(history["loss"], history["loss"][1:], strict=False))
    assert history["val_accuracy"][-1] > 0.9
    assert history["epoch"] == list(range(1, 9)) and set(history["lr"]) == {1e-3}
    assert all(seconds > 0 for seconds in history["seconds"])
    assert network.predict(x[:3] / 16).shape == (3, 10)


def test_fit_on_digits_decreases_the_loss(backend):
    data = read("digits")
    network = Network(64, [Dense(32, relu), Dense(10)], backend, seed=1)
    history = quiet(
        network, softmax_cross_entropy, SGD(0.1, momentum=0.9), (data.x[:600] / 16, data.y[:600]), epochs=3
    )
    assert history["loss"][2] < history["loss"][1] < history["loss"][0]


def test_full_batch_gradient_descent_reaches_the_least_squares_solution():
    network = network_of("numpy", Dense(3))
    quiet(network, mean_squared_error, SGD(0.5), (X, NUMBERS), epochs=400, batch_size=100)
    A = np.column_stack([X, np.ones(50)])
    solution = np.linalg.lstsq(A, NUMBERS, rcond=None)[0]
    np.testing.assert_allclose(
        np.vstack([numbers(network)["0.W"], numbers(network)["0.b"]]), solution, atol=1e-10
    )


# ---------------------------------------------------------------------- accumulation


@pytest.mark.parametrize(
    "loss",
    [
        softmax_cross_entropy,
        SoftmaxCrossEntropy(0.1, (1.0, 7.0, 0.3)),
        mean_squared_error,
        huber.with_alpha(0.5),
    ],
    ids=["cross-entropy", "class-weighted", "mse", "huber"],
)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [2, 3, 5, 16, 40])
def test_accumulated_gradient_equals_the_gradient_of_the_whole_batch(loss, weighted, k):
    y = NUMBERS if loss.__class__.__name__ == "PointwiseLoss" else LABELS
    w = rng.random(50) * (rng.random(50) > 0.3) if weighted else None
    layers = [Dense(8, relu), Dropout(0.3), LayerNorm(), Dropout(0.2), Dense(3)]
    whole, parts = network_of("numpy", *layers), network_of("numpy", *layers)
    settings = {"sample_weight": w, "epochs": 2, "batch_size": 16, "seed": 4}
    a = quiet(whole, loss, SGD(0.1, momentum=0.9), (X, y), **settings)
    b = quiet(parts, loss, SGD(0.1, momentum=0.9), (X, y), **settings, accumulate=k)
    np.testing.assert_allclose(b["loss"], a["loss"], rtol=1e-12)
    for name, value in numbers(parts).items():
        assert_close(value, numbers(whole)[name], 1e-12, name)


def test_accumulated_gradient_is_computed_in_the_type_of_theta():
    """Numbers of rows are ints: a float64 would round differently and make a float64 copy of ∇θ."""
    network, twin = (Network(4, [Dense(8, relu), Dense(3)], "numpy", "float32") for _ in range(2))
    settings = {"epochs": 1, "batch_size": 50, "shuffle": False, "accumulate": 3}
    quiet(network, softmax_cross_entropy, SGD(0.1), (X, LABELS), **settings)
    params, total = twin.params, np.zeros_like(twin.params.theta)
    x, ws = X.astype("float32"), twin.workspace(17)
    for rows in (slice(0, 17), slice(17, 34), slice(34, 50)):
        part = ws.first(rows.stop - rows.start)
        softmax_cross_entropy(twin.backend, twin.forward(x[rows], part), LABELS[rows], dz=part.dz)
        twin.backward(part.dz, part)
        total += np.float32(rows.stop - rows.start) * params.grad
    params.grad[:] = total * np.float32(1 / 50)
    SGD(0.1).step(params)
    np.testing.assert_array_equal(network.params.theta, params.theta)


def test_accumulation_needs_no_float64_copy_of_the_gradient():
    """Micro-batches need room for Σ_j N_j ∇θ_j and for one term of it, both float32."""
    peaks, data = [], (np.zeros((8, 1000), "float32"), np.zeros(8, int))
    for accumulate in (1, 4):
        network = Network(1000, [Dense(500), Dense(3)], "numpy", "float32")
        quiet(network, softmax_cross_entropy, SGD(0.1), data, epochs=1, accumulate=accumulate)
        tracemalloc.start()
        quiet(network, softmax_cross_entropy, SGD(0.1), data, epochs=1, accumulate=accumulate)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 2.5 * network.params.theta.nbytes


def test_accumulation_runs_on_every_backend(backend):
    whole, parts = network_of(backend), network_of(backend)
    quiet(whole, softmax_cross_entropy, Adam(1e-2), (X, LABELS), class_weight="balanced")
    quiet(parts, softmax_cross_entropy, Adam(1e-2), (X, LABELS), class_weight="balanced", accumulate=3)
    for name, value in numbers(parts).items():
        assert_close(value, numbers(whole)[name], 1e-9, name)  # Adam divides by √v, which amplifies rounding


class Doubled(SoftmaxCrossEntropy):
    """Counts each row twice, in whole numbers."""

    def total_weight(self, backend, y, sample_weight):
        return 2 * len(y)


class Doubling:
    """The same for any loss."""

    total_weight = Doubled.total_weight


class AlsoDoubled(Doubling, SoftmaxCrossEntropy):
    pass


@pytest.mark.parametrize("loss", [Doubled, AlsoDoubled])
def test_accumulation_uses_the_total_weight_of_a_subclass(loss):
    whole, parts = network_of(), network_of()
    quiet(whole, SoftmaxCrossEntropy(), SGD(0.1), (X, LABELS), epochs=2)
    quiet(parts, loss(), SGD(0.1), (X, LABELS), epochs=2, accumulate=3)
    for name, value in numbers(parts).items():
        assert_close(value, numbers(whole)[name], 1e-12, name)


def test_row_offset_of_the_workspace_is_zero_after_accumulation():
    rows = []
    quiet(
        network_of(),
        softmax_cross_entropy,
        SGD(),
        (X, LABELS),
        epochs=1,
        accumulate=3,
        callbacks=[After(lambda run: rows.append(run.ws.stream.row), step=1)],
    )
    assert rows == [0]


def test_accumulated_micro_batches_need_less_workspace():
    sizes = []
    for k in (1, 8):
        quiet(
            network_of(),
            softmax_cross_entropy,
            SGD(),
            (X, LABELS),
            epochs=1,
            batch_size=48,
            accumulate=k,
            callbacks=[After(lambda run: sizes.append(run.ws.nbytes), step=1)],
        )
    assert sizes[0] == 8 * sizes[1]


# ---------------------------------------------------------------------- means, weights


def test_epoch_mean_is_weighted_by_samples():
    losses = []
    network = network_of("numpy", Dense(3))
    history = quiet(
        network,
        mean_squared_error,
        SGD(0.0),
        (X, NUMBERS),
        epochs=1,
        batch_size=16,
        callbacks=[After(lambda run: losses.append(1), epoch=1)],
    )
    whole = ((network.predict(X) - NUMBERS) ** 2).mean()
    # θ did not change, so this is the mean over all rows.
    np.testing.assert_allclose(history["loss"][0], whole, rtol=1e-13)
    weight = rng.random(50)
    history = quiet(
        network, mean_squared_error, SGD(0.0), (X, NUMBERS), epochs=1, batch_size=16, sample_weight=weight
    )
    whole = (weight * ((network.predict(X) - NUMBERS) ** 2).mean(axis=1)).sum() / weight.sum()
    np.testing.assert_allclose(history["loss"][0], whole, rtol=1e-13)


WEIGHED = ["accuracy", "balanced_accuracy", "f1_macro", "top_k_accuracy"]


def error_of_row_0(y, prediction):
    return float(y[0] != prediction[0])


@pytest.mark.parametrize("held_out", ["rows", "a fraction"])
def test_validation_metrics_are_those_of_evaluate_with_the_same_weights(backend, held_out):
    network, weight = network_of(backend), rng.random(50) * (rng.random(50) > 0.3)
    validation = (X, LABELS, weight) if held_out == "rows" else 0.4
    kept = []
    history = quiet(
        network,
        softmax_cross_entropy,
        Adam(1e-2),
        (X, LABELS),
        epochs=2,
        validation=validation,
        sample_weight=weight,
        metrics=[*WEIGHED[:3], functools.partial(get_metric("top_k_accuracy"), k=2), error_of_row_0],
        callbacks=[After(lambda run: kept.append(run.held_out), epoch=2)],
    )
    rows, row = kept[0], history.rows[-1]
    y, z, w = (
        np.asarray(network.backend.to_host(each))
        for each in (rows.y, network.predict(rows.x[:]), rows.weight)
    )
    assert w.min() != w.max()
    for name in WEIGHED[:3]:
        np.testing.assert_allclose(row[f"val_{name}"], get_metric(name)(y, z.argmax(1), w), rtol=1e-12)
    np.testing.assert_allclose(
        row["val_top_k_accuracy"], get_metric("top_k_accuracy")(y, z, 2, w), rtol=1e-12
    )
    assert row["val_error_of_row_0"] == float(y[0] != z[0].argmax())


def test_metrics_of_training_rows_use_sample_weights_and_no_class_weights(backend):
    network, weight = network_of(backend), rng.random(50)
    settings = {"epochs": 1, "metrics": "accuracy", "sample_weight": weight, "class_weight": {0: 9.0}}
    history = quiet(network, softmax_cross_entropy, SGD(0.0), (X, LABELS), **settings)
    right = np.asarray(network.backend.to_host(network.predict(X))).argmax(1) == LABELS
    np.testing.assert_allclose(history["accuracy"][0], (right * weight).sum() / weight.sum(), rtol=1e-12)


def test_early_stopping_watches_the_weighted_metric():
    network, weight = network_of("numpy"), np.zeros(50)
    weight[:5] = 1
    stopping = EarlyStopping(1, "val_accuracy")
    history = quiet(
        network,
        softmax_cross_entropy,
        SGD(0.1),
        (X, LABELS),
        epochs=30,
        validation=(X, LABELS, weight),
        metrics="accuracy",
        early_stopping=stopping,
    )
    best = evaluate(network, softmax_cross_entropy, (X[:5], LABELS[:5]), metrics="accuracy")["accuracy"]
    assert max(history["val_accuracy"]) == best


def test_last_partial_batch_is_divided_by_its_own_size():
    network, recorder = network_of("numpy", Dense(3)), Recorder()
    W = numbers(network)["0.W"]
    quiet(
        network,
        mean_squared_error,
        SGD(1.0),
        (X[:5], NUMBERS[:5]),
        epochs=1,
        batch_size=4,
        shuffle=False,
        callbacks=[recorder],
    )
    first = Network(4, [Dense(3)], "numpy", "float64")
    np.testing.assert_array_equal(numbers(first)["0.W"], W)
    first.params.theta[...] = recorder.thetas[0]
    e = X[4:5] @ numbers(first)["0.W"] + numbers(first)["0.b"] - NUMBERS[4:5]
    np.testing.assert_allclose(
        numbers(network)["0.W"], numbers(first)["0.W"] - X[4:5].T @ (2 * e / 3), rtol=1e-12
    )


def test_class_weight_equals_the_weights_of_the_rows(backend):
    v = np.array([1.0, 3.0, 0.25])
    by_class, by_row = network_of(backend), network_of(backend)
    w = rng.random(50)
    quiet(
        by_class,
        softmax_cross_entropy,
        SGD(0.1),
        (X, LABELS),
        class_weight={0: 1.0, 1: 3.0, 2: 0.25},
        sample_weight=w,
    )
    quiet(by_row, softmax_cross_entropy, SGD(0.1), (X, LABELS), sample_weight=w * v[LABELS])
    assert_same_numbers(by_class, by_row)


def test_balanced_class_weight_is_n_over_classes_times_count():
    by_name, by_row = network_of(), network_of()
    factor = 50 / (3 * np.bincount(LABELS))
    quiet(by_name, softmax_cross_entropy, SGD(0.1), (X, LABELS), class_weight="balanced")
    quiet(by_row, softmax_cross_entropy, SGD(0.1), (X, LABELS, factor[LABELS]))
    assert_same_numbers(by_name, by_row)


def test_rows_of_weight_zero_have_no_influence():
    x = X.copy()
    x[:10] *= 100
    w = np.r_[np.zeros(10), np.ones(40)]
    a, b = network_of(), network_of()
    quiet(a, softmax_cross_entropy, SGD(0.1), (X, LABELS), sample_weight=w)
    quiet(b, softmax_cross_entropy, SGD(0.1), (x, LABELS), sample_weight=w)
    assert_same_numbers(a, b)


@pytest.mark.parametrize("accumulate", [1, 2, 5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_of_weight_zero_is_left_out_of_every_sum(backend, smoothing, accumulate):
    loss, rule = SoftmaxCrossEntropy(smoothing, (0, 1, 3)), SGD(0.5)
    more = {"batch_size": 50, "accumulate": accumulate, "epochs": 1}
    network = network_of(backend)
    before = numbers(network)
    assert quiet(network, loss, rule, (X, 0 * LABELS), **more)["loss"] == [0.0]
    for name, value in numbers(network).items():
        np.testing.assert_array_equal(value, before[name])
    some, others = network_of(backend), network_of(backend)
    by_class, counted = np.argsort(LABELS), LABELS[np.argsort(LABELS)] > 0  # micro-batches of one class
    a = quiet(some, loss, rule, (X[by_class], LABELS[by_class]), shuffle=False, **more)
    b = quiet(others, loss, rule, (X[by_class][counted], LABELS[by_class][counted]), epochs=1, batch_size=50)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-12)
    for name, value in numbers(some).items():
        np.testing.assert_allclose(value, numbers(others)[name], rtol=1e-9, atol=1e-12)


def test_batch_of_weights_that_are_all_zero_changes_nothing():
    w = np.r_[np.zeros(16), np.ones(34)]
    for accumulate in (1, 3):
        recorder = Recorder()
        network = network_of()
        before = network.params.theta.copy()
        quiet(
            network,
            softmax_cross_entropy,
            SGD(0.1),
            (X, LABELS),
            sample_weight=w,
            shuffle=False,
            epochs=1,
            accumulate=accumulate,
            callbacks=[recorder],
        )
        np.testing.assert_array_equal(recorder.thetas[0], before)
        assert not np.array_equal(recorder.thetas[1], before)


# ---------------------------------------------------------------------- validation


def test_validation_columns_are_an_evaluation_after_the_epoch():
    network = network_of("numpy", Dense(8, tanh), Dropout(0.5), BatchNorm(), Dense(3))

    def share_of_ones(y, prediction):
        return (prediction == 1).mean()

    held_out = X[:20], LABELS[:20], rng.random(20)
    history = quiet(
        network,
        softmax_cross_entropy,
        Adam(1e-2),
        (X, LABELS),
        validation=held_out,
        metrics=["accuracy", share_of_ones],
    )
    now = evaluate(network, softmax_cross_entropy, held_out, metrics=["accuracy", share_of_ones])
    assert {name: history[f"val_{name}"][-1] for name in now} == now
    assert list(history.rows[0]) == [
        "epoch",
        "loss",
        "val_loss",
        "val_accuracy",
        "val_share_of_ones",
        "lr",
        "seconds",
        "samples_per_second",
    ]


def test_validation_fraction_is_held_out_stratified_and_not_trained_on():
    seen = {}

    def look(run):
        seen["train"], seen["held_out"] = run.data.rows, run.validation

    y = np.repeat([0, 1, 2], [30, 10, 10])
    quiet(
        network_of(), softmax_cross_entropy, SGD(), (X, y), validation=0.2, callbacks=[After(look, epoch=1)]
    )
    assert seen["train"] == 40 and np.bincount(seen["held_out"].y).tolist() == [6, 2, 2]
    rest = np.array([row not in seen["held_out"].x[:].tolist() for row in X.tolist()])
    a, b = network_of(), network_of()
    quiet(a, softmax_cross_entropy, SGD(0.1), (X, y), validation=0.2)
    quiet(b, softmax_cross_entropy, SGD(0.1), (X[rest], y[rest]))
    assert_same_numbers(a, b)


def test_memory_mapped_rows_are_never_copied_whole_by_a_validation_split(tmp_path):
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", "float32", (100_000, 40)).flush()
    x, y = np.load(tmp_path / "x.npy", mmap_mode="r"), np.zeros(100_000)
    network, settings = Network(40, [Dense(1)], "numpy"), {"validation": 0.2, "epochs": 1, "batch_size": 1000}
    # llvmlite compiles here, before memory is measured.
    quiet(network, mean_squared_error, SGD(0.1), (x[:2000], y[:2000]), **settings)
    tracemalloc.start()
    try:
        quiet(network, mean_squared_error, SGD(0.1), (x, y), **settings)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes / 2


def test_memory_mapped_rows_train_like_rows_in_memory(tmp_path, backend):
    np.save(tmp_path / "x.npy", X)
    a, b = network_of(backend), network_of(backend)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    histories = [
        quiet(n, softmax_cross_entropy, SGD(0.1), (x, LABELS), validation=0.2)
        for n, x in ((a, X), (b, mapped))
    ]
    assert_same_numbers(a, b)
    assert histories[0]["val_loss"] == histories[1]["val_loss"]


def test_validation_does_not_change_the_trajectory():
    layers = [Dense(8, tanh), BatchNorm(), Dropout(0.5), Dense(3)]
    a, b = network_of("numpy", *layers), network_of("numpy", *layers)
    quiet(a, softmax_cross_entropy, Adam(1e-2), (X, LABELS))
    quiet(b, softmax_cross_entropy, Adam(1e-2), (X, LABELS), validation=(X, LABELS), metrics=["accuracy"])
    assert_same_numbers(a, b)


# ---------------------------------------------------------------------- schedules and early stopping


def test_schedule_sets_the_rate_of_every_step():
    recorder, schedule = Recorder(), Cosine(floor=0.1, warmup=3)
    history = quiet(
        network_of(), softmax_cross_entropy, SGD(0.5), (X, LABELS), schedule=schedule, callbacks=[recorder]
    )
    want = [0.5 * schedule(t, 12) for t in range(12)]
    assert recorder.rates == want and history["lr"] == want[3::4]


def test_parameters_that_stop_being_finite_in_the_last_step_are_an_error(tmp_path):
    x, y = np.ones((8, 2), np.float32), np.zeros((8, 1), np.float32)
    network = Network(2, [Dense(1)], "numpy")
    with pytest.raises(DivergedError, match="parameters are not finite after epoch 1"):
        fit(network, mean_squared_error, SGD(lr=1e39), (x, y), epochs=1, checkpoint=tmp_path, verbose=0)
    assert not any(tmp_path.iterdir())


def test_epoch_after_which_the_parameters_are_not_finite_is_counted_from_one():
    poison = After(lambda run: run.network.params.theta.fill(np.nan), step=8)
    with pytest.raises(DivergedError, match="parameters are not finite after epoch 2; lower lr"):
        quiet(network_of(), softmax_cross_entropy, SGD(), (X, LABELS), callbacks=[poison])


def test_samples_per_second_are_the_rows_of_an_epoch_over_its_seconds(monkeypatch):
    clock = iter(range(100, 1000, 4))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    history = quiet(network_of(), softmax_cross_entropy, SGD(), (X, LABELS), epochs=3)
    assert history["seconds"] == [4] * 3 and history["samples_per_second"] == [50 / 4] * 3


def test_schedule_that_raises_does_so_at_its_step_and_not_before():
    @dataclass(frozen=True)
    class Short(Schedule):
        def __call__(self, step, total):
            return 1.0 / (step < 3)

    recorder = Recorder()
    with pytest.raises(ZeroDivisionError):
        quiet(
            network_of(), "softmax_cross_entropy", "sgd", (X, LABELS), schedule=Short(), callbacks=[recorder]
        )
    assert len(recorder.rates) == 3


@pytest.mark.parametrize("launch", [1, 3])
def test_learning_rate_of_an_epoch_is_that_of_its_last_step(launch):
    """On a GPU, several steps are one launch."""
    backend, steps = StrictBackend(), 5
    backend.steps_per_launch = lambda rows: launch
    settings = {"batch_size": 10, "schedule": Cosine()}
    history = quiet(network_of(backend), softmax_cross_entropy, SGD(0.1), (X, LABELS), **settings)
    last = [0.1 * Cosine()(steps * epoch - 1, 3 * steps) for epoch in (1, 2, 3)]
    np.testing.assert_allclose(history["lr"], last, rtol=1e-14)


def test_step_decay_sets_the_learning_rates_of_sgd():
    network, recorder = network_of("numpy", Dense(3)), Recorder()
    quiet(
        network,
        mean_squared_error,
        SGD(1.0),
        (X, NUMBERS),
        epochs=1,
        shuffle=False,
        schedule=StepDecay(2, 0.125),
        callbacks=[recorder],
    )
    assert recorder.rates == [1.0, 1.0, 0.125, 0.125]


def test_plateau_is_accepted_as_schedule_or_as_callback():
    for settings in (
        {"schedule": ReduceOnPlateau(0.5, patience=0)},
        {"callbacks": [ReduceOnPlateau(0.5, patience=0)]},
    ):
        history = quiet(
            network_of(), softmax_cross_entropy, SGD(0.0), (X, LABELS), epochs=4, batch_size=64, **settings
        )
        assert len(history) == 4 and history["lr"] == [0.0] * 4
    history = quiet(
        network_of(),
        mean_squared_error,
        SGD(1e-12),
        (X, NUMBERS),
        epochs=4,
        batch_size=64,
        schedule=ReduceOnPlateau(0.5, patience=0, min_delta=1.0),
    )
    assert history["lr"] == [1e-12, 1e-12, 5e-13, 2.5e-13]


def test_early_stopping_stops_after_patience_epochs():
    history = quiet(
        network_of(),
        softmax_cross_entropy,
        SGD(0.0),
        (X, LABELS),
        epochs=50,
        early_stopping=3,
        shuffle=False,
        validation=(X, LABELS),
    )
    assert len(history) == 4 and history.interrupted is None


class Worse(Callback):
    """Make every epoch after `good` worse, and store θ of epoch `good`."""

    def __init__(self, good):
        self.good = good

    def after_step(self, run):
        if run.epoch >= self.good and run.position == 1:
            run.network.params.assign({name: 3 * value + 1 for name, value in numbers(run.network).items()})

    def after_epoch(self, run, row):
        if run.epoch == self.good:
            self.kept = numbers(run.network)


EXITS = {
    "end": ({"epochs": 4}, None),
    "early stop": ({"epochs": 50, "early_stopping": 2}, None),
    "exception after a step": ({"callbacks": [After(fail, step=14)]}, ZeroDivisionError),
    "exception after an epoch": ({"callbacks": [After(fail, epoch=3)]}, ZeroDivisionError),
    "divergence": (
        {"callbacks": [After(lambda run: run.network.params.theta.fill(np.nan), step=14)]},
        DivergedError,
    ),
    "interrupt": ({"callbacks": [After(interrupt, step=14)]}, None),
    "second interrupt": (
        {"callbacks": [After(lambda run: (interrupt(run), interrupt(run)), step=14)]},
        KeyboardInterrupt,
    ),
}


@pytest.mark.parametrize("way_out", EXITS)
def test_best_weights_are_restored_on_every_exit(way_out):
    settings, error = EXITS[way_out]
    worse = Worse(good=2)
    network = network_of()
    settings = {"epochs": 9, "early_stopping": 9} | settings
    settings["callbacks"] = [worse, *settings.get("callbacks", [])]
    arguments = (network, softmax_cross_entropy, SGD(0.05), (X, LABELS))
    if error is None:
        quiet(*arguments, **settings)
    else:
        with pytest.raises(error):
            quiet(*arguments, **settings)
    for name, value in numbers(network).items():
        np.testing.assert_array_equal(value, worse.kept[name])


def test_best_weights_are_restored_if_a_callback_fails_at_the_end():
    class FailsAtTheEnd(Callback):
        def finish(self, run):
            raise ZeroDivisionError

    worse, network = Worse(good=1), network_of()
    with pytest.raises(ZeroDivisionError):
        quiet(
            network,
            softmax_cross_entropy,
            SGD(0.05),
            (X, LABELS),
            callbacks=[worse, FailsAtTheEnd()],
            early_stopping=9,
        )
    for name, value in numbers(network).items():
        np.testing.assert_array_equal(value, worse.kept[name])


def test_early_stopping_monitors_the_chosen_column():
    with pytest.raises(ConfigurationError, match="val_accuracy"):
        quiet(
            network_of(),
            softmax_cross_entropy,
            SGD(),
            (X, LABELS),
            early_stopping=EarlyStopping(3, "val_accuracy"),
        )
    stopping = EarlyStopping(3, "val_accuracy")
    quiet(
        network_of(),
        softmax_cross_entropy,
        SGD(),
        (X, LABELS),
        early_stopping=stopping,
        validation=0.2,
        metrics=["accuracy"],
    )
    assert stopping.best > 0


# ---------------------------------------------------------------------- divergence


@pytest.mark.parametrize("step", [1, 2, 6])
def test_loss_that_is_not_finite_raises_an_error_with_its_step(step):
    recorder = Recorder()
    poison = After(lambda run: run.network.params.theta.fill(np.nan), step=step)
    place = rf"step {step + 1} \(epoch {step // 4 + 1}, minibatch {step % 4 + 1} of 4\)"
    with pytest.raises(DivergedError, match=f"loss is nan at {place}"):
        quiet(network_of(), softmax_cross_entropy, SGD(), (X, LABELS), callbacks=[recorder, poison])
    assert len(recorder.thetas) == step


def test_divergence_raises_an_error_with_advice_and_no_warnings():
    with pytest.raises(DivergedError, match=r"lower lr \(1e\+200\), or set clip_norm"):
        quiet(network_of("numpy", Dense(3)), mean_squared_error, SGD(1e200), (X, NUMBERS), epochs=9)


def test_checkpoint_stays_finite_if_training_diverges(tmp_path):
    poison = After(lambda run: run.network.params.theta.fill(np.nan), step=6)
    with pytest.raises(DivergedError):
        quiet(
            network_of(),
            softmax_cross_entropy,
            SGD(),
            (X, LABELS),
            callbacks=[poison],
            checkpoint=tmp_path / "run",
        )
    assert np.isfinite(load(tmp_path / "run" / "last", "numpy").params.theta).all()


# ---------------------------------------------------------------------- seeds


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_runs_of_one_seed_are_bitwise_equal_and_another_seed_differs(backend, dtype):
    layers = [Dense(8, relu), Dropout(0.3), BatchNorm(), Dense(3)]
    networks, histories = [], []
    for seed in (5, 5, 6):
        networks.append(network_of(backend, *layers, dtype=dtype))
        histories.append(
            quiet(networks[-1], softmax_cross_entropy, AdamW(1e-2), (X, LABELS), seed=seed, validation=0.2)
        )
    assert_same_numbers(*networks[:2])
    assert histories[0]["val_loss"] == histories[1]["val_loss"] != histories[2]["val_loss"]


def test_seed_determines_shuffling_and_dropout():
    for layers, settings in (([Dense(3)], {}), ([Dropout(0.5), Dense(3)], {"shuffle": False})):
        a, b = network_of("numpy", *layers), network_of("numpy", *layers)
        quiet(a, softmax_cross_entropy, SGD(0.1), (X, LABELS), seed=1, **settings)
        quiet(b, softmax_cross_entropy, SGD(0.1), (X, LABELS), seed=2, **settings)
        assert not np.array_equal(a.params.theta, b.params.theta)
    a, b = network_of("numpy", Dense(3)), network_of("numpy", Dense(3))
    quiet(a, softmax_cross_entropy, SGD(0.1), (X, LABELS), seed=1, shuffle=False)
    quiet(b, softmax_cross_entropy, SGD(0.1), (X, LABELS), seed=2, shuffle=False)
    assert_same_numbers(a, b)


def test_training_does_not_change_the_dtype(backend, dtype):
    network = network_of(
        backend, Dense(4, relu), BatchNorm(), Dropout(0.2), LayerNorm(), Dense(3), dtype=dtype
    )
    optimizer = AdamW(1e-2, clip_norm=1.0, l2=1e-3, ema=0.9)
    quiet(
        network,
        softmax_cross_entropy,
        optimizer,
        (X, LABELS),
        sample_weight=np.ones(50),
        class_weight="balanced",
    )
    assert {value.dtype for value in numbers(network).values()} == {np.dtype(dtype)}
    state = vars(optimizer.state(network.params))
    assert {name: vector.dtype for name, vector in state.items() if name != "scalars"} == {
        name: np.dtype(dtype) for name in state if name != "scalars"
    }


# ---------------------------------------------------------------------- progress output


def test_verbose_0_prints_nothing(capfd):
    quiet(network_of(), softmax_cross_entropy, SGD(), (X, LABELS), validation=0.2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", [1, 2])
def test_without_a_terminal_one_line_per_epoch_is_written_to_standard_error(capsys, verbose):
    quiet(network_of(), softmax_cross_entropy, SGD(), (X, LABELS), verbose=verbose)
    out, err = capsys.readouterr()
    assert out == "" and [line.split("  ")[0] for line in err.splitlines()] == [
        "epoch 1/3",
        "epoch 2/3",
        "epoch 3/3",
    ]


def test_bar_on_a_terminal_writes_nothing_to_standard_output(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    quiet(network_of(), softmax_cross_entropy, SGD(), (X, LABELS), verbose=1)
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------------- interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 3, 4, 7, 12])
def test_signal_finishes_the_step_saves_and_returns_the_history(tmp_path, number, step):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    recorder, network = Recorder(), network_of()
    send = After(lambda run: os.kill(os.getpid(), number), step=step)
    history = quiet(
        network, softmax_cross_entropy, SGD(0.1), (X, LABELS), callbacks=[send, recorder], checkpoint=tmp_path
    )
    assert history.interrupted == number and len(recorder.thetas) == step and len(history) == step // 4
    saved = load(tmp_path / "last", "numpy")
    assert_same_numbers(saved, network)
    assert int(saved.params.step[0]) == step
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(("hook", "epochs"), [("start", 0), ("after_epoch", 1)])
def test_signal_outside_a_step_saves_a_checkpoint_at_any_interval(tmp_path, hook, epochs):
    send, network = Callback(), network_of()
    setattr(send, hook, lambda run, *row: interrupt(run))
    history = quiet(
        network,
        softmax_cross_entropy,
        SGD(0.1),
        (X, LABELS),
        callbacks=[send],
        checkpoint=Checkpoints(tmp_path, every_epochs=100),
    )
    assert history.interrupted == signal.SIGINT and len(history) == epochs
    assert_same_numbers(load(tmp_path / "last", "numpy"), network)


def test_second_signal_raises_and_leaves_whole_files(tmp_path):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def twice(run):
        interrupt(run)
        interrupt(run)

    with pytest.raises(KeyboardInterrupt):
        quiet(
            network_of(),
            softmax_cross_entropy,
            SGD(),
            (X, LABELS),
            callbacks=[After(twice, step=6)],
            checkpoint=tmp_path,
        )
    assert int(load(tmp_path / "last", "numpy").params.step[0]) == 4
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_signal_handlers_are_restored_after_a_failure():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ZeroDivisionError):
        quiet(network_of(), softmax_cross_entropy, SGD(), (X, LABELS), callbacks=[After(fail, step=2)])
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_fit_in_another_thread_gives_the_same_numbers():
    here, there, errors = network_of(), network_of(), []

    def train():
        try:
            quiet(there, softmax_cross_entropy, SGD(0.1), (X, LABELS))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    quiet(here, softmax_cross_entropy, SGD(0.1), (X, LABELS))
    thread.join()
    assert not errors
    assert_same_numbers(here, there)


# ---------------------------------------------------------------------- average of the weights


def test_ema_is_the_average_of_the_trajectory(backend):
    recorder, averaged, plain = Recorder(), network_of(backend), network_of(backend)
    start = np.array(backend.to_host(averaged.params.theta))
    quiet(plain, softmax_cross_entropy, SGD(0.1), (X, LABELS), callbacks=[recorder])
    history = quiet(averaged, softmax_cross_entropy, SGD(0.1, ema=0.75), (X, LABELS), validation=(X, LABELS))
    mean = start
    for theta in recorder.thetas:
        mean = 0.75 * mean + 0.25 * theta
    np.testing.assert_allclose(backend.to_host(averaged.params.theta), mean, rtol=1e-12, atol=1e-14)
    assert history["val_loss"][-1] == evaluate(averaged, softmax_cross_entropy, (X, LABELS))["loss"]


def test_ema_includes_the_running_statistics():
    network = network_of("numpy", BatchNorm(), Dense(3))
    optimizer = SGD(0.1, ema=0.5)
    states = []
    quiet(
        network,
        softmax_cross_entropy,
        optimizer,
        (X, LABELS),
        epochs=1,
        batch_size=50,
        callbacks=[After(lambda run: states.append(run.network.params.state.copy()), step=1)],
    )
    start = network_of("numpy", BatchNorm(), Dense(3)).params.state
    np.testing.assert_allclose(network.params.state, 0.5 * start + 0.5 * states[0], rtol=1e-14)


def test_average_of_a_second_run_begins_where_the_first_one_ended():
    network, optimizer = network_of("numpy", BatchNorm(), Dense(3)), SGD(0.1, ema=0.5)
    for _ in range(2):
        ends, before = [], numbers(network)
        look = After(lambda run, ends=ends: ends.append(numbers(run.network)), step=1)
        settings = {"epochs": 1, "batch_size": 50, "callbacks": [look]}
        quiet(network, softmax_cross_entropy, optimizer, (X, LABELS), **settings)
        for name, value in numbers(network).items():
            expected = 0.5 * before[name] + 0.5 * ends[0][name]
            np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-14, err_msg=name)


class OwnStep(SGD):
    """An optimizer whose step a backend must call."""

    def step(self, params, lr=None):
        super().step(params, lr)


@pytest.mark.parametrize("kind", [SGD, OwnStep])
def test_ema_of_train_step_starts_before_the_first_step(kind, backend):
    network, optimizer = network_of(backend, BatchNorm(), Dense(3)), kind(0.1, ema=0.5)
    params, (x, y) = network.params, map(backend.asarray, (X, LABELS))
    vectors = params.theta, params.state
    start = [np.array(backend.to_host(vector)) for vector in vectors]
    train_step(network, softmax_cross_entropy, optimizer, x, y, network.workspace(len(X)))
    means = optimizer.state(params).mean, optimizer.state(params).mean_state
    for mean, vector, before in zip(means, vectors, start, strict=True):
        expected = 0.5 * before + 0.5 * backend.to_host(vector)
        np.testing.assert_allclose(backend.to_host(mean), expected, rtol=1e-12, atol=1e-14)


def test_best_weights_of_an_average_are_the_average(tmp_path):
    network = network_of()
    history = quiet(
        network,
        softmax_cross_entropy,
        SGD(0.1, ema=0.75),
        (X, LABELS),
        validation=(X, LABELS),
        epochs=5,
        callbacks=[BestWeights()],
        checkpoint=tmp_path,
    )
    assert evaluate(network, softmax_cross_entropy, (X, LABELS))["loss"] == min(history["val_loss"])
    best = load(tmp_path / "best", "numpy")
    assert evaluate(best, softmax_cross_entropy, (X, LABELS))["loss"] == min(history["val_loss"])


# ---------------------------------------------------------------------- settings


@pytest.mark.parametrize("name", ["epochs", "batch_size", "accumulate"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None])
def test_invalid_counts_are_refused(name, value):
    with pytest.raises(ConfigurationError, match=f"{name} must be a whole number of at least 1"):
        quiet(network_of(), softmax_cross_entropy, SGD(), (X, LABELS), **{name: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": -1},
        {"seed": 1.5},
        {"seed": True},
        {"seed": "0"},
        {"resume": True},
        {"early_stopping": 0},
        {"metrics": ["acuracy"], "validation": 0.2},
        {"class_weight": "balance"},
        {"class_weight": {5: 1.0}},
        {"validation": 1.0},
        {"validation": True},
        {"early_stopping": True},
        {"early_stopping": 2.5},
    ],
)
def test_invalid_settings_are_refused_before_anything_changes(settings):
    network = network_of()
    before = numbers(network)
    with pytest.raises(ConfigurationError):
        quiet(network, softmax_cross_entropy, SGD(0.1), (X, LABELS), **settings)
    assert int(network.params.step[0]) == 0
    for name, value in numbers(network).items():
        np.testing.assert_array_equal(value, before[name])


def test_settings_of_fit_are_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        fit(network_of(), softmax_cross_entropy, SGD(), (X, LABELS), 3)
    named = {"network": network_of(), "loss": softmax_cross_entropy, "optimizer": SGD(), "data": (X, LABELS)}
    assert len(fit(**named, epochs=1, verbose=0)) == 1


def test_default_settings_of_fit_are_the_documented_ones():
    usual = {"epochs": 10, "batch_size": 128, "accumulate": 1, "shuffle": True, "drop_last": False, "seed": 0}
    usual |= {"resume": False, "verbose": 1}
    assert {name: inspect.signature(fit).parameters[name].default for name in usual} == usual


def right(y, prediction):
    return float((y == prediction).mean())


@pytest.mark.parametrize(("metrics", "column"), [("accuracy", "accuracy"), (right, "right"), (max, "max")])
def test_one_metric_needs_no_list(metrics, column):
    if metrics is max:
        metrics, column = get_metrics(["Accuracy", right]), "right"
    network = network_of()
    history = quiet(network, softmax_cross_entropy, SGD(0.1), (X, LABELS), metrics=metrics)
    scored = evaluate(network, softmax_cross_entropy, (X, LABELS), metrics=metrics)
    assert (
        history[column][-1]
        == scored[column]
        == evaluate(network, softmax_cross_entropy, (X, LABELS), metrics=["accuracy"])["accuracy"]
    )


def test_names_stand_for_objects_with_default_settings():
    by_name, by_object = network_of(), network_of()
    quiet(by_name, "softmax_cross_entropy", "AdamW", (X, LABELS), schedule="cosine")
    quiet(by_object, softmax_cross_entropy, AdamW(), (X, LABELS), schedule=Cosine(warmup=0.05))
    for name, value in numbers(by_object).items():
        np.testing.assert_array_equal(numbers(by_name)[name], value)
    data = X, LABELS
    assert evaluate(by_name, "softmax_cross_entropy", data) == evaluate(
        by_object, softmax_cross_entropy, data
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: quiet(network_of(), "hubber", "adam", (X, LABELS)),
            "no loss is called 'hubber'; did you mean",
        ),
        (
            lambda: evaluate(network_of(), "zzz", (X, LABELS)),
            "no loss is called 'zzz'; there are mean_squared",
        ),
        (
            lambda: quiet(network_of(), softmax_cross_entropy, "adm", (X, LABELS)),
            "'adm'; did you mean 'adam'",
        ),
        (
            lambda: quiet(network_of(), softmax_cross_entropy, "sgd", (X, LABELS), schedule="cosin"),
            "'cosin'; did you mean 'cosine'",
        ),
        (
            lambda: quiet(network_of(), softmax_cross_entropy, "sgd", (X, LABELS), metrics="acuracy"),
            "'acuracy'; did you mean 'accuracy'",
        ),
    ],
)
def test_unknown_name_is_refused_with_the_nearest_one(call, message):
    with pytest.raises(ConfigurationError, match=message):
        call()


@pytest.mark.parametrize("call", [fit, evaluate])
@pytest.mark.parametrize("kind", [list, np.array, lambda labels: np.array(labels, object)])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mse"])
def test_string_labels_are_refused_with_advice(call, kind, loss):
    labels = kind(["cat" if label == LABELS[0] else "dog" for label in LABELS])
    arguments = (
        [network_of(), loss, "adam", (X, labels)] if call is fit else [network_of(), loss, (X, labels)]
    )
    with pytest.raises(
        DataError, match=r"strings such as 'cat'.*numpy\.unique\(y, return_inverse=True\).*MLPClassifier"
    ):
        call(*arguments)


@pytest.mark.parametrize(("place", "value"), [(0, "network"), (1, SGD(0.1)), (2, 0.1), (2, SGD)])
def test_other_objects_and_classes_are_refused(place, value):
    arguments = [network_of(), softmax_cross_entropy, SGD(0.1)]
    arguments[place] = value
    with pytest.raises(ConfigurationError, match="must be an object such as"):
        quiet(*arguments, (X, LABELS))


@pytest.mark.parametrize("stopping", [EarlyStopping(3, "val_loss"), EarlyStopping(3, "val_accuracy")])
def test_missing_column_to_monitor_is_refused_before_anything_changes(stopping):
    network = network_of()
    before = numbers(network)
    with pytest.raises(
        ConfigurationError, match=rf"no column '{stopping.monitor}' to monitor; there are loss"
    ):
        quiet(network, softmax_cross_entropy, SGD(0.1), (X, LABELS), early_stopping=stopping)
    for name, value in numbers(network).items():
        np.testing.assert_array_equal(value, before[name])


def mape(y, p):
    return float(np.mean(np.abs(y - p)))


def negative_mse(y, p):
    return -float(np.mean((y - p) ** 2))


class Brier:
    def __call__(self, y, p):
        return float(np.mean((y - p) ** 2))


def rmse(y, p):
    """Higher is better, in spite of the name."""
    return -float(np.mean((y - p) ** 2))


@pytest.mark.parametrize("held", ["", "val_"])
@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (mape, "mape"),
        (negative_mse, "negative_mse"),
        (Brier(), "Brier"),
        (rmse, "rmse"),
        (lambda y, p: 0.0, "<lambda>"),
        (functools.partial(mape), "mape"),
        (functools.partial(lambda f, y, p: -f(y, p), get_metric("mse")), "<lambda>"),
    ],
)
def test_monitored_metric_of_your_own_is_refused_until_its_direction_is_stated(held, metric, name, tmp_path):
    network, column = Network(4, [Dense(3)], "numpy", seed=1), held + name
    before = numbers(network)
    settings = [
        {"early_stopping": EarlyStopping(3, column)},
        {"checkpoint": Checkpoints(tmp_path / "c", monitor=column)},
        {"callbacks": BestWeights(column)},
        {"schedule": ReduceOnPlateau(monitor=column)},
    ]
    for setting in settings:
        more = {"metrics": [metric], "validation": 0.2 if held else None} | setting
        with pytest.raises(ConfigurationError, match="add mode='min' or mode='max' to"):
            quiet(network, "mse", SGD(0.01), (X, NUMBERS), **more)
        np.testing.assert_array_equal(numbers(network)["0.W"], before["0.W"])
    assert not (tmp_path / "c").exists()
    stopping = EarlyStopping(30, column, mode="min")
    history = quiet(network, "mse", SGD(0.01), (X, NUMBERS), **(more | {"schedule": stopping, "epochs": 3}))
    assert stopping.best == min(history[column])


@pytest.mark.parametrize("direction", [min, max])
def test_weights_of_the_best_value_of_a_stated_direction_are_restored(direction):
    network = Network(4, [Dense(3)], "numpy", "float64", seed=1)
    stopping = EarlyStopping(30, "val_mape", mode=direction.__name__)
    more = {"metrics": [mape], "validation": (X, NUMBERS), "early_stopping": stopping, "epochs": 5}
    history = quiet(network, "mse", SGD(0.05), (X, NUMBERS), **more)
    kept = mape(NUMBERS, network.predict(X))
    np.testing.assert_allclose(kept, direction(history["val_mape"]), rtol=1e-12)


@pytest.mark.parametrize(
    "metrics", [["mse", "mse"], [functools.partial(mape), mape], [type("loss", (Brier,), {})()]]
)
def test_metrics_of_one_name_are_refused_before_anything_changes(metrics):
    network = Network(4, [Dense(3)], "numpy", seed=1)
    before = numbers(network)
    for call in (
        lambda: quiet(network, "mse", SGD(0.01), (X, NUMBERS), metrics=metrics),
        lambda: evaluate(network, "mse", (X, NUMBERS), metrics=metrics),
    ):
        with pytest.raises(ConfigurationError, match=r"called (.m.*|.loss.); give the"):
            call()
    np.testing.assert_array_equal(numbers(network)["0.W"], before["0.W"])


def test_metrics_without_validation_use_the_training_rows():
    network = network_of()
    history = quiet(network, softmax_cross_entropy, SGD(0.1), (X, LABELS), metrics=["accuracy"], epochs=3)
    assert (
        history["accuracy"][-1]
        == evaluate(network, softmax_cross_entropy, (X, LABELS), metrics=["accuracy"])["accuracy"]
    )
    assert "val_loss" not in history.rows[-1]


@pytest.mark.parametrize("schedule", [0.5, Cosine, lambda step, total: 1.0, None])
def test_invalid_schedule_is_refused_before_anything_changes(schedule):
    with pytest.raises(
        ConfigurationError, match=r"schedule must be an object such as ffnn_gpu\.schedules\.Cosine"
    ):
        quiet(network_of(), softmax_cross_entropy, SGD(0.5), (X, LABELS), schedule=schedule)


@pytest.mark.parametrize("fraction", [0, 1, 1.5, float("nan")])
def test_validation_fraction_must_lie_between_0_and_1(fraction):
    with pytest.raises(ConfigurationError, match=rf"validation is {fraction}; use \(Xv, yv\) or a fraction"):
        quiet(network_of(), softmax_cross_entropy, SGD(0.5), (X, LABELS), validation=fraction)


def test_one_callback_alone_is_accepted():
    class Counter(Callback):
        epochs = 0

        def after_epoch(self, run, row):
            self.epochs += 1

    counter = Counter()
    quiet(network_of(), softmax_cross_entropy, SGD(0.1), (X, LABELS), epochs=2, callbacks=counter)
    assert counter.epochs == 2


NO_FOLDERS = {
    "file": ("file", "file' is a file"),
    "below a file": ("file/sub/folder", "file' is a file"),
    "too long": ("a" * 300, "File name too long"),
    "zero byte": ("a\0b", "null byte"),
}


@pytest.mark.parametrize("kind", NO_FOLDERS)
def test_path_that_cannot_be_the_checkpoint_folder_raises_before_the_first_step(tmp_path, kind):
    (tmp_path / "file").touch()
    name, problem = NO_FOLDERS[kind]
    network = network_of()
    before = network.params.theta.tobytes()
    with pytest.raises(ConfigurationError, match=f"^no checkpoints .*: .*{problem}; choose another folder$"):
        quiet(network, softmax_cross_entropy, SGD(0.1), (X, LABELS), checkpoint=tmp_path / name)
    assert network.params.theta.tobytes() == before


# ---------------------------------------------------------------- refused before the first step


def refused(message, y=LABELS, loss="softmax_cross_entropy", layers=(Dense(3),), rows=50, **given):
    network = Network(4, list(layers), "numpy", seed=1)
    before = numbers(network)
    with pytest.raises((ConfigurationError, DataError, ShapeError), match=message):
        quiet(network, loss, SGD(0.1), (X[:rows], y[:rows]), **given)
    for name, value in numbers(network).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("rows", "given"),
    [
        (49, {"batch_size": 16}),
        (50, {"batch_size": 1}),
        (1, {"batch_size": 16}),
        (50, {"batch_size": 10, "accumulate": 4}),
        (50, {"batch_size": 25, "accumulate": 3, "rows": 26}),
        (50, {"batch_size": 10, "accumulate": 10}),
    ],
)
@pytest.mark.parametrize("layer", [BatchNorm(), Residual([Dense(4), Residual([BatchNorm()])])])
def test_batch_of_one_row_is_refused_with_batch_norm(layer, rows, given):
    refused("leave a batch of 1 row, and BatchNorm", layers=[layer, Dense(3)], **({"rows": rows} | given))


@pytest.mark.parametrize(
    ("rows", "given"),
    [
        (49, {"batch_size": 16, "drop_last": True}),
        (48, {"batch_size": 16}),
        (50, {"batch_size": 16, "accumulate": 8}),
    ],
)
def test_batches_of_two_rows_train_with_batch_norm(rows, given):
    network = Network(4, [Dense(4), BatchNorm(), Dense(3)], "numpy", seed=1)
    assert (
        len(quiet(network, softmax_cross_entropy, SGD(0.1), (X[:rows], LABELS[:rows]), epochs=1, **given))
        == 1
    )


@pytest.mark.parametrize("rows", [64, 96])
def test_running_variance_tends_to_the_unbiased_variance_of_the_rows(rows):
    x = np.random.default_rng(0).normal(size=(rows, 4))
    network = Network(4, [BatchNorm(), Dense(3)], "numpy", "float64", seed=1)
    quiet(network, softmax_cross_entropy, SGD(1e-9), (x, np.arange(rows) % 3), epochs=100, batch_size=32)
    ratio = numbers(network)["0.running_variance"] / x.var(axis=0, ddof=1)
    np.testing.assert_allclose(ratio, 1, atol=0.15)


def test_metric_that_the_validation_rows_do_not_define_is_refused():
    two = (LABELS > 0).astype(int)
    more = {"loss": "binary_cross_entropy_with_logits", "layers": [Dense(1)], "metrics": ["roc_auc"]}
    refused("roc_auc needs two classes; y has 1", two, validation=(X[two == 0], two[two == 0]), **more)
    refused("roc_auc needs two classes; y has 1", np.zeros(50, int), **more)


@pytest.mark.parametrize(
    ("loss", "outputs", "y", "metric", "message"),
    [
        ("mean_squared_error", 3, NUMBERS, "top_k_accuracy", "y must hold class indices 0 … 2|shape"),
        ("mean_squared_error", 1, NUMBERS[:, 0], "top_k_accuracy", "y must hold class indices"),
        ("binary_cross_entropy_with_logits", 2, NUMBERS[:, :2] > 0, "balanced_accuracy", r"labels \(n,\)"),
        ("softmax_cross_entropy", 3, LABELS, "top_k_accuracy", "k is 5 and there are 3 classes"),
    ],
)
@pytest.mark.parametrize("validation", [None, 0.2])
def test_metric_that_does_not_fit_the_task_is_refused_before_the_first_step(
    loss, outputs, y, metric, message, validation
):
    more = {"layers": [Dense(outputs)], "metrics": metric, "validation": validation}
    refused(message, y.astype(int if loss.startswith("softmax") else float), loss, **more)


def test_two_positive_rows_of_40_are_too_few_for_the_metric_of_4_held_out_rows():
    y = np.repeat([0, 1], [38, 2])
    more = {"layers": [Dense(1)], "metrics": "roc_auc", "validation": 0.1, "rows": 40}
    message = "roc_auc needs two classes; y has 1, starting with 0"
    refused(message, y, "binary_cross_entropy_with_logits", **more)


def test_metric_of_outputs_that_overflow_is_nan_and_the_run_goes_on(tmp_path):
    """The held-out rows are finite, and the sums of their products are not: inf − inf."""
    network, y = network_of("numpy", *[Dense(8)] * 4, Dense(1)), (LABELS > 0).astype(float)
    history = quiet(
        network,
        "binary_cross_entropy_with_logits",
        SGD(0.1),
        (X, y),
        epochs=9,
        validation=(np.sign(X) * 1e308, y),
        metrics=["roc_auc", "accuracy", "f1_macro"],
        early_stopping=EarlyStopping(3, "val_roc_auc"),
        checkpoint=tmp_path,
    )
    names = ["val_loss", "val_roc_auc", "val_accuracy", "val_f1_macro"]
    assert len(history) == 3 and np.isnan([history[name] for name in names]).all()
    history.to_jsonl(tmp_path / "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_text().count('"val_roc_auc": null') == 3
    assert_same_numbers(load(tmp_path / "last", "numpy"), network)  # no epoch was the best


def test_run_without_a_step_left_removes_what_killed_runs_left_behind(tmp_path):
    settings = {"epochs": 2, "checkpoint": tmp_path}
    quiet(network_of(), softmax_cross_entropy, SGD(0.1), (X, LABELS), **settings)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    for name in ("last", "best"):
        (tmp_path / f".{name}.safetensors.{os.getpid()}-0123abcd.half").write_bytes(b"x")
    other = tmp_path / f".last.safetensors.{os.getppid()}-0123abcd.half"  # its writer is alive
    other.write_bytes(b"x")
    quiet(network_of(), softmax_cross_entropy, SGD(0.1), (X, LABELS), resume=True, **settings)
    other.unlink()
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_fewer_epochs_than_are_finished_are_refused(tmp_path):
    network = network_of()
    quiet(network, softmax_cross_entropy, SGD(0.1), (X, LABELS), epochs=3, checkpoint=tmp_path)
    before = numbers(network)
    with pytest.raises(
        IncompatibleCheckpointError, match="has 3 finished epochs; epochs=2 must not be fewer"
    ):
        quiet(
            network, softmax_cross_entropy, SGD(0.1), (X, LABELS), epochs=2, checkpoint=tmp_path, resume=True
        )
    np.testing.assert_array_equal(numbers(network)["0.W"], before["0.W"])
