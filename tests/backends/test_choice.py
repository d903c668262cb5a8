"""get_backend takes its argument, else FFNN_GPU_DEVICE, else auto. An explicit GPU never falls back."""

import importlib.util

import numpy as np
import pytest

from ffnn_gpu import Backend, BackendUnavailableError, ConfigurationError, Dense, Network, get_backend
from ffnn_gpu.backends.choice import AUTOTUNE, ENVIRONMENT, OLD_ENVIRONMENT, TF32, NumpyBackend, probe
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
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
def fresh(monkeypatch):
    for variable in (ENVIRONMENT, OLD_ENVIRONMENT, TF32, AUTOTUNE):
        monkeypatch.delenv(variable, raising=False)
    probe.cache_clear()
    yield
    probe.cache_clear()


@pytest.fixture
def cupy(monkeypatch):
    """Install a fake CuPy with two working GPUs."""
    with installed(monkeypatch, FakeCupy(count=2)) as module:
        yield module


@pytest.fixture
def no_gpu(monkeypatch):
    """Install a fake CuPy without a driver."""
    module = FakeCupy()
    module.cuda.runtime.getDeviceCount = refusing(CudaRuntimeError(DRIVER))
    with installed(monkeypatch, module):
        yield module


@pytest.mark.parametrize("name", ["numpy", "cpu", "NumPy", " cpu "])
def test_numpy_has_synonyms(name, cupy):
    backend = get_backend(name)
    assert isinstance(backend, NumpyBackend)
    assert (backend.name, backend.reason) == ("numpy", "asked for")


@pytest.mark.parametrize(
    ("name", "index", "canonical"),
    [
        ("cupy", 0, "cupy"),
        ("cuda", 0, "cupy"),
        ("cupy:0", 0, "cupy"),
        ("cuda:1", 1, "cupy:1"),
        ("CUPY:1", 1, "cupy:1"),
    ],
)
def test_cupy_has_synonyms_and_takes_an_index(name, index, canonical, cupy):
    backend = get_backend(name)
    assert isinstance(backend, CupyBackend)
    assert (backend.index, backend.name, backend.reason) == (index, canonical, "asked for")
    assert backend.zeros((2,), "float32").device.id == index
    assert get_backend(backend.name).index == index


@pytest.mark.parametrize(
    "name",
    [
        "gpu",
        "numpy:0",
        "cpu:1",
        "numpy:",
        "cupy:",
        "cupy:x",
        "cupy:-1",
        "cuda:1.0",
        "auto:0",
        "cupy 1",
        ":",
        "",
    ],
)
def test_unknown_name_raises_and_lists_the_known_names(name, cupy):
    with pytest.raises(
        ConfigurationError, match=r"no device is called .*; there are 'auto', 'cpu' \(or 'numpy'\), and"
    ):
        get_backend(name)


def test_backend_object_is_returned_unchanged():
    backend = Backend(np)
    assert get_backend(backend) is backend


def test_auto_takes_the_gpu_and_gives_the_reason(cupy):
    backend = get_backend()
    assert backend.name == "cupy"
    assert (
        backend.reason == "chosen by auto: CUDA device 0 compiled a kernel and multiplied matrices correctly"
    )


def test_auto_without_a_gpu_takes_numpy_and_gives_the_reason(no_gpu):
    backend = get_backend("auto")
    assert backend.name == "numpy"
    assert backend.reason.startswith("chosen by auto: CUDA device 0 cannot be used")
    assert "'count devices'" in backend.reason and DRIVER in backend.reason


def test_auto_without_cupy_takes_numpy_and_gives_the_reason(monkeypatch):
    break_import(monkeypatch, ModuleNotFoundError("No module named 'cupy'"))
    assert "No module named 'cupy'" in get_backend().reason


def test_old_variable_warns_and_the_new_one_overrides_it(monkeypatch, cupy):
    monkeypatch.setenv(OLD_ENVIRONMENT, "cpu")
    with pytest.warns(DeprecationWarning, match="FFNN_GPU_BACKEND is now called FFNN_GPU_DEVICE"):
        assert get_backend().reason == "FFNN_GPU_BACKEND=cpu"
    monkeypatch.setenv(ENVIRONMENT, "cuda:1")
    assert get_backend().reason == "FFNN_GPU_DEVICE=cuda:1"


