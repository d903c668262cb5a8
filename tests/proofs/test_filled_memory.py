"""The plugin fills uninitialized arrays of every backend; a test that reads one is red."""

import numpy as np
import pytest

from ffnn_gpu import Backend, get_backend
from ffnn_gpu.backends.choice import CompiledBackend, NumpyBackend
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.testing.strict_device import StrictBackend
from proofs import filled_memory

TYPES = ["float32", "float64", "bfloat16", "float16"]


@pytest.fixture(params=filled_memory.FILLS)
def fill(request, monkeypatch):
    """Fill the memory during one test."""
    for kind in (Backend, NumpyBackend, CompiledBackend, CupyBackend):
        for name in {"empty", "output"} & set(vars(kind)):
            monkeypatch.setattr(kind, name, vars(kind)[name])  # undone after the test
    monkeypatch.setenv(filled_memory.SETTING, request.param)
    filled_memory.pytest_configure(None)
    return request.param


@pytest.mark.parametrize("dtype", TYPES)
def test_every_uninitialized_array_is_filled(fill, dtype):
    expected = {"nan": np.isnan, "largest": lambda a: np.isfinite(a) & (a > 1e4), "infinity": np.isinf}[fill]
    for backend in (Backend(), NumpyBackend(), CompiledBackend(), StrictBackend()):
        kind = backend.dtype(dtype)
        for made in (backend.empty((3, 2), kind), backend.output((3, 2), kind), backend.empty((5,), kind, 2)):
            assert expected(backend.to_host(made).astype(float)).all(), backend
        assert not backend.to_host(backend.zeros((3, 2), kind)).astype(float).any()
        assert backend.empty((3,), np.int64).shape == (3,)


def test_unknown_fill_is_refused(monkeypatch):
    monkeypatch.setenv(filled_memory.SETTING, "ones")
    with pytest.raises(ValueError, match="FILL='ones' is unknown; use nan, largest, infinity"):
        filled_memory.pytest_configure(None)


def test_each_backend_with_memory_of_its_own_is_filled():
    """A new class that defines `empty` must be among those of the plugin."""
    kinds, found = [Backend], set()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.__module__.startswith("ffnn_gpu.") and {"empty", "output"} & set(vars(kind)):
            found.add(kind)
    assert found <= {Backend, NumpyBackend, CompiledBackend, CupyBackend}
    assert isinstance(get_backend("numpy"), NumpyBackend)
