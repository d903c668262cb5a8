"""train, evaluate and predict on every source of tables: what is said, what is refused, what is kept."""

import errno
import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from ffnn_gpu.arrays import file_rows
from ffnn_gpu.cli import fitting, result
from ffnn_gpu.cli.commands import main
from ffnn_gpu.cli.reading import dialect_of
from ffnn_gpu.cli.settings import resolve
from ffnn_gpu.tables import encoded
from ffnn_gpu.tables.encoding import Encoding

duckdb = pytest.importorskip("duckdb")

RNG = np.random.default_rng(3)
X = RNG.normal(size=(90, 2)).round(3)
FAST = ["--hidden", "4", "--batch-size", "16", "--epochs", "2"]


def text(separator=",", decimal=".", header=True):
    rows = [
        [f"{a}".replace(".", decimal), f"{b}".replace(".", decimal), "ripe" if a > b else "grün"]
        for a, b in X
    ]
    return "".join(separator.join(row) + "\n" for row in [["a", "b", "fruit"]] * header + rows)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FFNN_GPU_DEVICE", "numpy")
    monkeypatch.delenv("FFNN_GPU_DEBUG", raising=False)
    monkeypatch.setattr(result, "_draw_plots", lambda *arguments: None)
    (tmp_path / "fruit.csv").write_text(text(), encoding="utf-8")
    return tmp_path


def here(*arguments, **settings):
    return CliRunner().invoke(main, [*map(str, arguments)], **settings)


def trained(*arguments):
    done = here("train", *arguments, *FAST, "--out", "run", "--overwrite")
    assert done.exit_code == 0, done.stderr
    return done.stderr


def theta():
    return {name: value.tobytes() for name, value in load_file("run/model.safetensors").items()}


def test_every_source_of_the_same_rows_trains_the_same_model(folder):
    said = trained("fruit.csv")
    assert "read: the first row is the header\n" in said
    want = theta()
    (folder / "german.txt").write_text(text(";", ","), encoding="cp1252")
    said = trained("german.txt")
    assert (
        "read: cells separated by ';'; decimal sign ','; text in cp1252; the first row is the header" in said
    )
    assert theta() == want
    connection = duckdb.connect("fruit.duckdb")
    connection.execute("CREATE TABLE fruit AS SELECT * FROM read_csv('fruit.csv')")
    connection.execute("COPY fruit TO 'fruit.parquet' (FORMAT parquet)")
    connection.close()
    for arguments in (
        ["fruit.parquet"],
        ["fruit.duckdb:fruit"],
        ["--query", "SELECT * FROM 'fruit.parquet'"],
    ):
        trained(*arguments)
        assert theta() == want, arguments


def test_a_run_of_a_query_is_repeated_by_its_config(folder):
    trained("--query", "SELECT a, b, fruit FROM read_csv('fruit.csv')")
    want = theta()
    trained("--config", "run/config.toml")
    assert theta() == want
    assert here("evaluate", "run", "--json").exit_code == 0


def test_evaluate_and_predict_say_how_the_file_is_read_unless_quiet(folder):
    trained("fruit.csv")
    (folder / "new.tsv").write_text(text("\t", header=False), encoding="utf-16")
    (folder / "two.csv").write_text("1;2\n3;4\n")
    for arguments in (["evaluate", "run", "new.tsv", "--target", "2"], ["predict", "run", "two.csv"]):
        done = here(*arguments)
        assert done.exit_code == 0, done.stderr
        assert "cells separated by" in done.stderr
        assert "no header" in done.stderr
        assert here(*arguments, "--quiet").stderr == ""
    done = here("predict", "run", "--query", "SELECT a, b FROM read_csv('fruit.csv') LIMIT 3")
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 4), done.stderr
    done = here("evaluate", "run", "--query", "SELECT * FROM read_csv('fruit.csv')", "--json")
    assert json.loads(done.stdout)["rows"] == 90, done.stderr


