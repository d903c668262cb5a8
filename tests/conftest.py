"""What every test shares besides the plugin's `backend`: the floating types and the stored golden vectors."""

import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
pytest_plugins = [
    "pytest_ffnn_gpu",
    "pytester",
]  # the first is not installed where a checkout is tested as it lies


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Each floating type a network can have."""
    return request.param


@pytest.fixture(scope="session")
def golden():
    """name → what `golden/make_golden.py` stored under that name."""
    return lambda name: json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
