"""The pytest plugin of ffnn_gpu: the `backend` fixture, the `gpu` marker and --require-gpu.

    def test_mine(backend): …          runs on NumPy, on the reference, and on the GPU where one can be used
    @pytest.mark.gpu                   skips with the probe's reason where none can
    pytest --require-gpu               (or FFNN_GPU_REQUIRE_GPU=1) such a skip is a failure

A fixture called `backend` of your own stands above this one. Where neither a run nor a test imports ffnn_gpu the plugin does
nothing: tests that other suites mark gpu are theirs. A suite that has an option --require-gpu itself, or that uses ffnn_gpu
and marks tests gpu that need another library's GPU, switches it off by `-p no:pytest_ffnn_gpu`.

Why beside the package and not in it: pytest imports every installed plugin when it starts, for every suite on the machine,
and importing ffnn_gpu.anything imports ffnn_gpu, a quarter of a second. This file imports nothing but pytest.
"""

import os
import sys
from collections import Counter

import pytest

REQUIRE_GPU = "FFNN_GPU_REQUIRE_GPU"
OURS = (
    "ffnn_gpu",
    "needs a GPU",
)  # a property of reports: under xdist another process imports ffnn_gpu than prints them


def pytest_addoption(parser):
    text = f"a test that would skip for want of a GPU fails instead (so does {REQUIRE_GPU}=1)"
    parser.getgroup("ffnn_gpu").addoption("--require-gpu", dest=REQUIRE_GPU, action="store_true", help=text)


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "gpu: needs a GPU that ffnn_gpu can use; skips with the probe's reason"
    )


def usable_gpu(config):
    """The GPU's backend. Skips with the probe's reason, or fails with it where a GPU is required."""
    from ffnn_gpu.backends.choice import get_backend, probe

    found = probe(0)
    if found.usable:
        return get_backend("cupy")
    by = "--require-gpu" if config.getoption(REQUIRE_GPU) else REQUIRE_GPU
    if by != REQUIRE_GPU or os.environ.get(REQUIRE_GPU, "0") not in ("", "0"):
        pytest.fail(f"{by} is set, and {found.reason}. Hint: {found.hint}", pytrace=False)
    return pytest.skip(found.reason)


@pytest.fixture(scope="session", params=["numpy", "reference", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request):
    """Each backend in turn, as an object: a Network takes it as it is."""
    from ffnn_gpu.backends.choice import Backend, get_backend

    if request.param == "cupy":
        return usable_gpu(request.config)
    return Backend() if request.param == "reference" else get_backend("numpy")


@pytest.hookimpl(tryfirst=True)  # before fixtures are made
def pytest_runtest_setup(item):
    """A test marked gpu skips, or fails, by the same probe."""
    if not item.get_closest_marker("gpu") or not _uses_ffnn_gpu(item):
        return
    item.user_properties.append(OURS)
    usable_gpu(item.config)


def _uses_ffnn_gpu(item):
    """Whether the run has imported ffnn_gpu, or this test will."""
    code = getattr(getattr(item, "function", None), "__code__", None)
    return "ffnn_gpu" in sys.modules or (
        code is not None and any(name.startswith("ffnn_gpu") for name in code.co_names)
    )


def pytest_terminal_summary(terminalreporter):
    """One line for each reason to skip: nothing is left out in silence, and nothing scrolls everything else away."""
    skipped = terminalreporter.stats.get("skipped", [])
    if "ffnn_gpu" not in sys.modules and not any(map(_is_ours, skipped)):
        return
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} tests not run: {reason}", yellow=True)


def _is_ours(report):
    """Whether the plugin marked this report. A CollectReport, of a module skipped at collection, has no properties."""
    return OURS in map(tuple, getattr(report, "user_properties", ()))
