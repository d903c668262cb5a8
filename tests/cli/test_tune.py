"""`ffnn-gpu tune` leaves the best trial as a run, continues, and refuses before it writes."""

import csv
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from ffnn_gpu.cli import tune, tune_command
from ffnn_gpu.cli.commands import main
from ffnn_gpu.cli.settings import read_toml
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.tuning.pictures import PICTURES
from ffnn_gpu.estimators.tuning.problem import Problem
from ffnn_gpu.training.callbacks import Callback
from tests.cli.killed_runs import files_of, leave_halves

pytest.importorskip("duckdb")
pytest.importorskip("optuna")

RNG = np.random.default_rng(2)
N = 160
X = RNG.normal(size=(N, 2)).round(3)
COLOR = RNG.choice(["red", "green"], N)
LABEL = np.where(X[:, 0] * np.where(COLOR == "red", 1, -1) > 0, "yes", "no")
FEW = ("--epochs", "3", "--hidden", "8", "--device", "numpy", "--validation", "0.25")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{a},{b},{c},{d}" for (a, b), c, d in zip(X.tolist(), COLOR, LABEL, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["x,z,color,label", *rows]) + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def no_plots(monkeypatch):
    monkeypatch.setattr(tune, "draw", lambda *given: [])
    monkeypatch.setattr(tune.result, "_draw_plots", lambda *given: None)


def run(*words):
    return CliRunner().invoke(main, [*map(str, words)])


def done(*words):
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result


def numbers(folder="out"):
    return Model.load(folder, "numpy").network.params.to_host()


