"""Members, predictions out of fold, and the joined network."""

import gc
import os
import re
import signal
import threading
import time
import weakref
from concurrent.futures import Future

import numpy as np
import pytest

from ffnn_gpu import fit, get_backend
from ffnn_gpu.data.labels import LabelMap
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.errors import DivergedError
from ffnn_gpu.estimators.tabular import members as members_module
from ffnn_gpu.estimators.tabular.fit_ensemble import fit_ensemble
from ffnn_gpu.estimators.tabular.folds import folds_of
from ffnn_gpu.estimators.tabular.members import Plan, Rows, Store, train_members
from ffnn_gpu.estimators.tabular.out_of_fold import OutOfFold
from ffnn_gpu.estimators.tabular.recipes import PRESETS, Plain
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.nn.network import Network
from ffnn_gpu.testing import assert_close
from ffnn_gpu.training.callbacks import BestWeights, Callback
from ffnn_gpu.training.interrupt import Interrupted
from tests.handled_signals import sender

RNG = np.random.default_rng(0)
N = 240
X = np.column_stack([RNG.normal(size=(N, 3)), np.arange(N) % 5]).astype(np.float32)  # the last: codes
S = X[:, 0] - X[:, 1] * X[:, 2] + (X[:, 3] == 2)
UNITS = Standardizer.fit(S.reshape(-1, 1))
TASKS = {
    "binary": (
        Task("binary", 1, "binary_cross_entropy_with_logits", labels=LabelMap((0, 1))),
        (S > 0).astype(int),
    ),
    "multiclass": (
        Task("multiclass", 3, "softmax_cross_entropy", 0.1, LabelMap((0, 1, 2))),
        np.digitize(S, [-0.5, 0.5]),
    ),
    "multilabel": (
        Task("multilabel", 2, "binary_cross_entropy_with_logits"),
        np.column_stack([S > 0, X[:, 0] > 0]).astype(float),
    ),
    "regression": (
        Task("regression", 1, "mean_squared_error", units=UNITS),
        UNITS.transform(S.reshape(-1, 1)),
    ),
}
RECIPES = (
    Plain(name="linear", lr=3e-2, weight_decay=0.0, epochs=8, steps=1),
    Plain(
        name="small",
        hidden=(16, 8),
        activation="tanh",
        dropout=(0.1, 0.1),
        lr=1e-2,
        weight_decay=0.01,
        epochs=8,
        steps=1,
    ),
)


def _numpy():
    return get_backend("cpu")


def ensemble(kind, backend, recipes=RECIPES, weight=None, folds=3, **training):
    task, y = TASKS[kind]
    fold = folds_of(N, folds, 0)
    return fit_ensemble(
        Rows(X, y, weight), fold, task, (5,), recipes, backend, "float64", seed=1, **training
    ), fold


@pytest.mark.parametrize("kind", TASKS)
def test_joined_network_is_the_weighted_mean_of_its_members(backend, kind):
    found, _ = ensemble(kind, backend)
    assert re.fullmatch(r"<Ensemble: \d+ members, [a-z ]+ \d\.\d{4} out of fold>", repr(found))
    task = TASKS[kind][0]
    wanted = 0.0
    for member in found.members:
        name = member.plan.recipe.name
        z = backend.to_host(member.network.predict(X)) / found.temperatures.get(name, 1)
        p = z if kind == "regression" else task.probabilities(z)
        p = p[:, 1:] if kind == "binary" else p  # the network returns that of the second class
        wanted = wanted + found.weights.get(name, 0.0) / 3 * p
    assert_close(found.network.predict(X), np.asarray(wanted), 1e-12, "mean")
    assert not found.task.label_smoothing and (kind == "regression" or found.task.outputs_are_probabilities)


def test_recipes_are_compared_at_their_best_temperatures():
    """The log loss of every T of a grid is computed here."""
    wavering = Plain(name="wavering", lr=1e-2, weight_decay=0.0, epochs=4, steps=1)
    found, folds = ensemble("binary", _numpy(), (wavering, RECIPES[1]))
    y = TASKS["binary"][1]
    for name, error in found.errors.items():
        z = np.empty(N)
        for member in (m for m in found.members if m.plan.recipe.name == name):
            z[folds == member.plan.fold] = member.held_out[:, 0]
        losses = {T: np.logaddexp(0, -z * (2 * y - 1) / T).mean() for T in np.geomspace(0.5, 2, 2001)}
        assert error == pytest.approx(min(losses.values()), rel=1e-5)
        assert name != "wavering" or abs(min(losses, key=losses.get) - 1) > 0.1
    assert found.temperatures.keys() == found.weights.keys()


def test_every_row_is_predicted_by_members_that_were_not_trained_on_it(backend):
    found, folds = ensemble("regression", backend)
    for recipe in RECIPES:
        for member in (m for m in found.members if m.plan.recipe is recipe):
            rows = folds == member.plan.fold
            np.testing.assert_array_equal(member.held_out, backend.to_host(member.network.predict(X[rows])))
    assert {(m.plan.recipe.name, m.plan.fold) for m in found.members} == {
        (recipe.name, fold) for recipe in RECIPES for fold in range(3)
    }
    np.testing.assert_array_equal(found.index, np.arange(N))


