"""The example trains, exports and serves as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "gpu_trained_cpu_served.py"


def test_example_serves_what_it_trained(tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed: no ONNX file is written")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: no ONNX file is run")
    pytest.importorskip("duckdb", reason="DuckDB is not installed: no table is read")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", str(EXAMPLE), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(re.search(r"test accuracy (\S+)", done.stdout)[1]) > 0.75
    served, furthest = re.search(r"(\d+) offers served; .* at most (\S+)", done.stdout).groups()
    assert int(served) == 50 and float(furthest) < 1e-6
