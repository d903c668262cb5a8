"""scripts/benchmark_pack.py as a user runs it, on a few rows."""

import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_pack.py"


def test_pack_and_single_networks_are_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {"members": 2, "hidden": 4, "rows": 32, "batch": 16, "epochs": 1, "rounds": 1}
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *(f"--{name}={value}" for name, value in few.items())])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["one by one", "pack", "pack / one by one"]
    assert all(float(number) > 0 for number in lines[2].split()[-2:])