def test_a_member_is_what_fit_alone_returns(backend):
    task, y = TASKS["binary"]
    folds, plan = folds_of(N, 3, 0), Plan(RECIPES[1], 1, 77)
    (member,), _ = train_members([plan], Rows(X, y), folds, task, (5,), backend, "float32")
    network = Network(4, RECIPES[1].layers((5,), X, task), backend, "float32", 77)
    inside = folds != 1
    fit(
        network, task.loss, RECIPES[1].optimizer(False), (X[inside], y[inside]), epochs=8,
        batch_size=RECIPES[1].batch(int(inside.sum())), validation=(X[~inside], y[~inside]),
        schedule="one_cycle", seed=77, callbacks=[BestWeights()], verbose=0,
    )  # fmt: skip
    np.testing.assert_array_equal(
        backend.to_host(member.network.params.theta), backend.to_host(network.params.theta)
    )


def test_members_do_not_depend_on_how_many_are_trained_at_a_time(monkeypatch):
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("FFNN_GPU_THREADS", threads)
        found.append(ensemble("multiclass", _numpy())[0].network.params.theta)
    np.testing.assert_array_equal(*found)


def test_rows_of_weight_zero_change_nothing(backend):
    """The targets of rows without weight are noise; a mean that used them would be another."""
    task, y = TASKS["regression"]
    weight = (np.arange(N) % 4 > 0).astype(float)
    spoiled = np.where(weight[:, None] > 0, y, 100.0)
    folds = folds_of(N, 2, 0)
    same = [
        fit_ensemble(Rows(X, targets, weight), folds, task, (5,), RECIPES[:1], backend, "float64")
        for targets in (y, spoiled)
    ]
    np.testing.assert_array_equal(*(backend.to_host(each.network.params.theta) for each in same))
    assert same[0].errors == same[1].errors


def test_a_member_that_diverges_is_left_out_and_all_of_them_are_an_error():
    wild = Plain(name="wild", hidden=(8,), lr=1e200, weight_decay=0.0, epochs=3, steps=1)
    found, _ = ensemble("regression", _numpy(), (wild, *RECIPES[:1]))
    assert {*found.errors} == {"linear"} and len(found.members) == 3
    with pytest.raises(DivergedError):
        ensemble("regression", _numpy(), (wild,))


class Slow(Callback):
    def after_step(self, run):
        time.sleep(0.01)


def test_a_deadline_that_is_over_leaves_one_epoch_of_one_member():
    found, _ = ensemble("regression", _numpy(), deadline=time.monotonic() - 1)
    assert [len(member.history) for member in found.members] == [1]


def test_recipes_that_lack_folds_are_compared_on_those_they_have(backend):
    task, y = TASKS["regression"]
    folds = folds_of(N, 3, 0)
    plans = [Plan(recipe, fold, fold) for recipe in RECIPES[:2] for fold in range(3)]
    members, _ = train_members(plans, Rows(X, y), folds, task, (5,), backend, "float64")
    held = OutOfFold.of(members[:-1], Rows(X, y), folds, task)  # the last fold of the last recipe is missing
    assert {*held.outputs} == {"linear", "small"}
    np.testing.assert_array_equal(held.index, np.flatnonzero(folds < 2))
    for member in members[3:5]:
        rows = folds[held.index] == member.plan.fold
        np.testing.assert_array_equal(held.outputs["small"][rows], member.held_out)


def test_deadline_ends_the_training_with_what_there_is():
    long = Plain(name="long", hidden=(8,), epochs=10_000, steps=1)
    found, folds = ensemble(
        "regression", _numpy(), (long,), deadline=time.monotonic() + 0.2, callback=lambda plan: [Slow()]
    )
    assert max(len(member.history) for member in found.members) < 1000  # 1000 epochs of 11 steps take 110 s
    seen = {member.plan.fold for member in found.members}
    np.testing.assert_array_equal(found.index, np.flatnonzero(np.isin(folds, [*seen])))
    assert len(found.out_of_fold) == len(found.index)


class Interrupting(Callback):
    def after_epoch(self, run, row):
        if run.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)


