"""The commands print results, exit with documented codes, and survive interruptions."""

import csv
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

import ffnn_gpu
from ffnn_gpu.cli import result, train
from ffnn_gpu.cli.commands import main
from ffnn_gpu.errors import DeviceOutOfMemoryError

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(1)
X = RNG.normal(size=(200, 3))
LABELS = np.where(X[:, 0] + X[:, 1] > 0, "ripe", "green")
ENVIRONMENT = {**os.environ, "FFNN_GPU_DEVICE": "numpy", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
DRAW = result._draw_plots
FAST = ["--hidden", "8", "--batch-size", "16"]


def csv_text(x=X, labels=LABELS, names=("a", "b", "c", "fruit")):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [names, *([*row, label] for row, label in zip(x, labels, strict=True))]
    )
    return out.getvalue()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Make a working directory with fruit.csv, and skip the plots: they take a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FFNN_GPU_DEVICE", "numpy")
    monkeypatch.delenv("FFNN_GPU_DEBUG", raising=False)
    monkeypatch.setattr(result, "_draw_plots", lambda *arguments: None)
    (tmp_path / "fruit.csv").write_text(csv_text())
    return tmp_path


@pytest.fixture(scope="module")
def run_of_fruit(tmp_path_factory):
    """Train on fruit.csv once; return the folder of the data and the run."""
    made = tmp_path_factory.mktemp("fruit")
    (made / "fruit.csv").write_text(csv_text())
    with chdir(made), pytest.MonkeyPatch.context() as patch:
        patch.setattr(result, "_draw_plots", lambda *arguments: None)
        words = ["train", "fruit.csv", *FAST, "--epochs", "20", "--lr", "0.02", "--device", "numpy"]
        done = here(*words, "--out", "run", "--quiet")
    assert done.exit_code == 0, done.output
    return made


@pytest.fixture
def trained(folder, run_of_fruit):
    """Return a working directory with a copy of the run, whose data are those of this directory."""
    shutil.copytree(run_of_fruit / "run", folder / "run")
    for name in ("config.toml", "result.json"):
        text = (folder / "run" / name).read_text("utf-8")
        (folder / "run" / name).write_text(text.replace(str(run_of_fruit), str(folder)), "utf-8")
    return folder


def here(*arguments, **settings):
    """Run the command in this process."""
    return CliRunner().invoke(main, [*map(str, arguments)], **settings)


def command(*arguments, **settings):
    """Run the command in a new process, where warnings are errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "ffnn_gpu", *arguments],
        env=ENVIRONMENT,
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
        **settings,
    )


def started(*arguments):
    """Start the command; return its process after the first epoch."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ffnn_gpu", *arguments],
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for line in process.stderr:
        if line.startswith("epoch 1/"):
            break
    return process


# ---------------------------------------------------------------- the main paths


def test_installed_command_is_main():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    module, _, name = scripts["ffnn-gpu"].partition(":")
    assert getattr(importlib.import_module(module), name, None) is main


def test_model_of_digits_is_accurate_after_training_and_loading(folder):
    pytest.importorskip("sklearn")
    done = here(
        "train", "digits", "--hidden", "32", "--epochs", "5", "--lr", "0.02", "--out", "run", "--seed", "1"
    )
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (
        lines[0].startswith("test accuracy 0.9")
        and lines[2].startswith("baseline accuracy 0.1")
        and "5 of 5 epochs" in lines[3]
        and "run folder run" in lines[3]
    )
    assert lines[4] == "next:" and all("ffnn" in line for line in lines[5:]) and len(lines) == 7
    assert done.stderr.startswith(
        "1,797 rows × 64 features, 10 classes → multiclass classification, softmax_cross_entropy"
    )
    assert "epoch 5/5  loss" in done.stderr and "\r" not in done.stderr
    found = here("evaluate", "run", "digits", "--quiet", "--json", "--metrics", "accuracy,f1_macro")
    row = json.loads(found.output)
    assert (
        {*row} == {"accuracy", "f1_macro", "loss", "rows"} and row["rows"] == 1797 and row["accuracy"] > 0.9
    )
    assert len(here("predict", "run", "digits", "--quiet").output.splitlines()) == 1798


