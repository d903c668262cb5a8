"""`predict` writes one answer per row, beside the columns to keep, in UTF-8, whatever the locale."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import chdir

import numpy as np
import pytest
from click.testing import CliRunner

from ffnn_gpu.cli import result
from ffnn_gpu.cli.commands import main
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.tables import answers
from tests.every_case import some_of

pytest.importorskip("duckdb")
pq = pytest.importorskip("pyarrow.parquet")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
LABELS = np.where(X[:, 0] > 0, "été", "冬")
FAST = ["--hidden", "4", "--epochs", "3", "--batch-size", "16", "--dropout", "0", "--device", "numpy"]
ENVIRONMENT = {**os.environ, "FFNN_GPU_DEVICE": "numpy", "OPENBLAS_NUM_THREADS": "1"}


def here(*arguments, **settings):
    """Run the command in this process."""
    return CliRunner().invoke(main, [*map(str, arguments)], **settings)


def done(*arguments, **settings):
    found = here(*arguments, **settings)
    assert found.exit_code == 0, found.output
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with data.csv, rows.csv and the run that was trained on data.csv."""
    tmp_path = tmp_path_factory.mktemp("made")
    rows = [f"{i:03d},{a!r},{b!r}" for i, (a, b) in enumerate(X.tolist())]
    (tmp_path / "data.csv").write_text(
        "x,y,season\n" + "".join(f"{row[4:]},{label}\n" for row, label in zip(rows, LABELS, strict=True)),
        encoding="utf-8",
    )
    (tmp_path / "rows.csv").write_text("id,note,y,x\n" + "".join(
        f'{i:03d},"größe, ""{i}""",{b!r},{a!r}\n' for i, (a, b) in enumerate(X.tolist())
    ), encoding="utf-8")  # fmt: skip
    with chdir(tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setattr(result, "_draw_plots", lambda *arguments: None)
        done("train", "data.csv", *FAST, "--out", "run", "--quiet")
    return tmp_path


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """Return a working directory with a copy of `made`."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FFNN_GPU_DEVICE", "numpy")
    monkeypatch.setattr(result, "_draw_plots", lambda *arguments: None)
    return tmp_path


def read(path):
    """Return {name: cells} of an output file, without this package."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pydict()
    text = path.read_text("utf-8")
    if path.suffix == ".jsonl":
        rows = [*map(json.loads, text.splitlines())]
    else:
        rows = [*csv.DictReader(io.StringIO(text, newline=""))]
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("keep", [["--keep", "note,id"], ["--keep", "note", "--keep", "0"]])
def test_kept_columns_are_as_written_in_front_of_the_answers(folder, ending, keep):
    done("predict", "run", "rows.csv", *keep, "--probabilities", "--output", f"out{ending}")
    found = read(folder / f"out{ending}")
    assert [*found] == ["note", "id", "prediction", "p_été", "p_冬"]
    assert found["id"] == [f"{i:03d}" for i in range(60)]
    assert found["note"] == [f'größe, "{i}"' for i in range(60)]
    model = Model.load("run", "numpy")
    assert found["prediction"] == model.predict(X).tolist()
    chances = np.array([[*map(float, found[name])] for name in ("p_été", "p_冬")]).T
    assert chances.tobytes() == model.probabilities(X).tobytes()


def test_kept_columns_go_to_standard_output_and_to_npy_input(folder):
    lines = done("predict", "run", "rows.csv", "--keep", "id").output.splitlines()
    assert lines[0] == "id,prediction" and lines[8].startswith("007,")
    np.save("x.npy", X)
    found = done("predict", "run", "x.npy", "--keep", "1,0").output.splitlines()
    assert found[0] == "1,0,prediction" and found[1].split(",")[:2] == [*map(repr, X[0, ::-1].tolist())]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["rows.csv", "--keep", "ids"], 3, "--keep: rows.csv has no column 'ids'; did you mean 'id'?"),
        (["x.npy", "--keep", "ids"], 3, "--keep: x.npy has no column 'ids'; the columns are 0 … 1"),
        (["rows.csv", "--keep", "id", "--output", "a.npy"], 2, "--keep needs a file of named columns"),
        (["twice.csv", "--keep", "prediction"], 2, "the predictions have a column 'prediction' too"),
    ],
)
def test_column_that_cannot_be_kept_is_refused(folder, arguments, code, message):
    np.save("x.npy", X)
    (folder / "twice.csv").write_text("prediction,x,y\na,1,2\n")
    found = here("predict", "run", *arguments)
    assert (found.exit_code, message in found.output) == (code, True), found.output
    assert not (folder / "a.npy").exists()


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".npy"])
def test_input_with_only_a_header_has_an_output_with_only_a_header(folder, ending):
    (folder / "none.csv").write_text("y,id,x\n")
    keep = [] if ending == ".npy" else ["--keep", "id"]
    done("predict", "run", "none.csv", *keep, "--probabilities", "--output", f"out{ending}")
    if ending == ".csv":
        assert (folder / "out.csv").read_text("utf-8") == "id,prediction,p_été,p_冬\n"
    elif ending == ".npy":
        assert np.load("out.npy").shape == (0, 2)
    elif ending == ".jsonl":
        assert (folder / "out.jsonl").read_bytes() == b""
    else:
        table = pq.read_table("out.parquet")
        assert len(table) == 0 and table.column_names == ["id", "prediction", "p_été", "p_冬"]
    assert done("predict", "run", "-", input="x,y\n").output == "prediction\n"


