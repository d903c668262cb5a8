"""`tune_table` finds settings at least as good as the first ones, and never by the test rows."""

import gc
import os
import signal
import subprocess
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import ffnn_gpu
from ffnn_gpu.errors import ConfigurationError, DataError, DivergedError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.recipe import evaluated
from ffnn_gpu.estimators.tuning import Choices, Numbers, Space, search, trial, tune_table
from ffnn_gpu.estimators.tuning.problem import Problem
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.training.callbacks import Callback

pd = pytest.importorskip("pandas")
pytest.importorskip("duckdb")
optuna = pytest.importorskip("optuna")

RNG = np.random.default_rng(1)
N = 200
X = RNG.normal(size=N).round(3)
KIND = RNG.choice(["red", "green"], N)
FRAME = pd.DataFrame(
    {
        "x": X,
        "z": RNG.normal(size=N).round(3),
        "kind": KIND,
        "w": (0.2 + RNG.random(N)).round(3),
        "when": np.arange(N) + 0.5,
        "price": (X * np.where(KIND == "red", 2, -1) + 0.1 * RNG.normal(size=N)).round(4),
    }
)
SETTINGS = {"device": "numpy", "epochs": 4, "hidden": (8,), "validation": 0.25, "drop": ["w", "when"]}
SMALL = Space(width=Numbers(4, 8, step=4), depth=Numbers(1, 2, step=1), activation=Choices(("relu", "tanh")))


def tune(frame=FRAME, target="price", space=SMALL, **settings):
    return ffnn_gpu.tune_table(frame, target, space=space, **{"verbose": 0, **SETTINGS, **settings})


def without_times(found):
    """Return the finished trials without what no second run repeats."""
    rows = [row for row in found.trials if row["state"] != "cut off"]
    return [{name: value for name, value in row.items() if name not in ("number", "seconds")} for row in rows]


def wrapped(monkeypatch, change):
    """Let change(n, callbacks) give the callbacks of the n-th network that is trained."""
    original, calls = Problem.train, []

    def train(self, config, callbacks=()):
        calls.append(config)
        return original(self, config, change(len(calls), [*callbacks]))

    monkeypatch.setattr(Problem, "train", train)
    return calls


class Send(Callback):
    """Send Ctrl-C after the first epoch."""

    def after_epoch(self, run, row):
        signal.raise_signal(signal.SIGINT)


# ---------------------------------------------------------------- what is found


@pytest.mark.parametrize("target", ["price", "kind"])
def test_first_trial_is_the_network_of_train_table(target):
    settings = {"device": "numpy", "epochs": 2, "validation": 0.25}
    found = ffnn_gpu.tune_table(FRAME, target, trials=1, verbose=0, **settings)
    plain = ffnn_gpu.train_table(FRAME, target, verbose=0, **settings)
    want = plain.model.network.params.to_host()
    for name, value in found.model.network.params.to_host().items():
        np.testing.assert_array_equal(value, want[name])
    assert found.test == plain.test
    assert repr(found).startswith(f"<TunedTable: 1 trial, best {found.metric} ") and len(repr(found)) < 200
    assert found.value == plain.history[f"val_{found.metric}"][-1]
    assert (found.rows, found.left_out, found.warnings) == (plain.rows, plain.left_out, plain.warnings)


@pytest.mark.parametrize(
    ("target", "metric", "lower"),
    [("price", None, True), ("price", "r2", False), ("price", "loss", True), ("kind", "AUC", False)],
)
def test_best_trial_is_the_best_by_the_direction_of_the_metric(target, metric, lower):
    found = tune(target=target, metric=metric, trials=6)
    values = [row["value"] for row in found.trials if row["state"] == "complete"]
    assert found.metric == ("roc_auc" if target == "kind" else metric or "rmse")
    assert len({*values}) > 1 and found.value == (min(values) if lower else max(values))
    assert found.study.best.number == next(r["number"] for r in found.trials if r["value"] == found.value)


def test_settings_of_the_best_trial_train_the_same_network():
    found = tune(trials=6, search="lr")
    again = ffnn_gpu.train_table(FRAME, "price", verbose=0, **{**SETTINGS, **found.settings})
    want = again.model.network.params.to_host()
    for name, value in found.model.network.params.to_host().items():
        np.testing.assert_array_equal(value, want[name])
    assert again.test == found.test and {*found.settings} == {"lr"}


