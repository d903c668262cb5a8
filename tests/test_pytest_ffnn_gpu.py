"""The pytest plugin, in separate runs of pytest."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

import ffnn_gpu.backends.choice
from ffnn_gpu.backends.cuda.probe import Probe
from pytest_ffnn_gpu import REQUIRE_GPU
from tests.backends.cuda import test_products as products

ROOT = Path(__file__).parents[1]
NO_GPU = Probe(0, "count devices", "there are 0 CUDA devices")
SUITE = """
    import ffnn_gpu
    import pytest

    def test_of_each_backend(backend):
        print("on", backend.name)

    @pytest.mark.gpu
    def test_of_the_gpu():
        print("on the GPU itself")

    @pytest.mark.skip(reason="too late today")
    def test_of_something_else(): ...
"""
OTHER_SUITE = """
    import pytest

    @pytest.mark.gpu
    def test_with_a_marker_of_its_own(): ...

    @pytest.fixture
    def backend(): return "torch"

    def test_with_a_fixture_of_its_own(backend): assert backend == "torch"

    def test_that_is_skipped(): pytest.skip("for reasons of its own")
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """run(suite, *options, found=…) runs pytest on this suite with this result of the GPU probe."""

    def run(suite, *options, found=NO_GPU):
        monkeypatch.setattr(ffnn_gpu.backends.choice, "probe", lambda index: found)
        if found.usable:
            monkeypatch.setattr(ffnn_gpu.backends.choice, "get_backend", lambda name: ffnn_gpu.Backend())
        pytester.makepyfile(suite)
        return pytester.runpytest_inprocess("-p", "pytest_ffnn_gpu", "--strict-markers", "-s", *options)

    monkeypatch.delenv(REQUIRE_GPU, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # of other installed plugins
    return run


def test_fixture_yields_each_backend_and_marked_tests_skip_with_the_probes_reason(run):
    result = run(SUITE)
    result.assert_outcomes(passed=2, skipped=3)
    result.stdout.fnmatch_lines(["*on numpy*", "*on reference*"])
    result.stdout.fnmatch_lines([f"2 tests not run: {NO_GPU.reason}", "1 tests not run: too late today"])
    assert "GPU itself" not in result.stdout.str()


def test_everything_runs_with_a_gpu(run):
    result = run(SUITE, found=Probe(0))
    result.assert_outcomes(passed=4, skipped=1)
    result.stdout.fnmatch_lines(["*on the GPU itself*"])


@pytest.mark.parametrize("by", ["--require-gpu", REQUIRE_GPU])
def test_missing_required_gpu_is_a_failure_with_the_hint(run, by, monkeypatch):
    if by == REQUIRE_GPU:
        monkeypatch.setenv(REQUIRE_GPU, "1")
    result = run(SUITE, *([by] if by.startswith("--") else []))
    result.assert_outcomes(passed=2, errors=2, skipped=1)
    result.stdout.fnmatch_lines([f"{by} is set, and {NO_GPU.reason}. Hint: {NO_GPU.hint}"])


def test_requirement_has_no_effect_with_a_gpu(run):
    run(SUITE, "--require-gpu", found=Probe(0)).assert_outcomes(passed=4, skipped=1)


@pytest.mark.parametrize("value", ["", "0"])
def test_requirement_can_be_switched_off_in_the_environment(run, monkeypatch, value):
    monkeypatch.setenv(REQUIRE_GPU, value)
    run(SUITE).assert_outcomes(passed=2, skipped=3)


def test_marker_selects_the_cases_of_the_fixture(run):
    run(SUITE, "-m", "gpu").assert_outcomes(skipped=2, deselected=3)


# --- in suites of other projects


@pytest.fixture
def installed(tmp_path_factory):
    """An environment with the plugin as its wheel installs it, and nothing else of this clone."""
    site = tmp_path_factory.mktemp("site")
    (site / "pytest_ffnn_gpu.py").symlink_to(ROOT / "pytest_ffnn_gpu.py")
    (site / "ffnn_gpu").symlink_to(ROOT / "ffnn_gpu")
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"][
        "pytest11"
    ]
    info = site / "stands_for_ffnn_gpu-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stands-for-ffnn-gpu\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[pytest11]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items())
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FFNN_GPU", "PYTEST_"))}
    return kept | {"PYTHONPATH": str(site), "CUDA_VISIBLE_DEVICES": ""}


