"""A module that passes for CuPy: the strict device with what the probe and CupyBackend ask of CuPy besides arrays."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from ffnn_gpu.backends.cuda.cublaslt import matmul as cublaslt
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from tests.backends.cuda.tape import CapturingModule, CudaRuntimeError

__all__ = ["DRIVER", "CudaRuntimeError", "FakeCupy", "break_import", "installed", "refusing", "run_python"]

REPOSITORY = Path(__file__).resolve().parents[3]
DRIVER = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"


class FakeCupy(CapturingModule):
    """CuPy on `count` devices of `total` bytes. A test harms it by replacing attributes."""

    def load_bindings(self):
        raise ModuleNotFoundError("No module named 'nvmath'", name="nvmath")

    def ElementwiseKernel(self, inputs, output, operation, name):  # noqa: N802 - CuPy's name
        assert (inputs, output, operation) == ("float32 x", "float32 y", "y = 2 * x + 1")
        return lambda x: self.compute(lambda host: 2 * host + 1, x)


@contextlib.contextmanager
def installed(monkeypatch, cupy):
    """While entered, `import cupy` gives this one; a CupyBackend made now uses no kernels and no cublasLt but its own."""
    with monkeypatch.context() as patch:
        patch.setattr(CupyBackend, "use_kernels", hasattr(cupy, "RawModule"))
        patch.setattr(cublaslt, "load_bindings", cupy.load_bindings)
        patch.setitem(sys.modules, "cupy", cupy)
        yield cupy


def refusing(error):
    """A function that takes anything and raises `error`."""

    def refuse(*args, **kwargs):
        raise error

    return refuse


def break_import(monkeypatch, error):
    """From now on `import cupy` raises `error`."""
    finder = SimpleNamespace(find_spec=lambda name, *rest: refusing(error)() if name == "cupy" else None)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])


def run_python(code, **environment):
    """What a fresh interpreter prints for `code`, without this process's choice of a backend."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FFNN_GPU")} | {
        "PYTHONPATH": str(REPOSITORY)
    }
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=inherited | environment
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()