def test_given_settings_are_those_of_every_trial():
    found = tune(trials=4, lr=0.02, dropout=0.25)
    assert {row["state"] for row in found.trials} <= {"complete", "pruned"}
    assert not {"lr", "dropout", "hidden"} & {*found.trials[0]}
    assert (found.config.lr, found.config.dropout, found.config.hidden) == (0.02, 0.25, (8,))


def test_value_has_the_weights_of_the_validation_rows(monkeypatch):
    problems, original = [], Problem.of
    monkeypatch.setattr(Problem, "of", lambda *given: problems.append(original(*given)) or problems[-1])
    found = tune(trials=1, weight="w", drop=["when"])
    part = problems[0].split.validation
    assert found.value == evaluated(found.model, part)["rmse"]
    assert found.value != evaluated(found.model, part._replace(weight=None))["rmse"]


def test_same_seed_gives_the_same_study_and_another_seed_another():
    first, second, third = (without_times(tune(trials=7, epochs=2, seed=seed)) for seed in (0, 0, 1))
    assert first == second and [row["lr"] for row in first[1:]] != [row["lr"] for row in third[1:]]


# ---------------------------------------------------------------- what is not seen


def test_test_rows_have_no_part_in_the_search(monkeypatch):
    calls = []
    monkeypatch.setattr(
        tune_table, "evaluated", lambda model, part: calls.append(part) or evaluated(model, part)
    )
    spoilt = FRAME.copy()
    spoilt.loc[160:, ["x", "z"]] *= 5  # the later fifth is the test set
    spoilt.loc[160:, "price"] = -9.0
    settings = {"trials": 8, "split_by": "when", "drop": ["w"]}
    first, second = tune(**settings), tune(spoilt, **settings)
    assert without_times(first) == without_times(second)
    assert first.rows["test"] == 40 and first.test["rmse"] < second.test["rmse"]
    assert [len(part.x) for part in calls] == [40, 40]  # one evaluation for each search


def test_table_is_read_and_encoded_once(monkeypatch):
    counts = {"read": 0, "encoded": 0, "selected": 0}
    read, encode, features = tune_table.read_data, Encoding.encode, Model.features

    def count(name, function):
        def counted(*given):
            counts[name] += 1
            return function(*given)

        return counted

    monkeypatch.setattr(tune_table, "read_data", count("read", read))
    monkeypatch.setattr(Encoding, "encode", count("encoded", encode))
    monkeypatch.setattr(Model, "features", count("selected", features))
    tune(trials=1)
    assert (counts["read"], counts["encoded"]) == (1, 1)
    once, counts["selected"] = counts["selected"], 0
    tune(trials=5)
    assert (counts["read"], counts["encoded"], counts["selected"]) == (2, 2, once)


# ---------------------------------------------------------------- trials that end early


def test_bad_trial_is_pruned_early():
    space = Space(lr=Choices((0.008, 0.009, 0.011, 0.012, 1e-8)))
    found = tune(trials=16, epochs=8, lr=0.01, search=["lr"], space=space)
    bad = [row for row in found.trials[5:] if row["lr"] == 1e-8]
    assert bad and {(row["state"], row["epochs"]) for row in bad} == {("pruned", 5)}
    assert {row["state"] for row in found.trials[:5]} == {"complete"}
    assert found.study.study.trials[bad[0]["number"]].intermediate_values.keys() == {1, 2, 3, 4, 5}


def test_diverging_trial_is_failed_and_the_search_goes_on(capsys):
    space = Space(lr=Choices((1e30,)))
    found = tune(trials=8, lr=0.01, search=["lr"], space=space, optimizer="sgd", verbose=1)
    failed = [row for row in found.trials if row["lr"] == 1e30]
    assert failed and {row["state"] for row in failed} == {"failed"}
    assert all("the loss is" in row["reason"] for row in failed) and len(found.trials) == 8
    assert found.settings == {"lr": 0.01}
    assert "failed: " in capsys.readouterr().err


def test_trials_that_all_fail_are_an_error_with_their_reasons():
    with pytest.raises(DivergedError, match=r"no trial could be completed, of 3: the loss is .*\(\d ×\)"):
        tune(trials=3, lr=1e30, optimizer="sgd")