def told_by_pytest(folder, environment, suite, *options):
    (folder / "test_suite.py").write_text("\n".join(line.removeprefix("    ") for line in suite.splitlines()))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        *options,
    ]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    ).stdout


def test_installed_plugin_provides_its_fixture_without_configuration(installed, tmp_path):
    told = told_by_pytest(tmp_path, installed, SUITE, "--strict-markers")
    assert "2 passed, 3 skipped" in told and "2 tests not run: CUDA device 0" in told


def test_installed_plugin_does_not_change_a_suite_without_ffnn_gpu(installed, tmp_path):
    suite = (
        OTHER_SUITE
        + "\n    def test_import():\n        import sys\n        assert 'ffnn_gpu' not in sys.modules\n"
    )
    told = told_by_pytest(tmp_path, installed, suite, "--require-gpu")
    assert "3 passed, 1 skipped" in told and "tests not run" not in told


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["one process", "two"])
def test_installed_plugin_survives_a_module_that_is_skipped_at_collection(installed, tmp_path, options):
    if options:
        pytest.importorskip("xdist")
    suite = "    import pytest\n    pytest.skip('not on this machine', allow_module_level=True)\n"
    (tmp_path / "test_that_runs.py").write_text("def test_sum():\n    assert 1 + 1 == 2\n")
    told = told_by_pytest(tmp_path, installed, suite, *options)
    assert "1 passed, 1 skipped" in told and "INTERNALERROR" not in told


def test_plugin_that_is_installed_and_named_is_loaded_once(installed, tmp_path):
    (tmp_path / "conftest.py").write_text("pytest_plugins = ['pytest_ffnn_gpu']\n")
    assert "2 passed, 3 skipped" in told_by_pytest(tmp_path, installed, SUITE, "-p", "pytest_ffnn_gpu")


IMPORTS_INSIDE = """
    import pytest

    @pytest.mark.gpu
    def test_first():
        from ffnn_gpu import get_backend
        get_backend("cupy")

    @pytest.mark.gpu
    def test_second():
        import ffnn_gpu.backends.choice
"""


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["one process", "two"])
def test_import_within_a_test_is_detected_and_the_reason_printed(installed, tmp_path, options):
    if options:
        pytest.importorskip("xdist")
    told = told_by_pytest(tmp_path, installed, IMPORTS_INSIDE, *options)
    assert "2 skipped" in told and "2 tests not run: CUDA device 0" in told
    assert "2 errors" in told_by_pytest(tmp_path, installed, IMPORTS_INSIDE, "--require-gpu", *options)


def test_fixture_works_in_module_fixtures(installed, tmp_path):
    suite = """
    import pytest
    from ffnn_gpu import Dense, Network

    @pytest.fixture(scope="module")
    def network(backend): return Network(2, [Dense(1)], backend)

    def test_of_it(network): assert network.n_in == 2
"""
    assert "2 passed, 1 skipped" in told_by_pytest(tmp_path, installed, suite)


def test_required_gpu_without_a_library_that_it_needs_is_a_failure(run):
    suite = """
    from pytest_ffnn_gpu import skip_or_fail

    def test_of_the_library(request):
        skip_or_fail(request.config, "cublasLt cannot be called")
    """
    run(suite, found=Probe(0)).assert_outcomes(skipped=1)
    result = run(suite, "--require-gpu", found=Probe(0))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["--require-gpu is set, and cublasLt cannot be called"])


@pytest.mark.parametrize(
    ("place", "fixture", "case"),
    [("test_products", "backend", "cupy"), ("cublaslt.test_bindings", "real", ""),
     ("cublaslt.test_on_gpu", "kind", "bfloat16")],
)  # fmt: skip
def test_gpu_tests_without_a_library_fail_if_a_gpu_is_required(run, monkeypatch, place, fixture, case):
    without = SimpleNamespace(cublaslt=None, products="cupy.matmul, because nvmath-python is missing")
    monkeypatch.setattr(products, "get_backend", lambda name: without)
    for module in ("nvmath.bindings.cublasLt", "ml_dtypes"):
        monkeypatch.setitem(sys.modules, module, None)
    suite = f"""
    from tests.backends.cuda.{place} import {fixture}

    def test_of_it({fixture}): ...
    """
    for options, outcome in (((), "skipped"), (("--require-gpu",), "errors")):
        outcomes = run(suite, "-k", case, *options, found=Probe(0)).parseoutcomes()
        assert outcomes.pop("deselected", 0) == {"cupy": 1, "": 0, "bfloat16": 3}[case]
        assert outcomes == {outcome: 1}
