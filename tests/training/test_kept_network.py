"""Whatever stops a training run, what is kept is what a short loop over `train_step` says."""

import signal
from functools import cache

import numpy as np
import pytest

from ffnn_gpu import fit, train_step
from ffnn_gpu.checkpoints import atomic_file
from ffnn_gpu.checkpoints.checkpoint import load
from ffnn_gpu.data.minibatches import Order
from ffnn_gpu.nn.layers import BatchNorm, Dense
from ffnn_gpu.nn.losses.standard import softmax_cross_entropy
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.optimizers import SGD
from ffnn_gpu.training.callbacks import Callback, EarlyStopping

rng = np.random.default_rng(0)
SIGNAL = rng.normal(size=(4, 3))


def rows_and_labels(n):
    x = rng.normal(size=(n, 4))
    return x, (x @ SIGNAL + 1.5 * rng.normal(size=(n, 3))).argmax(axis=1)


(X, Y), (XV, YV) = rows_and_labels(40), rows_and_labels(30)
WV = rng.uniform(0.2, 2, 30)
CLASS_WEIGHT = {0: 4.0, 2: 0.5}
EPOCHS, STEPS, BATCH, RATE = 9, 4, 10, 0.6
SIGNS = {"loss": -1, "val_loss": -1, "val_accuracy": 1}
STOPPED = [14, 12, 1, 15]  # the update after which a signal comes: within an epoch and at its end


def made():
    return Network(4, [Dense(6, "tanh"), BatchNorm(), Dense(3)], "numpy", "float64", seed=7)


def numbers(network):
    """Return θ and the running statistics in one vector."""
    return np.concatenate([network.params.theta, network.params.state])


def columns(kept):
    """Return the loss and the accuracy of these numbers on the held-out rows, without class weights."""
    network = made()
    network.params.theta[:], network.params.state[:] = np.split(kept, [len(network.params.theta)])
    z = network.predict(XV)
    logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    right = z.argmax(axis=1) == YV
    return {
        "val_loss": -np.average(logp[np.arange(30), YV], weights=WV),
        "val_accuracy": np.average(right, weights=WV),
    }


@cache
def simulated(ema, weighted):
    """Return θ after each step, what is kept of it, and the columns of each epoch."""
    network, rule, order = made(), SGD(RATE), Order(BATCH, seed=0)
    weight = np.array([CLASS_WEIGHT.get(label, 1.0) if weighted else 1.0 for label in Y])
    thetas, means, rows, mean = [], [], [], numbers(network)
    for epoch in range(EPOCHS):
        losses, weights = [], []
        for index in np.split(order.permutation(len(X), epoch), STEPS):
            given = X[index], Y[index], network.workspace(BATCH), weight[index]
            losses.append(float(train_step(network, softmax_cross_entropy, rule, *given)))
            weights.append(weight[index].sum())
            mean = mean if ema is None else ema * mean + (1 - ema) * numbers(network)
            thetas.append(numbers(network).copy())
            means.append(thetas[-1] if ema is None else mean)
        rows.append({"loss": np.average(losses, weights=weights), **columns(means[-1])})
    return thetas, means, rows


def chosen(rows, column, patience):
    """Return the number of the best epoch, from 0 on, and the number of epochs that are run."""
    best, waited = None, 0
    for epoch, row in enumerate(rows):
        if best is None or SIGNS[column] * (row[column] - rows[best][column]) > 0:
            best, waited = epoch, 0
        else:
            waited += 1
        if waited == patience:
            return best, epoch + 1
    return best, len(rows)


class Stop(Callback):
    """Ends the run after an update, as a signal would."""

    def __init__(self, step):
        self.step = step

    def after_step(self, run):
        if run.steps_done == self.step:
            run.team.own_signal = lambda: signal.SIGTERM