def test_first_trial_is_completed_whatever_the_time_and_no_other_begins():
    found = tune(time=0.001)
    assert [row["state"] for row in found.trials] == ["complete"]


def test_time_ends_a_search_within_a_trial(monkeypatch):
    clock = SimpleNamespace(late=0.0, perf_counter=lambda: clock.late)
    for module in (search, trial):
        monkeypatch.setattr(module, "time", clock)
    pass_the_time = lambda self, run: setattr(clock, "late", clock.late + 0.5)  # noqa: E731
    slow = type("Slow", (Callback,), {"after_step": pass_the_time})
    wrapped(monkeypatch, lambda n, callbacks: [*callbacks, slow()] if n == 2 else callbacks)
    found = tune(time="1.5s", epochs=5)
    assert found.trials[1]["epochs"] < 5
    assert [row["state"] for row in found.trials] == ["complete", "cut off"]
    assert found.trials[1]["reason"] == "the time is up" and found.value == found.trials[0]["value"]


def test_ctrl_c_ends_the_search_with_the_best_so_far(monkeypatch):
    wrapped(monkeypatch, lambda n, callbacks: [*callbacks, Send()] if n == 3 else callbacks)
    found = tune(trials=9)
    assert found.interrupted == signal.SIGINT
    assert [row["state"] for row in found.trials] == ["complete", "complete", "cut off"]
    assert found.value == min(row["value"] for row in found.trials[:2]) and found.test["rmse"] > 0


def test_ctrl_c_in_the_first_trial_has_no_result(monkeypatch):
    wrapped(monkeypatch, lambda n, callbacks: [*callbacks, Send()])
    with pytest.raises(KeyboardInterrupt, match="SIGINT ended the search before a trial was complete"):
        tune(trials=9)


def test_networks_of_past_trials_are_freed(monkeypatch):
    """The garbage collector would free them too, but later than the next network needs the memory."""
    networks, alive, original = [], [], Problem.train

    def train(self, config, callbacks=()):
        alive.append(sum(network() is not None for network in networks))
        model, history = original(self, config, callbacks)
        networks.append(weakref.ref(model.network))
        return model, history

    monkeypatch.setattr(Problem, "train", train)
    gc.collect()
    gc.disable()
    try:
        tune(trials=6, early_stopping=3)
    finally:
        gc.enable()
    assert max(alive) <= 2  # the best one, and the one before


# ---------------------------------------------------------------- the SQLite file


@pytest.fixture(scope="module")
def whole():
    """Return the finished trials of a search that nothing interrupts."""
    return without_times(tune(trials=10, epochs=3))


def test_continued_study_equals_the_uninterrupted_one(whole, tmp_path, monkeypatch):
    file = tmp_path / "study.db"
    part = tune(trials=3, epochs=3, storage=file)
    assert len(part.trials) == 3
    with monkeypatch.context() as patch:
        wrapped(
            patch, lambda n, callbacks: [*callbacks, Send()] if n == 5 else callbacks
        )  # n = 1 trains again
        assert tune(trials=10, epochs=3, storage=file).interrupted == signal.SIGINT
    with monkeypatch.context() as patch:  # as if the process were killed within a trial
        patch.setattr(tune_table, "run_search", lambda problem, study, *_: 1 / 0 if study.ask() else None)
        with pytest.raises(ZeroDivisionError):
            tune(trials=10, epochs=3, storage=file)
    found = tune(trials=10, epochs=3, storage=file)
    assert without_times(found) == whole
    assert [row["number"] for row in found.trials if row["state"] == "cut off"] == [6]


def test_study_is_read_back_by_optuna(tmp_path):
    found = tune(trials=4, storage=tmp_path / "study.db")
    (name,) = optuna.get_all_study_names(f"sqlite:///{tmp_path / 'study.db'}")
    read = optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert read.best_value == found.value and len(read.trials) == 4
    assert sorted(read.trials[0].intermediate_values) == [1, 2, 3, 4]


