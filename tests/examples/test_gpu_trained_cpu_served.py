"""The example trains, exports and serves as it stands."""

import re
from pathlib import Path

import pytest

from tests.in_process import printed_by

EXAMPLE = Path(__file__).parents[2] / "examples" / "gpu_trained_cpu_served.py"


def test_example_serves_what_it_trained(tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed: no ONNX file is written")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: no ONNX file is run")
    pytest.importorskip("duckdb", reason="DuckDB is not installed: no table is read")
    printed = printed_by(EXAMPLE, tmp_path, str(tmp_path))
    assert float(re.search(r"test accuracy (\S+)", printed)[1]) > 0.75
    served, furthest = re.search(r"(\d+) offers served; .* at most (\S+)", printed).groups()
    assert int(served) == 50 and float(furthest) < 1e-6
