"""Run the examples as they stand, in a process of their own, where warnings are errors."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def printed(name: str, folder: Path) -> str:
    """Run an example in an empty folder and return what it prints."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_comparison_with_scikit_learn_finds_one_network(tmp_path: Path) -> None:
    text = printed("compare_with_scikit_learn.py", tmp_path)
    accuracies = re.findall(r"s  accuracy ([\d.]+)", text)
    assert len(accuracies) == 2 and accuracies[0] == accuracies[1] and float(accuracies[0]) > 0.9
    assert float(re.search(r"probability: (\S+)", text)[1]) < 1e-9


def test_grid_search_on_a_table_finds_balanced_weights(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("duckdb")
    text = printed("grid_search_on_a_table.py", tmp_path)
    assert "'class_weight': 'balanced'" in text
    assert float(re.search(r"on the test set: ([\d.]+)", text)[1]) > 0.8
