"""`ffnn-gpu inspect` prints what `train` would do with a table, on any terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

import ffnn_gpu
from ffnn_gpu.cli.commands import main
from tests.cli.test_columns import N, X, write


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(**{
        "a name that is much longer than its column of the printed table": [f"{x:.5f}" for x in X[:, 1]],
        "[red]温度[/red]": ["高い" if k % 3 else "低い" for k in range(N)],
        "y": ["yes" if x > 0 else "no" for x in X[:, 0]],
    })  # fmt: skip
    return tmp_path


def here(*arguments):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def test_every_column_has_a_line_within_100_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    done = here("t.csv", "--target", "y", "--id", "patient", "--drop", "w")
    assert done.exit_code == 0, done.output
    assert max(map(cell_len, done.stdout.splitlines())) <= 100
    assert done.stdout.startswith("t.csv: 240 rows × 7 columns besides the target")
    assert "target 'y': 2 classes: no " in done.stdout
    for part in (
        "patient",
        "left out: --id names it",
        "left out: --drop names it",
        "time",
        "[red]温",
        "高い 67%",
    ):
        assert part in done.stdout, part


def test_json_is_strict_and_says_the_same():
    done = here("t.csv", "--target", "y", "--group", "patient", "--json")

    def refuse(constant):
        raise AssertionError(constant)

    found = json.loads(done.stdout, parse_constant=refuse)
    columns = {column["name"]: column for column in found["columns"]}
    assert found["rows"] == N and found["target"]["names"] == ["y"]
    assert columns["patient"]["kind"] == "group" and columns["day"]["kind"] == "time"
    assert columns["a"]["kind"] == "number" and len(columns["a"]["quantiles"]) == 5
    assert {"name", "kind", "reason", "missing", "treatment", "quantiles", "levels"} == {*columns["a"]}


def test_what_train_refuses_is_a_warning():
    write(
        price=["12.5 kg" if k == 75 else f"{k}.5" for k in range(N)],
        y=["?" if k == 9 else "ab"[k % 2] for k in range(N)],
    )
    done = here("t.csv", "--target", "y")
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert "239 of 240 cells are numbers; line 77 holds '12.5 kg'" in text
    assert "target: t.csv, target 'y': line 11 holds '?' among 2 classes" in text
    assert CliRunner().invoke(main, ["train", "t.csv", "--target", "a"]).exit_code == 3


def test_a_narrow_encoding_gets_plain_letters():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "FFNN_GPU_DEVICE": "numpy", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "ffnn_gpu", "inspect", "t.csv", "--target", "y"],
        env=environment, capture_output=True, check=False, timeout=300, cwd=Path.cwd(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done.stdout.decode("ascii")


def test_a_file_that_is_no_table_is_refused():
    Path("x.npz").write_bytes(b"")
    done = here("x.npz")
    assert done.exit_code == 3 and "x.npz is no table" in done.stderr


QUALITY = [str(3 + k % 6) for k in range(N)]
DECIDED = "whole numbers in the target are taken as quantities: they begin at 3"


def test_decision_about_whole_numbers_of_a_target_is_explained():
    write(quality=QUALITY)
    train = ["train", "t.csv", "--target", "quality", "--epochs", "1", "--hidden", "4", "--device", "numpy"]
    for command in (["inspect", *train[1:4]], train):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0 and DECIDED in done.output, done.output
    assert "→ regression" in done.output and "(--task multiclass changes it)" in done.output
    done = CliRunner().invoke(main, [*train, "--task", "multiclass"])
    assert done.exit_code == 0 and "6 classes" in done.output and "taken as" not in done.output
    found = ffnn_gpu.train_table("t.csv", "quality", hidden=(4,), epochs=1, verbose=0)
    assert any(each.startswith(DECIDED) and "--" not in each for each in found.warnings)
    found = here("t.csv", "--target", "y")
    assert "taken as" not in found.output
