"""What every test shares: the backends, the stored golden vectors, and a last line that says what no GPU has seen."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from ffnn_gpu.backend import Backend, get_backend, probe

REQUIRE_GPU = "FFNN_GPU_REQUIRE_GPU"
GOLDEN = Path(__file__).parent / "golden"


def usable_gpu():
    """The GPU's backend. Skips with the probe's reason, or fails with it where a GPU is required."""
    found = probe(0)
    if found.usable: return get_backend("cupy")
    if os.environ.get(REQUIRE_GPU, "0") not in ("", "0"):
        pytest.fail(f"{REQUIRE_GPU} is set, and {found.reason}. Hint: {found.hint}", pytrace=False)
    return pytest.skip(found.reason)


MAKE = {"numpy": lambda: get_backend("numpy"), "reference": Backend, "cupy": usable_gpu}


@pytest.fixture(params=["numpy", "reference", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request):
    """Each backend in turn, as an object: a Network takes it as it is."""
    return MAKE[request.param]()


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Each floating type a network can have."""
    return request.param


@pytest.fixture(scope="session")
def golden():
    """name → what `golden/make_golden.py` stored under that name."""
    return lambda name: json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def pytest_runtest_setup(item):
    """A test marked gpu that does not use the fixture skips by the same probe."""
    if item.get_closest_marker("gpu") and "backend" not in getattr(item, "fixturenames", ()):
        usable_gpu()


def pytest_terminal_summary(terminalreporter):
    """One line for each reason to skip: nothing is left out in silence, and nothing scrolls everything else away."""
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", []))
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} tests not run: {reason}", yellow=True)