def test_interrupt_returns_the_members_so_far(monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", "1")
    long = Plain(name="long", hidden=(8,), epochs=10_000, steps=1)
    found, _ = ensemble("regression", _numpy(), (long,), callback=lambda plan: [Interrupting()])
    assert found.signal == signal.SIGINT and len(found.members) == 1
    assert len(found.members[0].history) < 1000  # the handler runs when the main thread has its turn


class Stopping(Store):
    """Send a signal when the first member is about to be trained."""

    def __init__(self, send):
        self.send = send

    def load(self, plan, backend):
        if plan.fold:
            return
        self.send(signal.SIGTERM)


def test_interrupt_before_the_first_member_is_an_interrupt(monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", "1")
    monkeypatch.setattr(members_module, "fit", lambda *args, **named: pytest.fail("fit was called"))
    with pytest.raises(Interrupted, match="SIGTERM ended the training before any member") as raised:
        ensemble("regression", _numpy(), RECIPES[:1], folds=2, store=Stopping(sender(monkeypatch)))
    assert raised.value.number == signal.SIGTERM


def test_members_that_have_not_begun_are_not_even_loaded_after_an_error(monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", "1")
    loaded, cancelled, cancel = [], threading.Semaphore(0), Future.cancel
    monkeypatch.setattr(Future, "cancel", lambda future: (cancel(future), cancelled.release())[0])

    class Counting(Store):
        def load(self, plan, backend):
            loaded.append(plan)
            for _ in range(3 * (len(loaded) == 2)):  # the second of three is about to be trained
                cancelled.acquire(timeout=10)

    with pytest.raises(ZeroDivisionError):
        ensemble("regression", _numpy(), RECIPES[:1], folds=3, store=Counting(), done=lambda member: 1 / 0)
    assert len(loaded) == 2


def test_rows_of_no_fold_are_neither_trained_on_nor_held_out(backend):
    task, y = TASKS["regression"]
    folds = np.where(np.arange(N) % 4, folds_of(N, 2, 0), -1)
    spoiled = np.where(folds[:, None] < 0, 100.0, y)
    same = [
        fit_ensemble(Rows(X, targets), folds, task, (5,), RECIPES[:1], backend, "float64")
        for targets in (y, spoiled)
    ]
    np.testing.assert_array_equal(*(backend.to_host(each.network.params.theta) for each in same))
    np.testing.assert_array_equal(*(each.residuals for each in same))
    np.testing.assert_array_equal(same[0].index, np.flatnonzero(folds >= 0))


@pytest.mark.parametrize("rows", [3, 50, 400, 8000])
def test_a_recipe_makes_its_least_number_of_updates_but_of_a_tiny_table(rows):
    for recipe in (r for preset in PRESETS.values() for r in preset.recipes):
        batch = recipe.batch(rows)
        assert 1 <= batch <= min(recipe.batch_size, rows)
        assert recipe.passes(rows) >= recipe.epochs
        assert recipe.passes(rows) == 400 or recipe.passes(rows) * -(-rows // batch) >= recipe.steps


@pytest.mark.parametrize("rows", [100_000, 1_000_000, 10_000_000])
def test_a_large_table_gets_fewer_passes(rows):
    for recipe in (r for preset in PRESETS.values() for r in preset.recipes):
        updates, passes = -(-rows // recipe.batch(rows)), recipe.passes(rows)
        assert 1 <= passes <= recipe.epochs and (passes == 1 or passes * updates <= 30_000)
        assert passes == recipe.epochs or (passes + 1) * updates > 30_000


class Watching(Callback):
    def __init__(self, runs):
        self.runs = runs

    def start(self, run):
        self.runs.append(weakref.ref(run.data))


def test_rows_of_a_member_are_freed_when_it_is_trained(backend):
    """Without the garbage collector, which counts objects and not bytes."""
    runs, (task, y) = [], TASKS["regression"]
    plans = [Plan(RECIPES[1], fold, fold) for fold in range(3)]
    gc.disable()
    try:
        train_members(
            plans, Rows(X, y), folds_of(N, 3, 0), task, (5,), backend, "float32",
            callback=lambda plan: [Watching(runs)],
        )  # fmt: skip
        assert [run() for run in runs] == [None] * 3
    finally:
        gc.enable()


class Failing(Callback):
    def after_epoch(self, run, row):
        raise RuntimeError("the disk is full")


@pytest.mark.parametrize("fails", ["member", "done"])
def test_an_error_ends_the_other_members_after_their_epoch(monkeypatch, fails):
    """Member 2 fails at once; member 1, which trains beside it, would take 10,000 epochs."""
    monkeypatch.setenv("FFNN_GPU_THREADS", "2")
    long = Plain(name="long", hidden=(8,), epochs=10_000, steps=1)
    short = Plain(name="short", hidden=(8,), epochs=1, steps=1)

    def callback(plan):
        return [Failing()] if fails == "member" and plan.fold == 1 else [Slow()]

    def done(member):
        raise RuntimeError("the disk is full")

    began, first = time.monotonic(), long if fails == "member" else short
    plans = [Plan(first if fold == 0 else long, fold, fold) for fold in range(3)]
    task, y = TASKS["regression"]
    with pytest.raises(RuntimeError, match="the disk is full"):
        train_members(
            plans, Rows(X, y), folds_of(N, 3, 0), task, (5,), _numpy(), "float32",
            callback=callback, done=done if fails == "done" else lambda member: None,
        )  # fmt: skip
    assert time.monotonic() - began < 20  # 10,000 epochs of 5 steps would take 8 minutes
