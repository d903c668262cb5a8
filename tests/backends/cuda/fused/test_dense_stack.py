"""The kernel of a stack of Dense layers in the CPU emulator, against an oracle in float64."""

import pytest

from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from tests.backends.cuda.emulated_cupy import EmulatedCupy, emulator
from tests.backends.cuda.fake_cupy import installed
from tests.backends.cuda.fused.stacks import CASES, check, kernels

BY_NAME = {case.name: case for case in CASES}


def compiled(*cases, edit=None):
    """Return CupyBackend over the emulator with the kernels of these cases, all in one module."""
    emulator.require()
    with pytest.MonkeyPatch.context() as patch, installed(patch, EmulatedCupy(edit=edit)):
        backend = CupyBackend()
    backend.kernels.compile(*(kernel for case in cases for kernel in kernels(backend, case)))
    return backend


@pytest.fixture(scope="module")
def backend():
    """Return the backend with every case: sums in registers, 8 warps."""
    return compiled(*CASES)


@pytest.mark.parametrize("B", [1, 17, 300])
@pytest.mark.parametrize("name", BY_NAME)
def test_step_and_prediction_equal_the_oracle(backend, name, B, monkeypatch):
    monkeypatch.setattr(CupyBackend, "multiprocessors", 2)  # the first block has two tiles of 300 rows
    check(backend, BY_NAME[name], B)