@pytest.mark.parametrize(("value", "name"), [("cpu", "numpy"), ("CUDA:1", "cupy:1"), (" numpy ", "numpy")])
def test_environment_overrides_auto_and_is_the_reason(monkeypatch, cupy, value, name):
    monkeypatch.setenv(ENVIRONMENT, value)
    backend = get_backend()
    assert (backend.name, backend.reason) == (name, f"{ENVIRONMENT}={value.strip().lower()}")


@pytest.mark.parametrize("value", ["", " ", "auto", "AUTO"])
def test_empty_environment_and_the_value_auto_mean_auto(monkeypatch, cupy, value):
    monkeypatch.setenv(ENVIRONMENT, value)
    assert get_backend().reason.startswith("chosen by auto")


def test_argument_overrides_environment(monkeypatch, cupy):
    monkeypatch.setenv(ENVIRONMENT, "cupy")
    assert get_backend("numpy").name == "numpy"
    monkeypatch.setenv(ENVIRONMENT, "nonsense")
    assert get_backend("cupy").name == "cupy"


@pytest.mark.parametrize(
    ("tf32", "autotune", "want"),
    [("", "", (False, 0)), ("0", "0", (False, 0)), ("1", " 8 ", (True, 8)), (None, "64", (False, 64))],
)
def test_environment_sets_tf32_and_autotune(monkeypatch, cupy, tf32, autotune, want):
    for variable, value in ((TF32, tf32), (AUTOTUNE, autotune)):
        if value is not None:
            monkeypatch.setenv(variable, value)
    backend = get_backend("cupy:1")
    assert (backend.tf32, backend.autotune) == want
    assert "cupy.matmul" in backend.products


@pytest.mark.parametrize(
    ("variable", "value", "most"),
    [(TF32, "2", 1), (TF32, "yes", 1), (AUTOTUNE, "-1", 64), (AUTOTUNE, "65", 64), (AUTOTUNE, "8.0", 64)],
)
def test_invalid_numbers_in_the_environment_raise(monkeypatch, cupy, variable, value, most):
    monkeypatch.setenv(variable, value)
    for name in ("cupy", "numpy"):  # a typo raises on a machine without a GPU, too
        with pytest.raises(
            ConfigurationError, match=f"{variable} must be a whole number from 0 to {most}, not '{value}'"
        ):
            get_backend(name)


def test_unknown_name_in_the_environment_raises_with_the_variable(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, "gpu")
    with pytest.raises(ConfigurationError, match=f"'gpu' .*{ENVIRONMENT}=gpu"):
        get_backend()


@pytest.mark.parametrize("by_environment", [False, True], ids=["argument", "environment"])
@pytest.mark.parametrize("name", ["cupy", "cuda", "cupy:0"])
def test_requested_gpu_never_falls_back(monkeypatch, no_gpu, name, by_environment):
    if by_environment:
        monkeypatch.setenv(ENVIRONMENT, name)
    with pytest.raises(BackendUnavailableError) as caught:
        Network(2, [Dense(1)], "auto" if by_environment else name)
    message = str(caught.value)
    assert "'count devices'" in message and DRIVER in message
    assert "Hint: check that nvidia-smi lists a GPU" in message
    assert (f"{ENVIRONMENT}={name}" if by_environment else "asked for") in message


def test_missing_device_raises_with_the_number_of_devices(cupy):
    with pytest.raises(BackendUnavailableError, match="there is no device 7 among the 2"):
        get_backend("cupy:7")


def test_numpy_does_not_import_cupy(monkeypatch):
    break_import(monkeypatch, AssertionError("asked"))
    assert get_backend("cpu").name == "numpy"


def test_importing_the_package_and_training_on_numpy_import_no_cupy():
    code = (
        "import sys, ffnn_gpu as f; f.Network(2, [f.Dense(1)], 'numpy').predict([[1, 2]]);"
        "print('cupy' in sys.modules)"
    )
    assert run_python(code) == "False"


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_auto_with_cupy_but_no_device_takes_numpy_and_gives_the_reason():
    code = "from ffnn_gpu import get_backend; b = get_backend(); print(b.name, b.reason)"
    printed = run_python(code, CUDA_VISIBLE_DEVICES="")
    assert printed.startswith("numpy chosen by auto: CUDA device 0 cannot be used")
