"""scripts/gpu_check.py where there is no GPU, and how it counts."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ffnn_gpu.backend.probe import Probe

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gpu_check.py"
REPORT = '<testsuites><testsuite errors="1" failures="2" skipped="3" tests="10"/></testsuites>'


@pytest.fixture
def gpu_check(monkeypatch):
    """The script as a module; it puts the clone on the path, which is taken back."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_machine_without_a_gpu_gets_one_sentence_and_a_failing_exit_code(tmp_path):
    told = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(tmp_path / "report")],
        capture_output=True, text=True, check=False, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert told.returncode == 2
    assert told.stdout == ""
    assert told.stderr.startswith("gpu_check found no GPU to test: CUDA device 0 cannot be used")
    assert told.stderr.count("\n") == 1
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("exit_code", [0, 1])
def test_report_says_what_ran_where(gpu_check, tmp_path, monkeypatch, exit_code):
    def run(command, **options):
        if "pytest" not in command:
            return SimpleNamespace(returncode=0, stdout="")
        assert options["env"]["FFNN_GPU_REQUIRE_GPU"] == "1"
        Path(command[-1].removeprefix("--junit-xml=")).write_text(REPORT)
        return SimpleNamespace(returncode=exit_code)

    monkeypatch.setattr(gpu_check, "probe", lambda index: Probe(index))
    monkeypatch.setattr(gpu_check, "machine", lambda: {"gpu": "a GPU"})
    monkeypatch.setattr(gpu_check.subprocess, "run", run)
    assert gpu_check.main(["--out", str(tmp_path / "new" / "folder")]) == exit_code
    written = json.loads((tmp_path / "new" / "folder" / "gpu_check.json").read_text())
    assert (written["passed"], written["failed"], written["skipped"]) == (4, 3, 3)
    assert (written["gpu"], written["exit_code"]) == ("a GPU", exit_code)


def test_commit_of_a_clone_is_named_and_of_a_copy_is_not(gpu_check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert gpu_check.commit() is None
