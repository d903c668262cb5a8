"""`ffnn-gpu report` and `compare` write whole files, and end with sentences and documented exit codes."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from ffnn_gpu.cli import commands, record, result
from ffnn_gpu.cli.commands import main
from ffnn_gpu.cli.record import history_of
from ffnn_gpu.cli.report_command import after_training
from ffnn_gpu.cli.settings import resolve, write_toml
from ffnn_gpu.errors import DataError
from ffnn_gpu.estimators.model import Model
from tests.report.reader import exact, read, section

RNG = np.random.default_rng(3)
ROWS = np.column_stack([RNG.normal(size=(80, 3)), np.arange(80) % 2])
FAST = ("--hidden", "4", "--epochs", "2", "--device", "numpy", "--quiet", "--task", "binary")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder with rows.npy and a run, which was trained with --report."""
    folder = tmp_path_factory.mktemp("trained")
    np.save(folder / "rows.npy", ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(result, "_draw_plots", lambda *given: None)
        done = run("train", "rows.npy", *FAST, "--out", "run", "--report")
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """Go to a copy of that folder."""
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.setattr(result, "_draw_plots", lambda *given: None)
    monkeypatch.chdir(tmp_path / "copy")
    change("run", data=os.path.abspath("rows.npy"))
    return tmp_path / "copy"


def change(name, **settings):
    """Change settings in the config.toml of a run."""
    file = Path(name, "config.toml")
    write_toml(msgspec.structs.replace(resolve({}, file=file, environment={}), **settings), file)


def run(*words):
    return CliRunner().invoke(main, [*map(str, words)])


def without_times(page):
    """Return the text of a page without the costs."""
    return [node.text for node in read(page).all("section") if node.attributes["id"] != "costs"]


def test_report_after_training_equals_that_of_the_run_folder(trained, folder):
    before = Path("run/report.html").read_text("utf-8").replace(str(trained), str(folder))
    assert "model | mlp" in "\n".join(
        " | ".join(cell.text for cell in row.children) for row in section(read(before), "settings").all("tr")
    )
    Path("run/report.html").unlink()
    done = run("report", "run", "--device", "numpy")
    assert done.exit_code == 0 and done.stderr == ""
    size = Path("run/report.html").stat().st_size
    assert done.stdout == f"report {Path('run/report.html')} ({size:,} bytes)\n"
    assert without_times(Path("run/report.html").read_text("utf-8")) == without_times(before)


def test_report_after_training_is_written_if_the_result_cannot_be_printed(folder, monkeypatch):
    def full(text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commands, "print_result", full)
    done = run("train", "rows.npy", *FAST, "--out", "other", "--report")
    assert done.exit_code == 1 and "No space left on device" in done.stderr
    assert Path("other/report.html").is_file()


def test_output_goes_where_it_is_told(folder):
    assert run("report", "run", "--output", "new/a.HTML", "--quiet").exit_code == 0
    whole = Path("new/a.HTML").read_bytes()
    printed = run("report", "run", "--output", "-")
    assert printed.exit_code == 0 and printed.stdout_bytes == whole
    done = run("report", "run", "--output", "a.html", "--json")
    assert json.loads(done.stdout) == {"report": "a.html", "bytes": len(whole), "omitted": {"run": {}}}


def test_comparison_of_two_runs(folder):
    shutil.copytree("run", "other")
    change("other", seed=1)
    done = run("compare", "run", "other", "--device", "numpy")
    assert done.exit_code == 0 and done.stdout.startswith("report comparison.html (")
    tree = read(Path("comparison.html").read_text("utf-8"))
    assert "seed" in section(tree, "differences").text
    assert "The runs differ in the split of the rows." in section(tree, "results").text


def test_data_that_has_gone_or_changed_is_no_error(folder):
    Path("rows.npy").unlink()
    done = run("report", "run")
    assert done.exit_code == 0 and "run lacks" in done.stderr and "rows.npy" in done.stderr
    tree = read(Path("run/report.html").read_text("utf-8"))
    saved = json.loads(Path("run/result.json").read_text("utf-8"))
    assert saved["test"]["accuracy"] in exact(section(tree, "results"))
    np.save("rows.npy", ROWS[:60])
    assert "has changed since the training run" in run("report", "run").stderr
    assert run("report", "run", "--quiet").stderr == ""


def test_model_that_is_damaged_is_left_out(folder):
    for path in ("run/model.safetensors", "run/checkpoint/last.safetensors"):
        Path(path).write_bytes(b"no checkpoint")
    done = run("report", "run")
    assert done.exit_code == 0 and "run lacks everything that the model answers" in done.stderr


def test_run_without_a_test_set_says_so(folder):
    done = run("train", "rows.npy", *FAST, "--test", "0", "--out", "all", "--report")
    assert done.exit_code == 0
    tree = read(Path("all/report.html").read_text("utf-8"))
    assert "the run held out no test rows" in section(tree, "missing").text


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["report", "nothing"], 2, "nothing does not exist; give the run folder of `ffnn-gpu train`"),
        (["report", "."], 2, ". is not a run folder: it has no config.toml"),
        (
            ["report", "run", "--output", "run/config.toml"],
            2,
            "a report ends with .html, not run/config.toml",
        ),
        (["report", "run", "--output", "folder.html"], 2, "--output: folder.html is a folder"),
        (["report", "run", "--output", "rows.npy/a.html"], 1, "rows.npy"),
        (["report", "run", "--device", "cupy:99"], 4, "cupy"),
        (["compare", "run"], 2, "compare needs at least two different run folders; given: run"),
        (
            ["compare", "run", "./run"],
            2,
            "compare needs at least two different run folders; given: run, ./run",
        ),
        (["compare", "run", "nothing"], 2, "nothing does not exist"),
        (["compare"], 2, "Missing argument"),
    ],
)
def test_wrong_words_are_refused_in_a_sentence(folder, words, code, complaint):
    Path("folder.html").mkdir()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = run(*words)
    assert done.exit_code == code and done.stdout == "" and complaint in done.stderr.replace(os.sep, "/")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("result.json", "{"),
        ("result.json", '{"test": 5}'),
        ("result.json", '{"epochs": "<b>"}'),
        ("result.json", "[1]"),
        ("result.json", '{"test": {"accuracy": "high"}}'),
        ("result.json", '{"rows": {"test": []}}'),
        ("result.json", '{"baseline": {"predicts": "a", "metric": "rmse", "better": 1, "rmse": "x"}}'),
        ("result.json", '{"baseline": {}}'),
        ("result.json", '{"ensemble": {"members": [1]}}'),
        ("result.json", '{"table": {"checksum": [1], "duckdb": "1"}}'),
        ("result.json", '{"search": {"trials": {}}}'),
        ("config.toml", "epochs = 'many'"),
        ("metrics.jsonl", '{"epoch": "first"}\n{"epoch": 2}'),
        ("metrics.jsonl", '[1, 2]\n{"epoch": 2}'),
        ("metrics.jsonl", f'{{"epoch": 1{"0" * 400}}}\n{{"epoch": 2}}'),
    ],
)
def test_damaged_files_are_named(folder, name, content):
    Path("run", name).write_text(content, "utf-8")
    done = run("report", "run")
    assert done.exit_code in (2, 3) and name in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("has_result", [True, False])