def test_blank_rows_shift_no_answer(folder):
    text = (folder / "rows.csv").read_text("utf-8")
    wanted = done("predict", "run", "rows.csv", "--keep", "id").output
    header, *rows = text.splitlines(keepends=True)
    for blank in ("\n", "\r\n", "   \n", "\n\n\n"):
        spaced = header + blank + blank.join(rows) + blank
        assert done("predict", "run", "-", "--keep", "id", input=spaced).output == wanted


@pytest.mark.parametrize(
    "locale",
    some_of(
        [
            pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, id="C"),
            pytest.param({"PYTHONIOENCODING": "cp1252"}, id="cp1252"),
            pytest.param({"PYTHONIOENCODING": "ascii"}, id="ascii"),
        ],
        3,
    ),  # see also test_standard_streams.py
)
def test_standard_output_and_files_are_utf8_in_every_locale(folder, locale):
    command = [sys.executable, "-m", "ffnn_gpu", "predict", "run", "rows.csv", "--keep", "note,id"]
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("LC_", "LANG"))}
    found = subprocess.run(command, env=environment | locale, capture_output=True, check=False)
    assert found.returncode == 0, found.stderr
    done("predict", "run", "rows.csv", "--keep", "note,id", "--output", "here.csv")
    assert found.stdout == (folder / "here.csv").read_bytes()
    assert "冬" in found.stdout.decode("utf-8")
    there = [*command, "--output", "there.csv"], [*command, "--output", "there.jsonl"]
    code = f"from ffnn_gpu.cli.commands import main\nfor words in {[words[3:] for words in there]}:\n"
    code += "    try: main(words)\n    except SystemExit as end: assert not end.code"
    subprocess.run([sys.executable, "-c", code], env=environment | locale, check=True, capture_output=True)
    for ending in (".csv", ".jsonl"):
        done("predict", "run", "rows.csv", "--keep", "note,id", "--output", f"here{ending}")
        assert (folder / f"there{ending}").read_bytes() == (folder / f"here{ending}").read_bytes()


def test_labels_are_written_as_in_the_training_file(folder):
    for labels in (
        ["007", "7"],
        ["1000000001.0", "1000000002.0"],
        ["True", "False"],
        ["1e2", "100"],
        ["-1", "1"],
    ):
        rows = "".join(f"{4 * (i % 2) + X[i, 0] / 9:.4f},{labels[i % 2]}\n" for i in range(60))
        (folder / "l.csv").write_text("x,label\n" + rows)
        done("train", "l.csv", *FAST, "--epochs", "20", "--lr", "0.1", "--out", "l", "--overwrite", "--quiet")
        found = done("predict", "l", "l.csv").output.split()
        assert {*found[1:]} == {*labels}


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".npy"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_failed_write_leaves_the_old_file(folder, monkeypatch, ending, error):
    (folder / f"out{ending}").write_bytes(b"precious")
    before = {*folder.iterdir()}
    write = answers.write

    def fail(path, *rest):
        write(path, *rest)
        raise error

    monkeypatch.setattr(answers, "write", fail)
    assert here("predict", "run", "rows.csv", "--output", f"out{ending}").exit_code != 0
    assert (folder / f"out{ending}").read_bytes() == b"precious" and {*folder.iterdir()} == before
