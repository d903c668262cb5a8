"""A fake CuPy: the strict device with the other parts of CuPy that the probe and CupyBackend use."""

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
    """CuPy on `count` devices of `total` bytes. A test breaks it by replacing attributes."""

    def load_bindings(self):
        raise ModuleNotFoundError("No module named 'nvmath'", name="nvmath")

    def ElementwiseKernel(self, inputs, output, operation, name):  # noqa: N802 - CuPy's name
        assert (inputs, output, operation) == ("float32 x", "float32 y", "y = 2 * x + 1")
        return lambda x: self.compute(lambda host: 2 * host + 1, x)


@contextlib.contextmanager
def installed(monkeypatch, cupy):
    """Meanwhile, `import cupy` imports this one, and a new CupyBackend uses its kernels and cublasLt."""
    with monkeypatch.context() as patch:
        patch.setattr(CupyBackend, "use_kernels", hasattr(cupy, "RawModule"))
        patch.setattr(cublaslt, "load_bindings", cupy.load_bindings)
        patch.setitem(sys.modules, "cupy", cupy)
        yield cupy


def refusing(error):
    """Return a function that takes any arguments and raises `error`."""

    def refuse(*args, **kwargs):
        raise error

    return refuse


def break_import(monkeypatch, error):
    """Make `import cupy` raise `error`."""
    finder = SimpleNamespace(find_spec=lambda name, *rest: refusing(error)() if name == "cupy" else None)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])


def run_python(code, **environment):
    """Run `code` in a new interpreter without variables FFNN_GPU_*, and return its output."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FFNN_GPU")} | {
        "PYTHONPATH": str(REPOSITORY)
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=inherited | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