def test_predictions_from_csv_stdin_and_npy_agree(trained):
    done = command("predict", "run", input=csv_text())
    assert done.returncode == 0 and done.stderr == ""
    answers = done.stdout.splitlines()
    assert answers[0] == "prediction" and np.mean(np.array(answers[1:]) == LABELS) > 0.9
    np.save("x.npy", X)
    assert here("predict", "run", "fruit.csv").output == here("predict", "run", "x.npy").output == done.stdout
    assert here("predict", "run", "-", input=csv_text()).output == done.stdout
    assert here("predict", "run", "x.npy", "--output", "y.npy").output == ""
    assert np.load("y.npy").tolist() == answers[1:]
    assert here("predict", "run/model", "x.npy", "--output", "y.csv").exit_code == 0
    assert (trained / "y.csv").read_text() == done.stdout


def test_probabilities_are_in_the_order_of_the_labels(trained):
    rows = [*csv.DictReader(io.StringIO(here("predict", "run", "fruit.csv", "--probabilities").output))]
    assert [*rows[0]] == ["prediction", "p_green", "p_ripe"]
    for row in rows:
        assert float(row["p_green"]) + float(row["p_ripe"]) == pytest.approx(1)
        assert (float(row["p_ripe"]) > 0.5) == (row["prediction"] == "ripe")


def test_columns_with_other_names_are_refused_and_without_names_taken_in_order(trained):
    (trained / "other.csv").write_text(csv_text(names=("x", "y", "z", "fruit")))
    found = here("predict", "run", "other.csv")
    assert (
        found.exit_code == 3
        and "other.csv lacks these columns, which the model was trained on: 'a', 'b', 'c'"
        in (found.output.replace("a, b, c", "'a', 'b', 'c'"))
    )
    (trained / "none.csv").write_text(
        "".join(csv_text().splitlines(keepends=True)[1:]).replace(",ripe", "").replace(",green", "")
    )
    assert (
        here("predict", "run", "none.csv", "--quiet").output
        == here("predict", "run", "fruit.csv", "--quiet").output
    )


def test_evaluation_warns_about_training_rows(trained):
    assert (
        "200 rows of fruit; the model was trained on most of them"
        in here("evaluate", "run", "fruit.csv").output
    )


def test_evaluation_without_data_uses_the_test_rows_of_the_run(trained):
    want = json.loads((trained / "run/result.json").read_text())
    found = here("evaluate", "run", "--quiet", "--json")
    assert json.loads(found.output) == {**want["test"], "rows": want["rows"]["test"]}
    assert "40 rows, the test set that the run held out of fruit" in here("evaluate", "run").output
    assert "run/model is not a run folder" in here("evaluate", "run/model").output
    (trained / "fruit.csv").write_text(csv_text(X[:150], LABELS[:150]))
    assert "fruit.csv has changed since the training" in here("evaluate", "run").output


def test_evaluation_without_data_needs_test_rows(folder):
    assert here("train", "fruit.csv", *FAST, "--epochs", "1", "--test", "0", "--out", "run").exit_code == 0
    found = here("evaluate", "run")
    assert found.exit_code == 2 and "error: the run run held out no test set; give the DATA" in found.output


def test_prediction_reports_how_many_values_were_cut(folder):
    np.save("fruit.npy", np.column_stack([X, LABELS == "ripe"]))
    done = here("train", "fruit.npy", *FAST, "--epochs", "1", "--task", "binary", "--out", "run")
    assert done.exit_code == 0, done.output
    far = X.copy()
    far[:3, 0] = 100
    np.save("far.npy", far)
    (folder / "far.csv").write_text(
        csv_text(far).split("\n", 1)[1].replace(",ripe", "").replace(",green", "")
    )
    for rows in ("far.npy", "far.csv"):
        far_off = "3 values more than 5 standard deviations from the mean of the training rows were clipped"
        assert far_off in here("predict", "run", rows).output
        assert "were clipped" not in here("predict", "run", rows, "--quiet").output


