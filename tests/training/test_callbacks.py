"""Callbacks react to the monitored column, and their state survives a checkpoint."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from ffnn_gpu.errors import ConfigurationError, IncompatibleCheckpointError
from ffnn_gpu.nn.layers import Dense
from ffnn_gpu.nn.network import Network
from ffnn_gpu.training.callbacks import (
    BestWeights,
    Callback,
    Checkpoints,
    EarlyStopping,
    ReduceOnPlateau,
    require_restorable,
)

COLUMNS = {"loss": "min", "val_rmse": "min", "val_accuracy": "max", "val_r2": "max"}


def run_of(**more):
    run = SimpleNamespace(
        stop=False, lr_factor=1.0, epoch=0, epochs=100, averaged=nullcontext, columns=COLUMNS,
        team=SimpleNamespace(rank=0),
    )  # fmt: skip
    vars(run).update(more)
    return run


def feed(callback, losses, run=None, name="loss"):
    """Run the callback for epochs with these losses; return the run and its lr_factor after each epoch."""
    run = run or run_of()
    factors = []
    for loss in losses:
        if run.stop:
            break
        run.epoch += 1
        callback.after_epoch(run, {"epoch": run.epoch, name: loss})
        factors.append(run.lr_factor)
    return run, factors


def started(callback, **more):
    callback.start(run_of(**more))
    return callback


def test_callback_hooks_do_nothing_by_default():
    callback = Callback()
    for hook in (callback.start, callback.after_step, callback.after_interrupt, callback.finish):
        assert hook(None) is None
    assert callback.after_epoch(None, {}) is None and callback.restore({}, {}) is None
    assert callback.state() == {} and callback.arrays() == {}


@pytest.mark.parametrize(
    ("name", "values", "improved"),
    [
        ("loss", [3, 2, 2, 2.5, 1], [True, True, False, False, True]),
        ("val_rmse", [3, 4, 2], [True, False, True]),
        ("val_accuracy", [0.5, 0.4, 0.6], [True, False, True]),
        ("val_r2", [-3.0, -4.0, 0.1], [True, False, True]),
        ("loss", [float("nan"), 2, float("nan"), 1], [False, True, False, True]),
    ],
)
def test_best_prefers_the_better_values_of_the_column(name, values, improved):
    best = started(BestWeights(name))
    assert [best.improves({name: value}) for value in values] == improved


def test_best_monitors_the_validation_loss_if_there_is_one():
    best = started(BestWeights(), columns={"loss": "min", "val_loss": "min"})
    assert best.improves({"loss": 1.0, "val_loss": 2.0}) and best.best == 2.0
    best = started(BestWeights())
    assert best.improves({"loss": 1.0}) and best.best == 1.0


def test_best_requires_an_improvement_of_more_than_min_delta():
    best = started(EarlyStopping(1, "loss", min_delta=0.5))
    assert [best.improves({"loss": value}) for value in (3.0, 2.6, 2.5, 2.4)] == [True, False, False, True]
    best = started(EarlyStopping(1, "val_accuracy", min_delta=0.25))
    assert [best.improves({"val_accuracy": value}) for value in (0.25, 0.45, 0.5, 0.625)] == [
        True,
        False,
        False,
        True,
    ]


def test_unknown_column_to_monitor_is_refused_with_the_available_columns():
    with pytest.raises(ConfigurationError, match=r"'val_acc' to monitor; there are loss, val_rmse"):
        started(BestWeights("val_acc"))


MONITORS = [EarlyStopping, BestWeights, ReduceOnPlateau, lambda **given: Checkpoints("nowhere", **given)]


@pytest.mark.parametrize("make", MONITORS)
@pytest.mark.parametrize(("mode", "values"), [("min", [3, 4, 2]), ("max", [2, 1, 3])])
def test_stated_mode_decides_which_values_are_better(make, mode, values):
    best = started(make(monitor="val_mape", mode=mode), columns={"loss": "min", "val_mape": None})
    assert [best.improves({"val_mape": value}) for value in values] == [True, False, True]


@pytest.mark.parametrize("make", MONITORS)
def test_column_of_unknown_direction_is_refused_with_the_remedy(make):
    monitor = make(monitor="val_mape")
    with pytest.raises(ConfigurationError, match=r"'val_mape', and .* add mode='min' or mode='max' to "):
        started(monitor, columns={"loss": "min", "val_mape": None})
    with pytest.raises(ConfigurationError, match=r"must be 'min' or 'max', not 'lower'"):
        started(make(mode="lower"))


@pytest.mark.parametrize("make", MONITORS)
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_never_the_best(make, mode, value):
    best = started(make(mode=mode))
    assert [best.improves({"loss": v}) for v in (value, value, 2.0, value)] == [False, False, True, False]
    assert best.best == 2.0


def test_monitor_that_is_always_nan_stops_the_run_and_keeps_no_weights():
    network = Network(2, [Dense(1)], "numpy", seed=1)
    run, _ = feed(started(EarlyStopping(3)), [np.nan] * 9)
    kept = started(BestWeights())
    feed(kept, [np.nan], run_of(network=network))
    assert run.epoch == 3 and kept.kept == {}
    assert feed(started(ReduceOnPlateau(0.5, patience=1)), [np.nan] * 4)[1] == [1, 0.5, 0.5, 0.25]


def test_default_settings_of_callbacks_are_the_documented_ones():
    assert EarlyStopping() == EarlyStopping(10, None, 0, None) and BestWeights() == BestWeights(None, None)
    assert ReduceOnPlateau() == ReduceOnPlateau(0.1, 10, None, 0, 0, 0, None)
    assert Checkpoints("x") == Checkpoints("x", 1, None, None, {}) and Checkpoints("x", 1, 1).every_steps == 1


def test_early_stopping_stops_after_patience_epochs_without_improvement():
    assert feed(started(EarlyStopping(2)), [5, 4, 4, 4, 1])[0].epoch == 4
    assert feed(started(EarlyStopping(2)), [5, 4, 4, 3, 3, 2])[0].stop is False
    assert feed(started(EarlyStopping(1, min_delta=0.5)), [5, 4, 3.6, 1])[0].epoch == 3
    assert (
        feed(started(EarlyStopping(3, monitor="val_accuracy")), [1, 2, 1, 1, 1, 9], name="val_accuracy")[
            0
        ].epoch
        == 5
    )


def test_early_stopping_does_not_take_back_the_stop_of_another_callback():
    run = run_of(stop=True)
    started(EarlyStopping(5)).after_epoch(run, {"loss": 1.0})
    assert run.stop is True


def test_early_stopping_resets_at_the_start_of_training():
    stopping = started(EarlyStopping(1))
    feed(stopping, [1, 2])
    assert feed(started(stopping), [5, 4, 3])[0].stop is False


def test_plateau_lowers_the_rate_after_more_than_patience_epochs():
    callback = started(ReduceOnPlateau(factor=0.5, patience=1))
    assert feed(callback, [5, 4, 4, 4, 4, 4, 3])[1] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]


def test_plateau_has_a_cooldown_and_a_floor():
    callback = started(ReduceOnPlateau(factor=0.5, patience=0, cooldown=2, factor_floor=0.3))
    assert feed(callback, [1] * 9)[1] == [1, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3, 0.3]


@pytest.mark.parametrize(
    "make",
    [
        lambda: EarlyStopping(0),
        lambda: EarlyStopping(-1),
        lambda: ReduceOnPlateau(1.0),
        lambda: ReduceOnPlateau(0.0),
        lambda: ReduceOnPlateau(1.5),
        lambda: ReduceOnPlateau(-0.5),
        lambda: ReduceOnPlateau(patience=-1),
        lambda: Checkpoints("x", every_epochs=0),
        lambda: Checkpoints("x", every_steps=0),
    ],
)
def test_settings_outside_their_range_are_refused(make):
    with pytest.raises(ConfigurationError):
        make()


def test_best_weights_restores_the_best_epoch():
    network = Network(2, [Dense(1)], "numpy", seed=1)
    callback, kept = started(BestWeights()), None
    run = run_of(network=network)
    for loss in (3.0, 1.0, 2.0):
        network.params.theta += 1
        if loss == 1.0:
            kept = network.params.to_host()
        feed(callback, [loss], run)
    callback.finish(run)
    for name, value in network.params.to_host().items():
        np.testing.assert_array_equal(value, kept[name])


def test_best_weights_without_an_epoch_does_not_change_the_network():
    network = Network(2, [Dense(1)], "numpy", seed=1)
    before = network.params.theta.copy()
    started(BestWeights()).finish(run_of(network=network))
    np.testing.assert_array_equal(network.params.theta, before)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EarlyStopping(4),
        lambda: ReduceOnPlateau(0.5, 2, cooldown=3),
        BestWeights,
        lambda: Checkpoints("nowhere"),
    ],
)
@pytest.mark.parametrize("epochs", range(7))
def test_callback_restored_from_json_continues_as_if_uninterrupted(make, epochs, monkeypatch):
    monkeypatch.setattr(Checkpoints, "after_epoch", lambda self, run, row: self.improves(row))
    losses = [5, 4, 4, 4.5, 4, 4, 4, 3]
    whole, first, second = make(), make(), make()
    runs = [run_of(network=Network(2, [Dense(1)], "numpy")) for _ in range(2)]
    whole.start(runs[0])
    feed(whole, losses, runs[0])
    first.start(runs[1])
    feed(first, losses[:epochs], runs[1])
    second.start(runs[1])
    second.restore(json.loads(json.dumps(first.state())), first.arrays())
    feed(second, losses[epochs:], runs[1])
    assert second.state() == whole.state()
    assert (runs[0].stop, runs[0].lr_factor) == (runs[1].stop, runs[1].lr_factor)


@pytest.mark.parametrize("epochs", range(10))
def test_plateau_restored_during_its_cooldown_continues_it(epochs):
    whole, first, second = (started(ReduceOnPlateau(0.5, patience=1, cooldown=3)) for _ in range(3))
    run, factors = feed(first, [1] * epochs)
    second.restore(json.loads(json.dumps(first.state())), first.arrays())
    assert factors + feed(second, [1] * (10 - epochs), run)[1] == feed(whole, [1] * 10)[1]


def test_best_epoch_before_a_stop_is_restored_if_no_later_epoch_is_better():
    run, first, second = (
        run_of(network=Network(2, [Dense(1)], "numpy")),
        started(BestWeights()),
        started(BestWeights()),
    )
    best = run.network.params.to_host()
    feed(first, [1.0], run)
    run.network.params.theta += 1
    second.restore(json.loads(json.dumps(first.state())), first.arrays())
    feed(second, [2.0, 3.0], run)
    second.finish(run)
    for name, value in run.network.params.to_host().items():
        np.testing.assert_array_equal(value, best[name])


def test_error_for_callbacks_that_differ_from_the_saved_ones_names_both():
    with pytest.raises(
        IncompatibleCheckpointError, match=r"\['BestWeights'\]; this run has \['EarlyStopping'\]"
    ):
        require_restorable([EarlyStopping(1)], [{"callback": "BestWeights", "best": 1.0}])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "the state of EarlyStopping in the checkpoint lacks best, waited"),
        ({"best": 1.0, "others": 0}, "the state of EarlyStopping in the checkpoint lacks waited"),
        ({"best": 1.0, "waited": "2"}, "waited of EarlyStopping in the checkpoint is '2', not a number"),
        ({"best": None, "waited": 2}, "best of EarlyStopping in the checkpoint is None, not a number"),
    ],
)
def test_error_for_an_unusable_callback_state_names_the_field(state, message):
    with pytest.raises(IncompatibleCheckpointError, match=message):
        require_restorable([started(EarlyStopping(1))], [{"callback": "EarlyStopping", **state}])


def test_usable_callback_state_is_accepted():
    require_restorable([], [])
    require_restorable(
        [started(EarlyStopping(1))], [{"callback": "EarlyStopping", "best": 1.0, "waited": 0, "more": None}]
    )


@pytest.mark.parametrize(
    ("settings", "steps", "epochs"),
    [
        ({}, [], [1, 2, 3, 4, 5]),
        ({"every_epochs": 2}, [], [2, 4, 5]),
        ({"every_epochs": 9}, [], [5]),
        ({"every_epochs": 9, "every_steps": 1}, [1, 2, 3, 4], [5]),
        ({"every_epochs": 9, "every_steps": 3}, [3], [5]),
    ],
)
def test_last_is_written_at_the_chosen_interval_and_at_the_end(monkeypatch, settings, steps, epochs):
    monkeypatch.setattr(Checkpoints, "improves", lambda self, row: False)
    callback, written = started(Checkpoints("nowhere", **settings)), []
    run = run_of(save=lambda path, extras: written.append((run.epoch, run.steps_done)))
    run.epochs = 5
    assert callback.needs_every_step() == ("every_steps" in settings)
    for run.steps_done in range(1, 5):
        callback.after_step(run)
    assert [step for _, step in written] == steps
    written.clear()
    for run.epoch in range(1, 6):
        callback.after_epoch(run, {})
    assert [epoch for epoch, _ in written] == epochs