def trials(folder="out"):
    """Return the finished trials without their numbers and seconds."""
    with open(f"{folder}/trials.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["state"] != "cut off"]
    return [{name: row[name] for name in row if name not in ("number", "seconds")} for row in rows]


def content():
    return {path.name: path.read_bytes() for path in Path("out").iterdir()}


def value_of(folder):
    return json.loads(Path(folder, "result.json").read_text("utf-8"))["search"]["value"]


class Send(Callback):
    """Send a signal after the first epoch."""

    def __init__(self, number):
        self.number = number

    def after_epoch(self, run, row):
        signal.raise_signal(self.number)


def interrupt_trial(monkeypatch, n, number):
    original, calls = Problem.train, []

    def train(self, config, callbacks=()):
        calls.append(config)
        return original(self, config, [*callbacks, *([Send(number)] if len(calls) == n else [])])

    monkeypatch.setattr(Problem, "train", train)


def test_best_trial_is_a_run_that_every_command_reads():
    found = done("tune", "t.csv", "--target", "label", "--trials", 4, *FEW, "--out", "out")
    assert "trial 3: " in found.stderr and "4/4" in found.stderr
    report = json.loads(Path("out/result.json").read_text("utf-8"))
    best = report["search"]
    assert best["metric"] == "accuracy"
    assert sum(best["trials"].values()) == 4 and best["value"] >= best["first"]["value"]
    assert {*PICTURES, "learning_curve.png", "confusion_matrix.png", "study.db"} <= {*os.listdir("out")}
    assert f"test accuracy {report['test']['accuracy']:.4f}" in found.stdout
    assert (
        json.loads(done("evaluate", "out", "--json", "--quiet").stdout)["accuracy"]
        == report["test"]["accuracy"]
    )
    assert len(done("predict", "out", "t.csv", "--quiet").stdout.splitlines()) == N + 1
    assert done("export", "out", "--numpy", "m.py").exit_code == 0
    done("train", "--config", "out/config.toml", "--out", "again", "--quiet")
    again, tuned = numbers("again"), numbers("out")
    for name, value in tuned.items():
        np.testing.assert_array_equal(again[name], value)
    assert json.loads(Path("again/result.json").read_text("utf-8"))["test"] == report["test"]


def test_interrupted_search_is_continued_as_if_it_had_not_been(no_plots, monkeypatch):
    words = ("tune", "t.csv", "--target", "label", "--trials", 5, *FEW, "--lr", "0.01")
    done(*words, "--out", "whole", "--quiet")
    with monkeypatch.context() as patch:
        interrupt_trial(patch, 3, signal.SIGINT)
        stopped = run(*words, "--out", "out")
    assert stopped.exit_code == 130 and len(trials()) == 2
    assert "interrupted by SIGINT; to continue:" in stopped.stdout
    assert "tune --resume --out out --trials 5" in stopped.stdout
    assert float(max(trials(), key=lambda row: float(row["value"] or 0))["value"]) == value_of("out")
    done("tune", "--resume", "--out", "out", "--trials", 5, "--quiet")
    assert trials() == trials("whole") and len(trials()) == 5
    for name, value in numbers("whole").items():
        np.testing.assert_array_equal(numbers()[name], value)
    assert read_toml("out/config.toml") == read_toml("whole/config.toml")


def test_resumed_search_with_nothing_left_to_do_sweeps_what_killed_runs_left(no_plots):
    done("tune", "t.csv", "--target", "label", "--trials", 1, *FEW, "--out", "out", "--quiet")
    before = leave_halves(Path("out"))
    done("tune", "--resume", "--out", "out", "--trials", 1, "--quiet")
    assert files_of(Path("out")) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_the_first_trial_leaves_a_search_to_resume(number, no_plots, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_trial(patch, 1, number)
        stopped = run("tune", "t.csv", "--trials", 2, *FEW, "--out", "out")
    assert stopped.exit_code == 128 + number and not os.path.exists("out/model.safetensors")
    line = f"{number.name} ended the search before a trial was complete"
    assert stopped.stderr.splitlines()[-1] == line
    done("tune", "--resume", "--out", "out", "--trials", 2, "--quiet")
    assert len(trials()) == 2


def test_config_is_where_the_search_begins_and_flags_are_kept(no_plots):
    text = 'data = "t.csv"\nhidden = [16, 8]\nlr = 0.02\nepochs = 2\ndevice = "numpy"\n'
    Path("c.toml").write_text(text)
    done(
        "tune",
        "--config",
        "c.toml",
        "--dropout",
        "0.1",
        "--set",
        "batch_size=32",
        "--trials",
        3,
        "--out",
        "out",
    )
    rows = trials()
    assert (rows[0]["hidden"], rows[0]["lr"]) == ("16,8", "0.02") and len({row["lr"] for row in rows}) == 3
    assert not {"dropout", "batch_size"} & {*rows[0]}
    saved = read_toml("out/config.toml")
    assert (saved["dropout"], saved["batch_size"]) == (0.1, 32)


def test_bundled_arrays_are_searched_too(no_plots):
    done(
        "tune", "iris", "--trials", 2, "--epochs", 2, "--search", "lr,hidden", "--device", "numpy", "--quiet"
    )
    assert os.listdir("runs") == ["iris-1"]
    assert {*trials("runs/iris-1")[0]} == {"state", "value", "epochs", "reason", "hidden", "lr"}


def test_quiet_search_prints_its_result_alone(no_plots):
    found = done("tune", "t.csv", "--trials", 1, *FEW, "--out", "out", "--quiet")
    assert found.stderr == "" and "best of 1 trials (1 complete): trial 0" in found.stdout
    shown = json.loads(done("tune", "--resume", "--out", "out", "--trials", 1, "--quiet", "--json").stdout)
    assert shown["folder"] == "out" and shown["search"]["trials"] == {"complete": 1}


REFUSED = {
    "no end": (("t.csv",), "a search needs an end: give trials"),
    "a bad time": (("t.csv", "--time", "soon"), "time = 'soon' is not accepted"),
    "no data": (("--trials", "2"), "no data to train on"),
    "no such file": (("no.csv", "--trials", "2"), "there is no file no.csv"),
    "no such column": (("t.csv", "--trials", "2", "--drop", "colour"), "did you mean 'color'"),
    "no validation rows": (("t.csv", "--trials", "2", "--validation", "0"), "validation = 0 leaves none"),
    "no such metric": (("t.csv", "--trials", "2", "--metric", "rmse"), "cannot compare networks of a binary"),
    "no such search": (("t.csv", "--trials", "2", "--search", "epochs"), "search: 'epochs' has no range"),
    "nothing to resume": (("--trials", "2", "--resume", "--out", "t"), "there is nothing to resume in t"),
    "resume of nothing": (("--trials", "2", "--resume"), "--resume needs --out, the folder of the search"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_words_are_one_line_and_no_folder(case):
    words, message = REFUSED[case]
    refused = run("tune", *words)
    assert refused.exit_code in (2, 3) and message in refused.stderr.splitlines()[-1]
    assert os.listdir() == ["t.csv"]


def test_several_ranks_are_refused(monkeypatch):
    monkeypatch.setattr(tune_command, "ranks_of", lambda device: SimpleNamespace(size=4))
    refused = run("tune", "t.csv", "--trials", 2)
    assert refused.exit_code == 2 and "tune runs in one process, not in 4; start it without" in refused.stderr


def test_folder_of_another_search_is_refused_and_kept(no_plots):
    words = ("tune", "t.csv", "--target", "label", *FEW, "--out", "out")
    done(*words, "--trials", 1, "--quiet")
    before = content()
    refusals = {
        "out exists; use --resume, --overwrite or another --out": run(*words, "--trials", 2),
        "epochs 3 → 5": run(*words, "--trials", 2, "--resume", "--epochs", 5),
        "metric 'accuracy' → 'loss'": run(*words, "--trials", 2, "--resume", "--metric", "loss"),
        "the search of": run(*words, "--trials", 2, "--resume", "--search", "lr"),
        "--resume continues a run and --overwrite": run(*words, "--trials", 2, "--resume", "--overwrite"),
        "out holds a search; continue it with `ffnn-gpu tune --resume`": run(
            "train", "--resume", "--out", "out"
        ),
    }
    Path("t.csv").write_text(Path("t.csv").read_text().replace(f"\n{X[0, 0]},", "\n9.75,", 1))
    refusals["the data: other "] = run(*words, "--trials", 2, "--resume")
    for message, refused in refusals.items():
        assert refused.exit_code == 2 and message in refused.stderr, (message, refused.output)
    assert content() == before


def test_overwrite_begins_anew(no_plots):
    words = ("tune", "t.csv", "--target", "label", *FEW, "--out", "out", "--quiet")
    done(*words, "--trials", 2)
    done(*words, "--trials", 1, "--seed", 4, "--overwrite")
    assert len(trials()) == 1 and read_toml("out/start.toml")["seed"] == 4


def test_failing_search_ends_with_code_1_and_the_reason():
    failed = run("tune", "t.csv", "--trials", 2, *FEW, "--optimizer", "sgd", "--lr", "1e30", "--out", "out")
    assert failed.exit_code == 1
    assert "error: no trial could be completed, of 2: the " in failed.stderr.splitlines()[-1]


def test_search_begins_with_the_file_of_an_ensemble(no_plots):
    text = 'data = "t.csv"\nmodel = "tabular"\npreset = "fast"\ntime_limit = "5m"\nmetrics = ["f1_macro"]\n'
    Path("ensemble.toml").write_text(text, "utf-8")
    found = done("tune", "--config", "ensemble.toml", *FEW, "--trials", "1", "--out", "out")
    said = "a search trains one network, and leaves out preset, time_limit, model of ensemble.toml"
    assert said in found.stderr
    settings = read_toml("out/config.toml")
    assert settings["model"] == "mlp" and settings["metrics"] == ["f1_macro"]
    assert run("tune", "--config", "ensemble.toml", "--model", "tabular", "--trials", "1").exit_code == 2