def test_finished_study_trains_its_best_network_again_and_no_other(tmp_path, monkeypatch):
    file = tmp_path / "study.db"
    first = tune(trials=4, storage=file)
    calls = wrapped(monkeypatch, lambda n, callbacks: callbacks)
    again = tune(trials=4, storage=file)
    assert len(calls) == 1 and again.trials == first.trials
    for name, value in again.model.network.params.to_host().items():
        np.testing.assert_array_equal(value, first.model.network.params.to_host()[name])
    with pytest.raises(ConfigurationError, match="trials = 3 is fewer than the 4 that the study already has"):
        tune(trials=3, storage=file)


OTHERS = {
    "a setting": ({"epochs": 5}, "epochs 4 → 5"),
    "a fixed setting": ({"lr": 0.1}, "lr None → 0.1"),
    "the metric": ({"metric": "mae"}, "metric 'rmse' → 'mae'"),
    "the ranges": ({"search": ["lr"]}, "the search of activation"),
    "a cell": ({"frame": FRAME.assign(z=FRAME.z + (FRAME.index == 3))}, "the data: other "),
    "the order of rows": ({"frame": FRAME[::-1].reset_index(drop=True)}, "the data: other "),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    file = tmp_path_factory.mktemp("stored") / "study.db"
    tune(trials=1, storage=file)
    return file


@pytest.mark.parametrize("case", OTHERS)
def test_study_of_other_data_or_settings_is_refused(stored, case):
    settings, message = OTHERS[case]
    before = stored.read_bytes()
    with pytest.raises(ConfigurationError, match=f"study.db holds a search that differs: .*{message}"):
        tune(trials=2, storage=stored, **settings)
    assert stored.read_bytes() == before


def test_file_that_is_no_study_is_refused_and_kept(tmp_path):
    (tmp_path / "notes.txt").write_text("no database " * 99)
    with pytest.raises(ConfigurationError, match=r"notes\.txt cannot be used as the SQLite file of a study"):
        tune(trials=1, storage=tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text().startswith("no database")
    with pytest.raises(ConfigurationError, match="cannot be used as the SQLite file"):
        tune(trials=1, storage=tmp_path / "nowhere" / "study.db")
    with pytest.raises(ConfigurationError, match="a path with a question mark"):
        tune(trials=1, storage=tmp_path / "what?.db")
    assert os.listdir(tmp_path) == ["notes.txt"]


# ---------------------------------------------------------------- what is refused, and what is said


REFUSED = {
    "no end": ({}, ConfigurationError, "a search needs an end"),
    "a bad time": ({"time": "soon"}, ConfigurationError, "time = 'soon' is not accepted"),
    "no validation rows": ({"trials": 1, "validation": 0}, ConfigurationError, "validation = 0 leaves none"),
    "an unknown metric": ({"trials": 1, "metric": "rsme"}, ConfigurationError, "choose from loss, rmse"),
    "a metric of classes": ({"trials": 1, "metric": "accuracy"}, ConfigurationError, "of a regression task"),
    "an unknown search": ({"trials": 1, "search": "lrr"}, ConfigurationError, "did you mean 'lr'"),
    "an unknown setting": ({"trials": 1, "epoch": 3}, ConfigurationError, "did you mean 'epochs'"),
    "a setting of the command": ({"trials": 1, "out": "run"}, ConfigurationError, r"model.save\(path\)"),
    "an unknown column": ({"trials": 1, "group": "kindd"}, DataError, "^group: .*did you mean 'kind'"),
    "an unknown target": ({"trials": 1, "target": "prize"}, DataError, "did you mean 'price'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_calls_are_refused_before_a_study_is_made(case, tmp_path):
    settings, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        tune(storage=tmp_path / "study.db", **settings)
    assert os.listdir(tmp_path) == []


def test_missing_optuna_is_said_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigurationError, match=r'tuning needs Optuna: pip install "ffnn_gpu\[tune\]"'):
        tune(trials=1)


def test_optuna_is_imported_by_the_first_search_only():
    code = "import ffnn_gpu.cli.commands, sys; ffnn_gpu.tune_table; assert 'optuna' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_trial_is_a_line_and_silence_is_silent(capsys):
    verbosity = optuna.logging.get_verbosity()
    tune(trials=2, verbose=1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("1/2  trial 0: rmse ") and "the best so far: " in lines[0]
    tune(trials=2)
    assert capsys.readouterr() == ("", "") and optuna.logging.get_verbosity() == verbosity