def trained(ema, class_weight, column, patience, step=None, **more):
    network = made()
    stopping = None if column is None else EarlyStopping(patience, column)
    history = fit(
        network, "softmax_cross_entropy", SGD(RATE, ema=ema), (X, Y), epochs=EPOCHS, batch_size=BATCH,
        class_weight=class_weight, validation=(XV, YV, WV), metrics="accuracy", early_stopping=stopping,
        callbacks=Stop(step), verbose=0, **more,
    )  # fmt: skip
    return network, history


@pytest.fixture(autouse=True)
def no_flush(monkeypatch):
    """Files of tests need not survive a power cut."""
    monkeypatch.setattr(atomic_file.os, "fsync", lambda file: None)


def require_best(folder, means, rows):
    """Compare best.safetensors with the network of the lowest loss on the held-out rows."""
    lowest = (chosen(rows, "val_loss", EPOCHS)[0] + 1) * STEPS - 1
    np.testing.assert_allclose(numbers(load(folder / "best", "numpy")), means[lowest], rtol=1e-9)


@pytest.mark.parametrize("column", [None, *SIGNS])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("ema", [None, 0.6], ids=["theta", "average"])
def test_what_is_kept_is_what_a_short_loop_says(tmp_path, ema, weighted, column):
    thetas, means, rows = simulated(ema, weighted)
    class_weight, patience = CLASS_WEIGHT if weighted else None, 3
    best, epochs = (None, EPOCHS) if column is None else chosen(rows, column, patience)
    stopped = STOPPED[(len(str(column)) + weighted + (ema is None)) % len(STOPPED)]
    for step in (step for step in (None, stopped) if step is None or step < epochs * STEPS):
        folder = tmp_path / str(step)
        network, history = trained(ema, class_weight, column, patience, step, checkpoint=folder)
        done = epochs if step is None else step // STEPS
        last = epochs * STEPS if step is None else step
        for name in SIGNS:
            np.testing.assert_allclose(history[name], [row[name] for row in rows[:done]], rtol=1e-9)
        kept = means[last - 1]
        if column is not None and done:
            kept = means[(chosen(rows[:done], column, patience)[0] + 1) * STEPS - 1]
        np.testing.assert_allclose(numbers(network), kept, rtol=1e-9, atol=1e-12, err_msg=str(step))
        np.testing.assert_allclose(numbers(load(folder / "last", "numpy")), thetas[last - 1], rtol=1e-9)
        if done:
            require_best(folder, means, rows[:done])
        if step is not None:
            again, _ = trained(ema, class_weight, column, patience, checkpoint=folder, resume=True)
            wanted = means[epochs * STEPS - 1 if best is None else (best + 1) * STEPS - 1]
            np.testing.assert_allclose(numbers(again), wanted, rtol=1e-9, atol=1e-12)
            require_best(folder, means, rows[:epochs])


def test_the_epochs_that_could_be_kept_differ():
    """Else the test above could not tell one from another."""
    for ema in (None, 0.6):
        for weighted in (False, True):
            _, _, rows = simulated(ema, weighted)
            found = {name: chosen(rows, name, 3) for name in SIGNS}
            assert len({*(best for best, _ in found.values()), EPOCHS - 1}) == 4, found
            assert min(epochs for _, epochs in found.values()) < EPOCHS


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_average_is_kept_if_an_evaluation_raises(error):
    calls = []

    def metric(y, prediction):
        calls.append(len(calls) == 1)
        if calls[-1]:
            raise error
        return 0.0

    network, data = made(), (X, Y)
    more = {"epochs": EPOCHS, "batch_size": BATCH, "validation": (XV, YV), "verbose": 0}
    with pytest.raises(error):
        fit(network, "softmax_cross_entropy", SGD(RATE, ema=0.6), data, metrics=metric, **more)
    _, means, _ = simulated(0.6, False)
    np.testing.assert_allclose(numbers(network), means[2 * STEPS - 1], rtol=1e-9, atol=1e-12)
