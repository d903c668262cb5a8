"""The pytest plugin of ffnn_gpu: the `backend` fixture, the `gpu` marker and --require-gpu.

    def test_mine(backend): …          runs on NumPy, on the reference backend, and on a usable GPU
    @pytest.mark.gpu                   skips without a usable GPU, with the reason
    pytest --require-gpu               (or FFNN_GPU_REQUIRE_GPU=1) turns such a skip into a failure

If your suite defines its own `backend` fixture, yours is used. The plugin does nothing in a run that does not
import ffnn_gpu, so tests that another suite marks gpu are left alone. Disable it with `-p no:pytest_ffnn_gpu`
if your suite has its own option --require-gpu, or uses ffnn_gpu and marks tests gpu that need another
library's GPU.

Why beside the package and not in it: pytest imports every installed plugin at start, for every suite on the
machine. Importing a module of ffnn_gpu imports the whole package, which takes 0.25 s. This file imports only
pytest.
"""

import importlib
import os
import sys
from collections import Counter

import pytest

REQUIRE_GPU = "FFNN_GPU_REQUIRE_GPU"
OFF = ("", "0", "false", "no", "off")  # its values that require nothing
# A property of reports: under xdist, the process that prints them is not the one that imports ffnn_gpu.
OURS = ("ffnn_gpu", "needs a GPU")


def pytest_addoption(parser):
    text = f"fail tests that would be skipped without a GPU (or set {REQUIRE_GPU}=1)"
    parser.getgroup("ffnn_gpu").addoption("--require-gpu", dest=REQUIRE_GPU, action="store_true", help=text)


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "gpu: needs a GPU that ffnn_gpu can use; skips with the probe's reason"
    )


def usable_gpu(config):
    """Return the GPU's backend; skip with the probe's reason, or fail with it if a GPU is required."""
    from ffnn_gpu.backends.choice import get_backend, probe

    found = probe(0)
    if found.usable:
        return get_backend("cupy")
    return skip_or_fail(config, found.reason, f". Hint: {found.hint}")


def skip_or_fail(config, reason, hint=""):
    """Skip for want of a GPU or of a library that it needs; fail instead if a GPU is required."""
    by = "--require-gpu" if config.getoption(REQUIRE_GPU) else REQUIRE_GPU
    if by != REQUIRE_GPU or os.environ.get(REQUIRE_GPU, "").strip().lower() not in OFF:
        pytest.fail(f"{by} is set, and {reason}{hint}", pytrace=False)
    return pytest.skip(reason)


def import_or_fail(config, name):
    """Return the module of this name; without it, do what `skip_or_fail` does."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        return skip_or_fail(config, f"{name} cannot be imported: {error}")


@pytest.fixture(scope="session", params=["numpy", "reference", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request):
    """Return each backend in turn, as an object that `Network` accepts."""
    from ffnn_gpu.backends.choice import Backend, get_backend

    if request.param == "cupy":
        return usable_gpu(request.config)
    return Backend() if request.param == "reference" else get_backend("numpy")


@pytest.hookimpl(tryfirst=True)  # before fixtures are made
def pytest_runtest_setup(item):
    """Skip or fail a test marked gpu, by the same probe."""
    if not item.get_closest_marker("gpu") or not _uses_ffnn_gpu(item):
        return
    item.user_properties.append(OURS)
    usable_gpu(item.config)


def _uses_ffnn_gpu(item):
    """Return whether the run has imported ffnn_gpu or this test will."""
    code = getattr(getattr(item, "function", None), "__code__", None)
    return "ffnn_gpu" in sys.modules or (
        code is not None and any(name.startswith("ffnn_gpu") for name in code.co_names)
    )


def pytest_terminal_summary(terminalreporter):
    """Print one line for each reason of skipped tests, with their number."""
    skipped = terminalreporter.stats.get("skipped", [])
    if "ffnn_gpu" not in sys.modules and not any(map(_is_ours, skipped)):
        return
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} tests not run: {reason}", yellow=True)


def _is_ours(report):
    """Return whether the plugin marked this report; a CollectReport has no properties."""
    return OURS in map(tuple, getattr(report, "user_properties", ()))
