"""A stand-in for CuPy that runs kernels too: the strict device, with the emulator of tests/emulation behind RawModule."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np

from ffnn_gpu.backend.kernels import NULL
from tests.backend.fake_cupy import FakeCupy
from tests.backend.strict_device import Refusal, StrictArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "emulation"))

import emulator


class EmulatedCupy(FakeCupy):
    """FakeCupy whose RawModule compiles for this CPU.

    Attributes:
        order: in which threads and blocks run, one of emulator.ORDERS.
        launched: how often each kernel was.
        source: replaces the text of kernels.cu if it is not None, for mutants.
    """

    def __init__(self, *args, source=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.source, self.order, self.launched, self.names = source, emulator.ORDERS[0], Counter(), set()

    def RawModule(self, *, code, options):  # noqa: N802 - CuPy's name
        return _Module(self, emulator.RawModule(self.source or code, options))


class _Module:
    def __init__(self, cupy, module):
        self.cupy, self.module = cupy, module
        cupy.names.update(module.names)

    def get_function(self, name):
        kernel = self.module.get_function(name)

        def launch(grid, block, arguments):
            given = tuple(map(self._argument, arguments))

            def run():
                self.cupy.launched[name] += 1
                self.module.schedule(self.cupy.order)
                kernel(grid, block, given)

            self.cupy.act(run, *(a.host for a in arguments if isinstance(a, StrictArray)))

        return launch

    def _argument(self, argument):
        """What the emulator gets. CuPy passes None as no argument, and Python's numbers in a width of its own choice."""
        if isinstance(argument, StrictArray):
            self.cupy.check(argument)
            return argument.host
        if isinstance(argument, np.generic): return 0 if argument is NULL else argument
        raise Refusal(f"{argument!r} as an argument of a kernel")