def test_only_json_is_written_to_stdout(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(result, "_draw_plots", DRAW)
        done = here("train", "fruit.csv", *FAST, "--epochs", "1", "--json")
    found = json.loads(done.stdout)
    assert (folder / "runs/fruit-1/confusion_matrix.png").is_file() or "no plots" in done.stderr
    assert found["folder"] == os.path.join("runs", "fruit-1") and 0 <= found["test"]["accuracy"] <= 1
    assert "epoch 1/1" in done.stderr
    quiet = here("train", "fruit.csv", *FAST, "--epochs", "1", "--json", "--quiet")
    assert json.loads(quiet.output)["epochs"] == 1
    quiet = here("train", "fruit.csv", *FAST, "--epochs", "1", "--quiet")
    assert len(quiet.output.splitlines()) == 3 and "next:" not in quiet.output


def test_info_shows_versions_backend_and_blas():
    found = json.loads(here("info", "--json").output)
    assert (
        found["versions"]["ffnn_gpu"] == ffnn_gpu.__version__ and found["versions"]["numpy"] == np.__version__
    )
    assert (found["backend"], found["reason"]) == ("numpy", "FFNN_GPU_DEVICE=numpy")
    assert found["cpus"] == os.cpu_count() and found["blas"] and "cupy" in found["versions"]
    assert "backend   numpy (FFNN_GPU_DEVICE=numpy)" in here("info").output


def test_info_shows_the_error_if_there_is_no_backend(monkeypatch):
    monkeypatch.setenv("FFNN_GPU_DEVICE", "tpu")
    found = json.loads(here("info", "--json").output)
    assert found["backend"] is None and "no device is called 'tpu'" in found["reason"]


def test_settings_come_from_file_assignments_and_flags(folder):
    (folder / "run.toml").write_text(
        'data = "fruit.csv"\nhidden = [4]\nepochs = 9\nseed = 3\nbatch_size = 64\n'
    )
    assigned = ["--set", "epochs=2", "--set", 'activation="tanh"']
    found = here("train", "--config", "run.toml", *assigned, "--seed", 5, "--out", "r")
    assert found.exit_code == 0, found.output
    saved = (folder / "r/config.toml").read_text()
    for line in ("epochs = 2", "seed = 5", 'activation = "tanh"', "batch_size = 64", 'device = "numpy"'):
        assert line in saved
    again = here("train", "--config", "r/config.toml", "--out", "s")
    assert again.exit_code == 0
    assert (folder / "s/model.safetensors").read_bytes() == (folder / "r/model.safetensors").read_bytes()


# ---------------------------------------------------------------- interruptions


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_and_resumed_run_equals_the_uninterrupted_one(folder, number, code):
    settings = ["fruit.csv", "--hidden", "16", "--batch-size", "4", "--epochs", "25", "--dropout", "0.3"]
    process = started("train", *settings, "--out", "cut")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert (
        f"interrupted by {number.name}; to continue:" in out
        and "train --resume --out cut" in out
        and "Traceback" not in err
    )
    assert json.loads((folder / "cut/result.json").read_text())["interrupted"] == number.name
    epochs = len((folder / "cut/metrics.jsonl").read_text().splitlines())
    assert 1 <= epochs < 25 and here("predict", "cut", "fruit.csv").exit_code == 0
    if number == signal.SIGTERM:
        return  # resuming is the same for both
    resumed, whole = here("train", "--resume", "--out", "cut"), here("train", *settings, "--out", "whole")
    assert resumed.exit_code == whole.exit_code == 0, resumed.stderr
    assert f"epoch {epochs}/25" not in resumed.stderr and "epoch 25/25" in resumed.stderr
    assert (folder / "cut/model.safetensors").read_bytes() == (
        folder / "whole/model.safetensors"
    ).read_bytes()
    cut, uncut = (load_file(folder / name / "checkpoint/last.safetensors") for name in ("cut", "whole"))
    assert {n: a.tobytes() for n, a in cut.items()} == {n: a.tobytes() for n, a in uncut.items()}


def test_closed_pipe_is_not_an_error(trained):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "ffnn_gpu", "predict", "run", "fruit.csv"],
        env=ENVIRONMENT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


