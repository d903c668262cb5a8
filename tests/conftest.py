"""Fixtures for all tests besides the plugin's `backend`: floating types and stored golden vectors."""

import gc
import json
import signal
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
# The first plugin is named because a checkout that is tested directly has not installed it.
pytest_plugins = ["pytest_ffnn_gpu", "pytester"]

# A command started with & ignores Ctrl-C, and one under nohup SIGHUP. Tests send both.
HANDLERS = {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}
for _name, _handler in HANDLERS.items():
    if hasattr(signal, _name) and signal.getsignal(_number := getattr(signal, _name)) is signal.SIG_IGN:
        signal.signal(_number, _handler)


@pytest.fixture(scope="module", autouse=True)
def _few_objects_to_collect():
    """Leave the objects of earlier test files out of garbage collections.

    Why: a full collection visits every module, test and report, and these live as long as the whole run.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Yield float32 and float64."""
    return request.param


@pytest.fixture(scope="session")
def golden():
    """Return a function from a name to the data that `golden/make_golden.py` stored under it."""
    return lambda name: json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
