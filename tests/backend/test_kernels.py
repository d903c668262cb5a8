"""kernels.cu and its launchers, executed on this CPU by the emulator and held to the reference in float64.

What this cannot see: a GPU's own rounding of exp, tanh and the like, fused multiply-adds, and speed; emulation/test_emulator.py
lists the rest. The tests marked gpu in test_cupy_backend.py run the same operations on a GPU.
"""

import re

import numpy as np
import pytest

from ffnn_gpu.backend.cupy_backend import CupyBackend
from tests.backend.emulated_cupy import EmulatedCupy, emulator
from tests.backend.fake_cupy import installed
from tests.backend.kernel_checks import CHECKS, SIZES, Case


@pytest.fixture(scope="module")
def backend():
    """CupyBackend over the emulator, the whole module long."""
    emulator.require()
    with pytest.MonkeyPatch.context() as patch, installed(patch, EmulatedCupy(count=2)):
        yield CupyBackend(0)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CHECKS)
def test_operation_equals_the_reference(backend, name, dtype, size):
    CHECKS[name](Case(backend, dtype, *size))
