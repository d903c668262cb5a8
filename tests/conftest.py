"""Fixtures for all tests, in addition to the plugin's `backend`: floating types and stored golden vectors."""

import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
pytest_plugins = [
    "pytest_ffnn_gpu",
    "pytester",
]  # the first is not installed if a checkout is tested directly


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Yield float32 and float64."""
    return request.param


@pytest.fixture(scope="session")
def golden():
    """Return a function: name → the data that `golden/make_golden.py` stored under this name."""
    return lambda name: json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