def test_rows_that_the_model_cannot_read_are_left_out(folder, has_result):
    np.save("rows.npy", np.hstack([ROWS, ROWS]))
    if not has_result:
        Path("run/result.json").unlink()
    done = run("report", "run")
    assert done.exit_code == 0 and "x has 7 columns; layer 0 of this network reads 3" in done.stderr


def test_history_in_another_encoding_is_named(folder):
    Path("run/metrics.jsonl").write_bytes(b"\xff\xfe{")
    done = run("report", "run")
    assert done.exit_code == 3 and "metrics.jsonl is damaged: it is no UTF-8 text" in done.stderr


def test_history_without_losses_has_no_curve_of_them(folder):
    Path("run/metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}', "utf-8")
    done = run("report", "run")
    assert done.exit_code == 0 and "run lacks learning curves" in done.stderr


@pytest.mark.parametrize("command", ["info", "evaluate"])
def test_damaged_result_is_named_by_other_commands(folder, command):
    Path("run/result.json").write_text('{"model": "forest", "rows": 5}', "utf-8")
    done = run(command, "run")
    assert done.exit_code == 3 and "result.json is damaged: model is 'forest'" in done.stderr


def test_result_of_an_earlier_version_is_enough(folder):
    Path("run/result.json").write_text('{"test": {"accuracy": 0.5, "loss": null}}', "utf-8")
    assert run("report", "run").exit_code == 0
    results = section(read(Path("run/report.html").read_text("utf-8")), "results")
    assert exact(results.all("table")[0]) == [0.5] and "Finished: 2 of 2 epochs." in results.text


def test_history_that_is_cut_ends_before_its_last_line(folder):
    file = Path("run/metrics.jsonl")
    lines = file.read_text("utf-8").splitlines()
    file.write_text("\n".join([lines[0], lines[1][:9]]), "utf-8")
    assert history_of(Path("run")).rows == [json.loads(lines[0])]
    file.write_text("\n".join([lines[0][:9], lines[1]]), "utf-8")
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 1, is damaged"):
        history_of(Path("run"))


def test_data_that_can_be_read_once_is_not_read_again(folder, monkeypatch):
    change("run", data="-")
    monkeypatch.setattr(record, "read_again", lambda *given: pytest.fail("standard input was read"))
    done = run("report", "run")
    assert done.exit_code == 0 and "the data came from -, which can be read only once" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe that its reader closes")
def test_reader_that_closes_the_pipe_is_no_error(folder, monkeypatch, capfd):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as end:
            main(["report", "run", "--output", "-", "--quiet"])
    assert not end.value.code and capfd.readouterr() == ("", "")


def test_interrupted_run_gets_no_report_until_it_is_asked_for(folder):
    saved = json.loads(Path("run/result.json").read_text("utf-8")) | {"interrupted": "SIGINT"}
    history = history_of(Path("run"))
    history.interrupted = signal.SIGINT
    done, lines = result.Result(Path("run"), Model.load("run", "numpy"), history, saved), []
    Path("run/report.html").unlink()
    after_training(resolve({}, file="run/config.toml", environment={}), done, lines.append)
    assert lines == ["no report of an interrupted run; write one by `ffnn-gpu report run`"]
    assert not Path("run/report.html").exists()
    Path("run/result.json").write_text(json.dumps(saved), "utf-8")
    assert run("report", "run").exit_code == 0
    assert "Interrupted by SIGINT after 2 of 2 epochs." in Path("run/report.html").read_text("utf-8")
