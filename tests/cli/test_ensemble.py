"""`ffnn-gpu train` of a table writes a run of members, continues, and refuses before it writes."""

import csv
import json
import os
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import ffnn_gpu
from ffnn_gpu.cli import result
from ffnn_gpu.cli.commands import main
from ffnn_gpu.cli.settings import TrainConfig, read_toml
from ffnn_gpu.data import readers
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.split import split_rows
from ffnn_gpu.estimators.tabular import members as members_module
from ffnn_gpu.estimators.tabular.member_files import MemberFiles
from ffnn_gpu.estimators.tabular.progress import Progress
from ffnn_gpu.estimators.tabular.recipes import PRESETS, Plain, Preset
from ffnn_gpu.training.callbacks import Callback
from tests.cli.killed_runs import files_of, leave_halves
from tests.handled_signals import sender

pytest.importorskip("duckdb")

RNG = np.random.default_rng(2)
N = 120
X = RNG.normal(size=(N, 2)).round(3)
COLOR = RNG.choice(["red", "green"], N)
LABEL = np.where(X[:, 0] * np.where(COLOR == "red", 1, -1) > 0, "yes", "no")
PRICE = (3 * X[:, 0] + X[:, 1] + 40).round(3)
TINY = Preset(
    (
        Plain(name="linear", lr=3e-2, weight_decay=0.0, epochs=6, steps=1),
        Plain(name="two layers", hidden=(8, 4), dropout=(0.1, 0.1), lr=1e-2, epochs=6, steps=1),
    ),
    3,
)
DEFAULT = ("train", "t.csv", "--target", "label", "--drop", "price", "--device", "numpy")
WORDS = (*DEFAULT, "--model", "tabular")
LEFT_OUT = ("seconds", "peak_bytes")  # of result.json: a resumed run has others
FILES = {
    "checkpoint", "config.toml", "history.csv", "metrics.jsonl", "model.safetensors", "result.json",
}  # fmt: skip


def write(numbers):
    """Write the table with these numbers in the columns x and z."""
    rows = [f"{x},{z},{COLOR[k]},{k // 6},{PRICE[k]},{LABEL[k]}" for k, (x, z) in enumerate(numbers.tolist())]
    Path("t.csv").write_text("\n".join(["x,z,color,g,price,label", *rows]) + "\n", encoding="utf-8")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "good", TINY)
    write(X)
    return tmp_path


@pytest.fixture
def no_plots(monkeypatch):
    monkeypatch.setattr(result, "_draw_plots", lambda *given: None)


def run(*words):
    return CliRunner().invoke(main, [*map(str, words)])


def done(*words):
    found = run(*words)
    assert found.exit_code == 0, found.output
    return found


def refused(text):
    raise AssertionError(f"{text} is no JSON")


def report(folder="out"):
    return json.loads(Path(folder, "result.json").read_text("utf-8"), parse_constant=refused)


def numbers(folder="out"):
    return Model.load(folder, "numpy").network.params.to_host()


def kept(folder="out"):
    return sorted(path.name for path in Path(folder, "checkpoint/members").iterdir())


def without_seconds(found):
    """Return the report without durations and memory."""
    if isinstance(found, dict):
        return {name: without_seconds(each) for name, each in found.items() if name not in LEFT_OUT}
    return [*map(without_seconds, found)] if isinstance(found, list) else found


def assert_equal_runs(a, b):
    ours, theirs = numbers(a), numbers(b)
    assert {*ours} == {*theirs}
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])
    assert without_seconds(report(a)) == without_seconds(report(b))


def test_resumed_ensemble_with_nothing_left_to_do_sweeps_what_killed_runs_left(no_plots):
    done(*WORDS, "--out", "out", "--quiet")
    before = leave_halves(Path("out"))
    done("train", "--resume", "--out", "out", "--quiet")
    assert files_of(Path("out")) == before