def test_settings_of_text_files_reach_the_reader():
    flags = {"data": "a.csv", "separator": "tab", "decimal": ",", "encoding": "latin-1", "header": "false"}
    dialect = dialect_of(resolve(flags, environment={}))
    assert (dialect.separator, dialect.decimal, dialect.encoding, dialect.header) == (
        "\t",
        ",",
        "latin-1",
        False,
    )
    assert dialect_of(resolve({"data": "a.csv"}, environment={})).decimal == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["bad.csv"], 3, "line 3 has 4 cells"),
        (["fruit.csv", "--encoding", "klingon"], 2, "--encoding klingon"),
        (["fruit.csv", "--encoding", "ascii"], 3, "line"),
        (["fruit.csv", "--separator", "::"], 2, "--separator"),
        (["frut.csv"], 3, "did you mean 'fruit.csv'?"),
        (["*.parquet"], 3, "no file matches"),
        (["--query", "DROP TABLE x"], 3, "--query"),
        (["fruit.csv", "--query", "SELECT 1"], 2, "--query"),
        (["mixed"], 3, "lacks 'fruit'"),
    ],
)
def test_every_error_is_one_line_and_leaves_no_run_folder(folder, arguments, code, words):
    (folder / "bad.csv").write_text("a,b,fruit\n1,2,x\n1,2,x,3\n")
    (folder / "mixed").mkdir()
    (folder / "mixed" / "a.csv").write_text("a,b,fruit\n1,2,x\n")
    (folder / "mixed" / "b.csv").write_text("a,b\n1,2\n")
    done = here("train", *arguments, *FAST, "--out", "run")
    assert (done.exit_code, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert words in done.stderr
    assert not (folder / "run").exists()
    assert not (folder / "runs").exists()


def test_a_large_table_trains_from_a_file_as_it_does_from_memory(folder, monkeypatch):
    trained("fruit.csv")
    want = theta()
    monkeypatch.setattr(encoded, "MAPPED", 0)
    monkeypatch.setattr(file_rows, "MAPPED", 0)
    trained("fruit.csv")
    assert (folder / "run" / "encoded.npy").is_file()
    assert theta() == want
    calls = []
    encode = Encoding.encode
    monkeypatch.setattr(Encoding, "encode", lambda *arguments: calls.append(1) or encode(*arguments))
    assert here("train", "--resume", "--out", "run", "--epochs", "3").exit_code == 0
    assert not calls
    monkeypatch.undo()


def test_overwriting_a_run_removes_its_encoded_table(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(encoded, "MAPPED", 0)
        trained("fruit.csv")
    trained("fruit.csv")
    assert not [*(folder / "run").glob("encoded*")]


@pytest.mark.parametrize("made", ["run", "a/b/run", None])
def test_matrix_that_does_not_fit_on_the_disk_leaves_no_run_folder(folder, monkeypatch, made):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(encoded, "MAPPED", 0)
    out = [] if made is None else ["--out", made]
    written_there, moved_there = ["--test", "0", "--validation", "0"], []
    for rest, call in ((written_there, "lib.format.write_array_header_1_0"), (moved_there, "move")):
        with monkeypatch.context() as patch:
            patch.setattr(f"{'numpy' if rest else 'shutil'}.{call}", full)
            done = here("train", "fruit.csv", *FAST, *out, *rest)
        assert done.exit_code == 3 and "encoded.npy cannot be written (No space left" in done.stderr
        assert os.listdir(folder) == ["fruit.csv"]


def test_error_before_training_keeps_a_folder_that_was_there(folder, monkeypatch):
    (folder / "run").mkdir()
    monkeypatch.setattr(fitting, "fit_model", lambda *arguments: 1 / 0)
    assert here("train", "fruit.csv", *FAST, "--out", "run").exit_code == 1
    assert os.listdir(folder / "run") == []


def test_error_after_the_first_step_keeps_the_run(folder, monkeypatch):
    monkeypatch.setattr(fitting.EpochLog, "after_epoch", lambda *arguments: 1 / 0)
    assert here("train", "fruit.csv", *FAST, "--out", "run").exit_code == 1
    assert (folder / "run" / "config.toml").is_file()


def test_predict_and_evaluate_count_the_cells_that_training_rows_lack(folder):
    names = [f"c{k}" for k in range(7)]
    rows = [[*RNG.choice(["u", "v", "w"], 7), *X[k].tolist(), k % 2] for k in range(90)]
    lines = [",".join(map(str, row)) for row in [[*names, "a", "b", "y"], *rows]]
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    trained("train.csv")
    spoilt = [lines[0], ",".join(["new"] * 7 + ["", "1e9", "1"]), *lines[2:]]
    (folder / "new.csv").write_text("\n".join(spoilt) + "\n")
    for command in ("predict", "evaluate"):
        assert "column" not in here(command, "run", "train.csv").stderr
        said = here(command, "run", "new.csv").stderr.splitlines()
        found = [line for line in said if line.startswith("column ")]
        assert "column 'c0': 1 of 90 cells with a level that no training row has: 'new'" in found
        assert len(found) == 5 and "… and 4 more such columns" in said
        assert here(command, "run", "new.csv", "--quiet").stderr == ""


def test_evaluate_refuses_a_table_that_has_changed_since_the_training_run(folder):
    trained("fruit.csv")
    assert here("evaluate", "run").exit_code == 0
    lines = text().splitlines(keepends=True)
    for changed in ([lines[0], *lines[:0:-1]], [*lines[:5], lines[6], *lines[6:]]):  # an order, a row
        (folder / "fruit.csv").write_text("".join(changed), encoding="utf-8")
        done = here("evaluate", "run")
        assert done.exit_code == 3 and "fruit.csv has other cells, or rows in another order" in done.stderr
    report = json.loads((folder / "run/result.json").read_text())
    report["table"]["duckdb"] = "v0.1"  # whose checksums may differ
    (folder / "run/result.json").write_text(json.dumps(report))
    assert here("evaluate", "run").exit_code == 0
