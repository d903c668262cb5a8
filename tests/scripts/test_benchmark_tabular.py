"""scripts/benchmark_tabular.py: a contender over its limit is listed, and does not end the comparison."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import page

PATH = Path(__file__).resolve().parents[2] / "scripts" / "benchmark_tabular.py"
ROW = {"error": 1.0, "fit": 2.0, "fit_processor": 2.0, "predict": 0.1, "megabytes": 9.0, "rows": 80}
RESULTS = PATH.parent.parent / "benchmarks" / "results"
STOPPED = {"table": "Sacramento", "split": "0", "contender": "slow"}


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("benchmark_tabular", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(name, split, contender, limit):
    """Stand for a contender: "slow" needs more than its limit."""
    if contender == "slow":
        raise subprocess.TimeoutExpired(contender, limit)
    return {"table": name, "split": split, "contender": contender, **ROW}


def test_process_over_its_limit_is_ended(script):
    with pytest.raises(subprocess.TimeoutExpired):
        script.run("Sacramento", "0", "lightgbm", 0.01)


def test_killed_contender_is_left_out(script, monkeypatch, capsys):
    done = subprocess.CompletedProcess([], -9, "", "")
    monkeypatch.setattr(script.subprocess, "run", lambda *words, **options: done)
    assert script.run("Sacramento", "0", "lightgbm", None) is None
    assert "lightgbm on Sacramento: exit code -9" in capsys.readouterr().err


def test_file_and_page_list_stopped_contenders(script, monkeypatch, tmp_path):
    file = tmp_path / "x-tabular.json"
    words = ["--tables", "Sacramento", "--splits", "0", "--contenders", "slow,quick", "--limit", "5"]
    monkeypatch.setattr("sys.argv", ["benchmark_tabular.py", *words, "--json", str(file)])
    monkeypatch.setattr(script, "run", answer)
    stored = json.loads((RESULTS / "amd-epyc-506e9c78cb-float32.json").read_text(encoding="utf-8"))
    monkeypatch.setattr(script.launcher, "machine", lambda job: stored["machine"])
    script.main()
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["stopped"] == [STOPPED]
    assert [row["contender"] for row in result["rows"]] == ["quick"]
    shown = page.of_tabular(file.name, result)
    assert "stopped after 5 s" in shown
    assert "- slow on Sacramento, split 0" in shown
    assert "--limit 5" in shown