def test_an_ensemble_is_a_run_that_every_command_reads():
    found = done(*WORDS, "--out", "out")
    assert {*os.listdir("out")} == FILES | {"confusion_matrix.png"}
    assert (
        "96 rows to train in 3 folds (each validates the members trained on the others), 24 to test;"
        in found.stderr
    )
    assert "member 6/6  two layers, fold 3  val_loss" in found.stderr
    saved = report()
    for line in saved["ensemble"]["explanation"]:
        assert line in found.stdout
    assert "6 members, log loss out of fold:" in found.stdout and "6 of 6 members in" in found.stdout
    assert saved["rows"] == {"train": 96, "validation": 0, "test": 24}
    with open("out/history.csv", newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert [(row["member"], row["recipe"], row["fold"], row["epochs"]) for row in rows] == [
        (str(2 * fold - 1 + k), recipe.name, str(fold), "6")
        for fold in (1, 2, 3)
        for k, recipe in enumerate(TINY.recipes)
    ]
    lines = Path("out/metrics.jsonl").read_text("utf-8").splitlines()
    assert [*map(json.loads, lines)] == saved["ensemble"]["members"]
    assert json.loads(done("evaluate", "out", "--json", "--quiet").stdout)["loss"] == saved["test"]["loss"]
    assert len(done("predict", "out", "t.csv", "--quiet").stdout.splitlines()) == N + 1
    done("export", "out", "--numpy", "m.py")
    said = done("info", "out").stdout
    assert "trained: 3 linear, 3 two layers" in said and "all together" in said
    assert json.loads(done("info", "out", "--json").stdout)["ensemble"] == saved["ensemble"]


def test_config_of_an_ensemble_repeats_it(no_plots):
    done(*WORDS, "--out", "out", "--time-limit", "1h", "--seed", 3)
    saved = read_toml("out/config.toml")
    assert {"model": "tabular", "preset": "good", "time_limit": "1h"}.items() <= saved.items()
    done("train", "--config", "out/config.toml", "--out", "again")
    assert_equal_runs("again", "out")


class Send(Callback):
    """Send a signal after the first epoch, and wait for its handler."""

    def __init__(self, send, number):
        self.send, self.number = send, number

    def after_epoch(self, run, row):
        if run.epoch == 1:
            self.send(self.number)


@pytest.mark.parametrize(("number", "words"), [(signal.SIGINT, WORDS), (signal.SIGTERM, DEFAULT)])
def test_interrupted_ensemble_is_continued_as_if_it_had_not_been(number, words, no_plots, monkeypatch):
    """What was trained makes an ensemble, also where the command itself has chosen the model."""
    monkeypatch.setenv("FFNN_GPU_THREADS", "1")
    done(*words, "--out", "whole", "--quiet")
    with monkeypatch.context() as patch:
        fourth = TINY.recipes[1].name, 1
        send = sender(patch)
        patch.setattr(
            Progress,
            "callbacks",
            lambda _, plan: [Send(send, number)] * ((plan.recipe.name, plan.fold) == fourth),
        )
        stopped = run(*words, "--out", "out")
    assert stopped.exit_code == 128 + number
    assert f"interrupted by {signal.Signals(number).name}; to continue:" in stopped.stdout
    assert "4 of 6 members, 1 of them stopped early, in" in stopped.stdout
    assert report()["ensemble"]["members"][3]["epochs"] < 6
    assert kept() == [f"{name}.safetensors" for name in ("linear-1", "linear-2", "two_layers-1")]
    assert len(done("predict", "out", "t.csv", "--quiet").stdout.splitlines()) == N + 1
    original, trained = members_module._trained, []

    def counted(plan, *given):
        trained.append(str(plan))
        return original(plan, *given)

    monkeypatch.setattr(members_module, "_trained", counted)
    done("train", "--resume", "--out", "out", "--quiet")
    assert trained == ["two layers, fold 2", "linear, fold 3", "two layers, fold 3"]
    assert_equal_runs("out", "whole")


class Insist(Send):
    """Send two signals after the first epoch."""

    def after_epoch(self, run, row):
        super().after_epoch(run, row)
        super().after_epoch(run, row)


def test_second_signal_ends_at_once_and_leaves_what_can_be_continued(no_plots, monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", "1")
    done(*WORDS, "--out", "whole", "--quiet")
    second = TINY.recipes[1].name, 0
    with monkeypatch.context() as patch:
        send = sender(patch)
        patch.setattr(
            Progress,
            "callbacks",
            lambda _, plan: [Insist(send, signal.SIGINT)] * ((plan.recipe.name, plan.fold) == second),
        )
        assert run(*WORDS, "--out", "out").exit_code == 130
    assert kept() == ["linear-1.safetensors"] and not os.path.exists("out/model.safetensors")
    done("train", "--resume", "--out", "out", "--quiet")
    assert_equal_runs("out", "whole")


@pytest.mark.parametrize("out", ["out", None])
def test_signal_before_the_first_member_leaves_no_folder(out, monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", "1")
    monkeypatch.setattr(members_module, "fit", lambda *args, **named: pytest.fail("fit was called"))
    send = sender(monkeypatch)

    def load(self, plan, backend):
        if (plan.recipe, plan.fold) == (TINY.recipes[0], 0):
            assert os.path.exists(out or "runs/t-1")
            send(signal.SIGTERM)

    monkeypatch.setattr(MemberFiles, "load", load)
    stopped = run(*WORDS, *(["--out", out] if out else []))
    assert stopped.exit_code == 128 + signal.SIGTERM
    assert "SIGTERM ended the training before any member was trained; nothing was written" in stopped.stderr
    assert os.listdir(".") == ["t.csv"]


def test_resume_with_other_rows_is_refused(no_plots):
    done(*WORDS, "--out", "out", "--quiet")
    before = Path("out/model.safetensors").read_bytes()
    write(X[::-1])
    again = run("train", "--resume", "--out", "out")
    assert again.exit_code == 3 and "was written with other inputs" in again.stderr
    assert Path("out/model.safetensors").read_bytes() == before


class Late(Callback):
    """Let the time be over after the first epoch."""

    def __init__(self, clock):
        self.clock = clock

    def after_epoch(self, run, row):
        self.clock.late = 1e6


def test_resumed_run_without_a_limit_has_what_the_time_did_not_suffice_for(no_plots, monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", "1")
    done(*WORDS, "--out", "whole", "--quiet", "--time-limit", "1h")
    clock = SimpleNamespace(late=0.0)
    clock.monotonic = lambda: time.monotonic() + clock.late
    with monkeypatch.context() as patch:
        patch.setattr(members_module, "time", clock)
        fifth = TINY.recipes[0].name, 2
        patch.setattr(
            Progress, "callbacks", lambda _, plan: [Late(clock)] * ((plan.recipe.name, plan.fold) == fifth)
        )
        short = done(*WORDS, "--out", "out", "--time-limit", "1h")
    assert "5 of 6 members, 1 of them stopped early, in" in short.stdout
    assert "train --resume --out out" in short.stdout
    assert [row["epochs"] for row in report()["ensemble"]["members"]] == [6, 6, 6, 6, 2]
    again = done("train", "--resume", "--out", "out", "--time-limit", "2h")
    assert "train --resume" not in again.stdout
    assert_equal_runs("out", "whole")


def test_metric_decides_is_reported_and_resumed(no_plots, monkeypatch):
    monkeypatch.setenv("FFNN_GPU_THREADS", "1")
    found = done(*WORDS, "--out", "out", "--metric", "auc")
    saved = report()
    assert read_toml("out/config.toml")["metric"] == "auc"
    assert [*saved["test"]] == ["roc_auc", "accuracy", "loss"] and "test roc auc" in found.stdout
    assert saved["ensemble"]["metric"] == "roc_auc" and "6 members, roc_auc out of fold:" in found.stdout
    assert saved["ensemble"]["error"] == pytest.approx(1 - saved["ensemble"]["score"])
    assert [*json.loads(done("evaluate", "out", "--json", "--quiet").stdout)][:2] == ["roc_auc", "accuracy"]
    os.remove("out/checkpoint/members/linear-2.safetensors")
    done("train", "--config", "out/config.toml", "--out", "again", "--quiet")
    done("train", "--resume", "--out", "out", "--quiet")
    assert_equal_runs("again", "out")
    again = run("train", "--resume", "--out", "out", "--metric", "accuracy")
    assert again.exit_code == 2 and "metric" in again.stderr


def test_info_prints_members_and_importances(no_plots):
    done(*WORDS, "--out", "out", "--quiet")
    saved, found = report()["ensemble"], done("info", "out").stdout
    assert {*saved["importances"]} == {"x", "z", "color", "g"}
    assert max(saved["importances"], key=saved["importances"].get) in ("x", "color")
    for line in saved["details"]:
        assert line in found
    assert "not read: 'price'; `ffnn-gpu inspect` prints the reasons" in found
    assert "1 linear         fold 1  seed 0" in found and "importances: how much the error rises" in found


REFUSED = {
    "a metric of numbers": (("--metric", "rmse"), "metric 'rmse' does not fit a binary task"),
    "no metric": (("--metric", "best"), "no metric is called 'best'"),
    "a metric of one network": (("--model", "mlp", "--metric", "auc"), "'mlp' has no metric"),
    "settings of one network": (("--hidden", "8", "--lr", "0.1"), "'tabular' decide hidden, lr; leave"),
    "16 bits": (("--dtype", "float16"), "float32 or float64, not in float16"),
    "no duration": (("--time-limit", "soon"), "time_limit = 'soon' is not accepted"),
    "no preset": (("--preset", "better"), "preset = 'better' is not accepted: choose fast, good, best"),
    "no model": (("--model", "forest"), "model = 'forest' is not accepted: choose mlp, tabular"),
    "an ensemble's setting without one": (("--model", "mlp", "--preset", "fast"), "'mlp' has no preset"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_settings_are_refused_and_leave_nothing(case):
    words, message = REFUSED[case]
    found = run(*WORDS, *words, "--out", "out")
    assert found.exit_code == 2 and message in found.stderr
    assert os.listdir(".") == ["t.csv"]


def test_several_ranks_are_refused(monkeypatch):
    asked = []
    monkeypatch.setattr("ffnn_gpu.cli.train.require_fitting", lambda _, processes: asked.append(processes))
    assert run(*WORDS, "--weight", "none").exit_code == 3  # after the question, before anything is written
    assert asked == [1]


def test_a_search_for_an_ensemble_is_refused():
    pytest.importorskip("optuna")
    found = run("tune", *WORDS[1:], "--trials", 1, "--out", "out")
    assert found.exit_code == 2 and "a search tunes the settings of one network" in found.stderr
    assert os.listdir(".") == ["t.csv"]


def test_one_group_is_refused():
    Path("t.csv").write_text("x,g,y\n" + "".join(f"{k},{k // 30},{k % 2}\n" for k in range(60)))
    found = run("train", "t.csv", "--model", "tabular", "--group", "g", "--test", "0.5", "--out", "out")
    assert found.exit_code == 3 and "there is 1 group to train on" in found.stderr
    assert os.listdir(".") == ["t.csv"]


def test_quiet_prints_the_metrics_alone(no_plots):
    found = done(*WORDS, "--out", "out", "--quiet")
    assert found.stderr == "" and len(found.stdout.splitlines()) == 3


def test_arrays_are_standardized_and_limited_as_for_one_network(no_plots):
    np.save("rows.npy", np.column_stack([100 * X + 50, PRICE]))
    done("train", "rows.npy", "--model", "tabular", "--out", "out", "--quiet")
    model = Model.load("out", "numpy")
    assert model.standardizer is not None and model.encoding is None and model.limit == 5
    assert report()["task"] == "regression" and np.isfinite(report()["test"]["rmse"])
    split = split_rows(readers.read("rows.npy"), model.task, TrainConfig(model="tabular"))
    assert model.task.limits == ((split.train.y.min(),), (split.train.y.max(),))


def test_train_table_trains_the_ensemble_of_the_command(no_plots):
    done(*WORDS, "--out", "out", "--quiet", "--class-weight", "balanced", "--group", "g")
    made = ffnn_gpu.train_table(
        "t.csv", "label", drop=["price"], group="g", model="tabular", device="numpy", class_weight="balanced",
        verbose=0,
    )  # fmt: skip
    for name, value in made.model.network.params.to_host().items():
        np.testing.assert_array_equal(value, numbers()[name])
    assert made.test == report()["test"] and made.rows == report()["rows"]
    assert without_seconds(made.history.rows) == without_seconds(report()["ensemble"]["members"])
    assert made.ensemble.weights == report()["ensemble"]["weights"]


def test_command_chooses_the_model_and_says_why(no_plots):
    """A run of the chosen model is that of --model tabular; `config.toml` holds the choice."""
    found = done(*DEFAULT, "--out", "out")
    assert "model tabular, an ensemble of networks: the data are a table\n" in found.stderr
    assert (report()["model"], report()["model_reason"]) == ("tabular", "the data are a table")
    assert len(report()["ensemble"]["members"]) == 6
    assert done("info", "out").stdout.startswith("model     an ensemble of networks: the data are a table\n")
    assert read_toml("out/config.toml")["model"] == "tabular"
    other = done(*WORDS, "--out", "explicit")
    assert "model tabular" not in other.stderr
    assert report("explicit")["model_reason"] == "model = 'tabular' is set"
    assert without_seconds(report()) == without_seconds(report("explicit")) | {
        "model_reason": "the data are a table"
    }
    again = done("train", "--resume", "--out", "out", "--model", "auto", "--quiet")  # nothing is left to do
    assert again.stderr == "" and report()["model_reason"] == "the data are a table"


def test_a_setting_of_one_network_has_one_trained_also_with_its_default_value(no_plots):
    """Given as a flag, by --set, in a file, or in a config.toml that is older than the setting `model`."""
    few = (*DEFAULT, "--hidden", "4", "--epochs", "1")
    found = done(*few, "--out", "out")
    assert "model mlp, one network: hidden, epochs are settings of one network\n" in found.stderr
    saved = read_toml("out/config.toml")
    assert saved["model"] == report()["model"] == "mlp" and report()["epochs"] == 1
    lines = Path("out/config.toml").read_text("utf-8").splitlines(keepends=True)
    old = "".join(line for line in lines if line.split(" = ")[0] not in ("model", "preset", "time_limit"))
    Path("old.toml").write_text(old, encoding="utf-8")
    done("train", "--config", "old.toml", "--out", "again", "--quiet")
    np.testing.assert_array_equal(numbers("again")["0.W"], numbers()["0.W"])
    Path("out/config.toml").write_text(old, encoding="utf-8")
    done("train", "--resume", "--out", "out", "--epochs", "2", "--quiet")
    assert report()["epochs"] == 2 and read_toml("out/config.toml")["model"] == "mlp"
    for words in (("--epochs", "30"), ("--set", "epochs=30")):
        refused_later = run(*DEFAULT, *words, "--weight", "price", "--out", "new", "--preset", "fast")
        assert "epochs is for one network, and preset for an ensemble" in refused_later.stderr
    assert not os.path.exists("new")


SMALL = {
    "20 rows": (20, lambda k: f"{X[k, 0]},{COLOR[k]},{LABEL[k]}", None),
    "a class of 1 row": (60, lambda k: f"{X[k, 0]},{COLOR[k]},{'rare' if k == 7 else 'usual'}", None),
    "one column": (60, lambda k: f"{X[k, 0]},,{PRICE[k]}", None),
    "a constant number": (60, lambda k: f"{X[k, 0]},{COLOR[k]},1.5", None),
    "no cell": (60, lambda k: f",,{PRICE[k]}", "no column to learn from: 'a' .empty: every cell is missing"),
    "one class": (60, lambda k: f"{X[k, 0]},{COLOR[k]},same", "all 60 values of y are same"),
    "2 rows": (2, lambda k: f"{X[k, 0]},{COLOR[k]},{PRICE[k]}", "fraction 0.2 of 2 rows leaves 2 in train"),
}


@pytest.mark.parametrize("case", SMALL)
def test_the_smallest_tables_are_learnt_or_refused_in_a_sentence(case, no_plots):
    rows, cells, refusal = SMALL[case]
    Path("t.csv").write_text("a,b,y\n" + "".join(f"{cells(k)}\n" for k in range(rows)), encoding="utf-8")
    found = run("train", "t.csv", "--device", "numpy", "--out", "out")
    if refusal is None:
        assert found.exit_code == 0 and report()["model"] == "tabular", found.output
        assert np.isfinite(report()["test"]["loss"]) and np.isfinite(report()["ensemble"]["error"])
    else:
        assert found.exit_code == 3 and re.search(f"error: .*{refusal}", found.stderr), found.output
        assert os.listdir(".") == ["t.csv"]
