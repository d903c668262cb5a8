"""The probe names the first stage at which a GPU fails, for faults of driver, compiler and libraries."""

import importlib.util

import numpy as np
import pytest

from ffnn_gpu import BackendUnavailableError, Dense, Network, get_backend
from ffnn_gpu.backends.choice import ENVIRONMENT
from ffnn_gpu.backends.cuda.probe import HINTS, probe, stages
from tests.backends.cuda.fake_cupy import (
    DRIVER,
    CudaRuntimeError,
    FakeCupy,
    break_import,
    installed,
    refusing,
    run_python,
)


@pytest.fixture(autouse=True)
def fresh_probe():
    probe.cache_clear()
    yield
    probe.cache_clear()


def no_driver(cupy):
    cupy.cuda.runtime.getDeviceCount = refusing(CudaRuntimeError(DRIVER))


def hidden(cupy):
    cupy.cuda.runtime.getDeviceCount = refusing(CudaRuntimeError("cudaErrorNoDevice: no CUDA-capable device"))


def none_there(cupy):
    cupy.cuda.runtime.getDeviceCount = lambda: 0


def no_compiler(cupy):
    cupy.ElementwiseKernel = refusing(RuntimeError("CuPy failed to load libnvrtc.so.12"))


def no_headers(cupy):
    cupy.ElementwiseKernel = refusing(OSError("cannot open source file cuda_fp16.h"))


def no_cublas(cupy):
    cupy.matmul = refusing(ImportError("libcublas.so.12: cannot open shared object file"))


def faulted(cupy):
    cupy.synchronize = refusing(CudaRuntimeError("cudaErrorIllegalAddress: an illegal memory access"))


def wrong(cupy):
    cupy.asnumpy = lambda a: a.host + 1


HARMS = [
    (no_driver, 0, "count devices", "CudaRuntimeError: cudaErrorInsufficientDriver"),
    (hidden, 0, "count devices", "cudaErrorNoDevice"),
    (none_there, 0, "count devices", "there are 0 CUDA devices"),
    (lambda cupy: None, 2, "find the device", "there is no device 2 among the 2 that CUDA shows"),
    (no_compiler, 0, "compile and run a kernel", "libnvrtc"),
    (no_headers, 1, "compile and run a kernel", "cuda_fp16.h"),
    (no_cublas, 0, "multiply matrices", "ImportError: libcublas"),
    (faulted, 0, "synchronize", "cudaErrorIllegalAddress"),
    (wrong, 0, "compare with the CPU", "a product of small integers gave"),
]  # fmt: skip
BROKEN_IMPORTS = [
    (ModuleNotFoundError("No module named 'cupy'"), "ModuleNotFoundError: No module named 'cupy'"),
    (ImportError(f"\n=====\nFailed to import.\n\n  {DRIVER}\n=====\n"),
     f"ImportError: Failed to import. {DRIVER}"),
    (OSError("libcuda.so.1: cannot open shared object file"), "OSError: libcuda.so.1"),
    (RuntimeError(), "RuntimeError"),
]  # fmt: skip
IDS = ["absent", "text of the driver", "library missing", "silent"]


def test_harms_cover_every_stage():
    assert {"import cupy", *(stage for _, _, stage, _ in HARMS)} == set(HINTS)


def assert_only_auto_falls_back(index, reason, hint):
    """Require that `auto` takes NumPy with this reason, and the GPU by name raises with reason and hint."""
    with pytest.raises(BackendUnavailableError) as refused:
        get_backend(f"cupy:{index}")
    assert str(refused.value) == f"{reason} (asked for). Hint: {hint}"
    if index == 0:
        backend = get_backend("auto")
        assert (backend.name, backend.reason) == ("numpy", f"chosen by auto: {reason}")


@pytest.mark.parametrize(
    ("harm", "index", "stage", "words"), HARMS, ids=lambda value: getattr(value, "__name__", None)
)
def test_gpu_by_name_never_falls_back_and_auto_gives_the_reason(
    monkeypatch, capfd, caplog, harm, index, stage, words
):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    cupy = FakeCupy(count=2)
    harm(cupy)
    with installed(monkeypatch, cupy):
        found = probe(index)
        assert_only_auto_falls_back(index, found.reason, found.hint)
    assert stage in found.reason and words in found.reason
    assert not caplog.records and capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("error", "words"), BROKEN_IMPORTS, ids=IDS)
def test_gpu_by_name_never_falls_back_if_cupy_cannot_be_imported(monkeypatch, error, words):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    break_import(monkeypatch, error)
    assert words in probe(0).reason
    assert_only_auto_falls_back(0, probe(0).reason, probe(0).hint)


def test_auto_probes_the_gpu_once_for_all_networks(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    cupy, asked = FakeCupy(), []
    cupy.cuda.runtime.getDeviceCount = lambda: asked.append(1) or 0
    with installed(monkeypatch, cupy):
        reasons = {Network(2, [Dense(1)], "auto").backend.reason for _ in range(3)}
    assert asked == [1] and len(reasons) == 1 and "there are 0 CUDA devices" in reasons.pop()


@pytest.mark.parametrize(
    ("harm", "index", "stage", "words"), HARMS, ids=lambda value: getattr(value, "__name__", None)
)
def test_probe_names_the_stage_that_fails(monkeypatch, harm, index, stage, words):
    cupy = FakeCupy(count=2)
    harm(cupy)
    with installed(monkeypatch, cupy):
        found = probe(index)
    assert not found.usable
    assert (found.index, found.stage) == (index, stage)
    assert words in found.error
    assert f"CUDA device {index}" in found.reason and stage in found.reason and words in found.reason
    assert found.hint == HINTS[stage]


@pytest.mark.parametrize(("error", "words"), BROKEN_IMPORTS, ids=IDS)
def test_reason_of_a_failed_cupy_import_is_one_line(monkeypatch, error, words):
    break_import(monkeypatch, error)
    found = probe(0)
    assert found.stage == "import cupy"
    assert found.error.startswith(words)
    assert "\n" not in found.reason and "==" not in found.reason
    assert "pip install" in found.hint


@pytest.mark.parametrize("index", [0, 1])
def test_probe_of_a_working_device_runs_every_stage_there_and_restores_the_current_device(monkeypatch, index):
    cupy = FakeCupy(count=2)
    with installed(monkeypatch, cupy):
        found = probe(index)
    assert found.usable and not found.hint
    assert "compiled a kernel" in found.reason
    assert cupy.entered[index] >= 3 and cupy.entered[1 - index] == 0
    assert cupy.empty((), np.float32).device_id == 0


def test_probe_runs_once_per_device(monkeypatch):
    cupy = FakeCupy(count=2)
    with installed(monkeypatch, cupy):
        assert probe(0) is probe(0)
        assert probe(1).index == 1
        no_driver(cupy)
        assert probe(0).usable


def test_every_stage_has_a_hint(monkeypatch):
    with installed(monkeypatch, FakeCupy()):
        assert [*HINTS] == [*stages(0)]


def test_probe_does_not_suppress_keyboard_interrupts(monkeypatch):
    break_import(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        probe(0)


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_probe_with_cupy_but_no_visible_device_gives_the_reason():
    printed = run_python(
        "from ffnn_gpu.backends.choice import probe; print(probe(0).reason)", CUDA_VISIBLE_DEVICES=""
    )
    assert printed.startswith("CUDA device 0 cannot be used; it failed at the stage ")
    assert "import cupy" in printed or "count devices" in printed
