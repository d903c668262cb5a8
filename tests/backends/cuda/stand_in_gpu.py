"""A pytest plugin, `-p tests.backends.cuda.stand_in_gpu`: run the tests marked gpu on a stand-in for a GPU.

    python3 scripts/test.py -n 0 -p tests.backends.cuda.stand_in_gpu -m gpu

By default the stand-in computes array functions with a GPU's restrictions. With `--stand-in kernels` it runs
the kernels and the graphs on the CPU emulator, which takes longer. It skips tests of CUDA itself: see
WANT_A_GPU.
"""

import sys

import pytest

from ffnn_gpu.backends import choice
from ffnn_gpu.backends.cuda import probe
from ffnn_gpu.backends.cuda.cublaslt import matmul
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.testing.strict_array import StrictArray
from tests.backends.cuda.emulated_cupy import CupyWithCublasLt
from tests.backends.cuda.fake_cupy import FakeCupy

# What no stand-in can do, by a part of a test's name.
WANT_A_GPU = {
    "cublaslt/test_on_gpu.py": "the library cublasLt itself",
    "cuda/test_gpu.py": "CUDA's memory, streams and speed",
    "test_step_on_gpu_never_synchronizes": "cupyx, which watches synchronizations",
}


def pytest_addoption(parser):
    parser.addoption("--stand-in", choices=["arrays", "kernels"], default="arrays")


def pytest_configure(config):
    """Let `import cupy` import the stand-in from now on."""
    with_kernels = config.getoption("--stand-in") == "kernels"
    cupy = CupyWithCublasLt() if with_kernels else FakeCupy()
    CupyBackend.use_kernels = with_kernels
    matmul.load_bindings = cupy.load_bindings
    sys.modules["cupy"] = cupy
    # The strict device refuses iteration, because it is slow. CuPy allows it, and tests of numbers use it.
    StrictArray.__iter__ = lambda self: (self[k] for k in range(len(self)))
    probe.probe.cache_clear()
    found = choice.probe(0)
    assert found.usable, found.reason


def pytest_collection_modifyitems(items):
    for item in items:
        for part, what in WANT_A_GPU.items():
            if part in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=f"a stand-in has not {what}"))