# ---------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["train", "fruit.csv", "--out", "run"],
            2,
            "error: run exists; use --resume, --overwrite or another --out",
        ),
        (["train"], 2, "error: no data to train on"),
        (["train", "fruit.csv", "--epohcs", "3"], 2, "error: No such option"),
        (
            ["train", "fruit.csv", "--epochs", "many"],
            2,
            "error: epochs = 'many' is not accepted: expected int",
        ),
        (["train", "fruit.csv", "--set", "epohcs=3"], 2, "unknown setting 'epohcs'; did you mean 'epochs'?"),
        (["train", "fruit.csv", "--loss", "hinge"], 2, "error: loss 'hinge' does not fit a binary task"),
        (["train", "--resume"], 2, "error: --resume needs --out"),
        (["train", "--resume", "--out", "nowhere"], 2, "error: there is nothing to resume in nowhere"),
        (
            ["train", "--resume", "--out", "run", "--hidden", "9"],
            2,
            "cannot be resumed with other settings: hidden (8,) → (9,)",
        ),
        (["train", "--resume", "--overwrite", "--out", "run"], 2, "give one of them"),
        (["fly"], 2, "error: No such command 'fly'"),
        ([], 2, "Usage:"),
        (
            ["predict", "run", "fruit.csv", "--output", "a.txt"],
            2,
            "error: predictions are written as .csv, .parquet, .jsonl, .npy, not",
        ),
        (["train", "nothing.csv"], 3, "error: there is no file nothing.csv"),
        (["predict", "run", "nothing.csv"], 3, "error: there is no file nothing.csv"),
        (
            ["predict", "run", "narrow.csv"],
            3,
            "error: narrow.csv has no header and 2 columns; the model was trained on 3: a, b, c",
        ),
        (["evaluate", "nowhere", "fruit.csv"], 3, "error: nowhere does not exist"),
        (
            ["evaluate", "run", "fruit.csv", "--target", "color"],
            3,
            "--target: fruit.csv has no column 'color'",
        ),
        (
            ["predict", "run", "some.csv"],
            3,
            "error: some.csv lacks these columns, which the model was trained on: 'b', 'c'",
        ),
        (
            ["predict", "run", "x.npz"],
            3,
            "error: x.npz is not an existing table, .npy file or folder of .npy",
        ),
        (
            ["train", "x.doc"],
            3,
            "error: x.doc: .doc files are not supported; "
            "use a table such as .csv, .npy, .npz or a folder of IDX or .npy files",
        ),
        (["--version"], 0, f"ffnn-gpu {ffnn_gpu.__version__}"),
        (["--help"], 0, "Start with `ffnn-gpu train digits`."),
        (["train", "-h"], 0, "--batch-size"),
    ],
)
def test_error_has_its_exit_code_and_message(trained, arguments, code, message):
    (trained / "narrow.csv").write_text("1,2\n3,4\n")
    (trained / "some.csv").write_text("a,name\n1,x\n")
    for name in ("x.npz", "x.doc"):
        (trained / name).write_text("")
    found = here(*arguments)
    assert (found.exit_code, message in found.output) == (code, True), found.output
    assert "Traceback" not in found.output


def test_diverged_run_fails(folder):
    arguments = [*FAST, "--optimizer", "sgd", "--lr", "1e30", "--schedule", "constant", "--no-standardize"]
    found = here("train", "fruit.csv", *arguments)
    assert found.exit_code == 1 and "error: the loss is" in found.output and "lower lr" in found.output


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (MemoryError("no 8 GiB"), 5, "error: no 8 GiB"),
        (DeviceOutOfMemoryError("GPU 0 has no room"), 5, "GPU 0 has no room"),
        (KeyboardInterrupt(), 130, ""),
        (PermissionError(13, "Permission denied", "runs"), 1, "error: runs: Permission denied"),
        (FileNotFoundError(2, "No such file", "x"), 3, "error: x: No such file"),
        (
            TypeError("a\nbug"),
            1,
            "error: TypeError: a bug (internal error; set FFNN_GPU_DEBUG=1 for a traceback)",
        ),
    ],
)
def test_exception_becomes_an_exit_code_and_one_line(monkeypatch, raised, code, message):
    def fail(*arguments, **settings):
        raise raised

    monkeypatch.setattr(train, "train", fail)
    found = here("train", "fruit.csv")
    assert found.exit_code == code and message in found.output and "Traceback" not in found.output


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("FFNN_GPU_DEBUG", "1")
    found = here("train", "nothing.csv")
    assert found.exit_code == 3 and "Traceback" in found.output and "file nothing.csv" in found.output


def test_gpu_that_cannot_be_used_is_a_device_error():
    from ffnn_gpu.backends.choice import probe

    if probe(0).usable:
        pytest.skip("there is a GPU")
    found = here("train", "fruit.csv", "--device", "cupy")
    assert found.exit_code == 4 and "Hint:" in found.output


def test_help_imports_nothing_that_only_commands_need():
    code = (
        "import sys; from ffnn_gpu.cli.commands import main\ntry: main(['train', '--help'])\n"
        "finally: print([n for n in ('sklearn', 'matplotlib', 'ffnn_gpu.cli.train') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stderr
