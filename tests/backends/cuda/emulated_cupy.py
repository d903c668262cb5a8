"""A fake CuPy that also runs CUDA kernels: the strict device, with tests/emulation as RawModule."""

import ctypes
import re
import sys
import weakref
from collections import Counter
from pathlib import Path

import numpy as np

from ffnn_gpu.backends.cuda.kernels import (
    ARITHMETIC,
    FORMULAS,
    KERNELS,
    NULL,
    OF_MEMBERS,
    OPTIONS,
    generated,
    source,
)
from ffnn_gpu.testing.strict_device import ATTRIBUTES, Refusal, StrictArray
from tests.backends.cuda.fake_cublaslt import FakeCublasLt
from tests.backends.cuda.fake_cupy import FakeCupy
from tests.backends.cuda.host_memory import STORAGE, Event
from tests.backends.cuda.kernel_checks import kernels_of_formulas

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "emulation"))

import emulator

ENTRY = re.compile(
    r"^(?:BIAS_ACTIVATION|ACTIVATION_BACKWARD|POINTWISE_LOSS|UPDATE_RULE)\((\w+),", re.M
)  # of a kernel of a formula


class EmulatedCupy(FakeCupy):
    """FakeCupy whose RawModule compiles for this CPU.

    Attributes:
        order: the order of threads and blocks, one of emulator.ORDERS.
        launched: the number of launches of each kernel.
        clock: simulated milliseconds of all launches so far.
        cost: simulated milliseconds of one launch.
        edit: a function of every text that is compiled, for mutants. Without one, all kernels of built-in
            formulas are one compilation.

    Args:
        stacks: whether its blocks have the shared memory that the kernel of narrow networks needs. That is
            compiled for each network, for seconds, so only the tests in fused/ ask for it.
    """

    def __init__(self, *args, edit=None, stacks=False, **kwargs):
        super().__init__(*args, **kwargs)
        if not stacks:
            self.cuda.Device.attributes = ATTRIBUTES | {"MaxSharedMemoryPerBlockOptin": 0}
        self.edit, self.order, self.launched, self.names = edit, emulator.ORDERS[0], Counter(), set()
        self.clock = self.cost = 0.0

    def RawModule(self, *, code, options):  # noqa: N802 - CuPy's name
        # CuPy writes it to a file in the locale's encoding, which may lack Greek letters
        code.encode("ascii")
        if OF_MEMBERS in options:
            if not ENTRY.search(code):  # all kernels of a type at once take less time than a few of them
                code = source(ARITHMETIC, KERNELS)
            return _Module(self, emulator.RawModule(code, options), of_members=True)
        if self.edit is not None:
            return _Module(self, emulator.RawModule(self.edit(code), options))
        entries = set(ENTRY.findall(code))
        if entries and entries <= {kernel.name for kernel in kernels_of_formulas()}:
            code = source(ARITHMETIC, FORMULAS) + generated(kernels_of_formulas())
            options = (*OPTIONS, "-DWITH_16_BIT")
        return _Module(self, emulator.RawModule(code, options))


class _Module:
    def __init__(self, cupy, module, of_members=False):
        self.cupy, self.module, self.of_members = cupy, module, of_members
        cupy.names.update(module.names)

    def get_function(self, name):
        kernel = self.module.get_function(name)

        def launch(grid, block, arguments, shared_mem=0):
            given = tuple(map(self._argument, arguments))
            if self.of_members:
                given = _of_all_members(given)

            def run():
                self.cupy.launched[name] += 1
                self.cupy.clock += self.cupy.cost
                self.module.schedule(self.cupy.order)
                kernel.max_dynamic_shared_size_bytes = launch.max_dynamic_shared_size_bytes
                kernel(grid, block, given, shared_mem)

            self.cupy.act(run, *(a.host for a in arguments if isinstance(a, StrictArray)))

        launch.max_dynamic_shared_size_bytes = kernel.max_dynamic_shared_size_bytes
        return launch

    def _argument(self, argument):
        """Return the argument for the emulator. None and Python numbers raise: CuPy chooses their type."""
        if isinstance(argument, StrictArray):
            self.cupy.check(argument)
            return argument.host
        if isinstance(argument, np.generic):
            return 0 if argument is NULL else argument
        raise Refusal(f"{argument!r} as an argument of a kernel")


def _of_all_members(arguments):
    """Return the arguments of a launch for a pack, with arrays from the first to the last member's memory."""
    *arguments, table = arguments
    rows = table.reshape(-1, len(arguments))
    for k, array in enumerate(arguments):
        if isinstance(array, np.ndarray):
            assert not rows[:, k].min(), "member 0 is not the first in memory"
            size = array.nbytes + int(rows[:, k].max())
            flat = (ctypes.c_char * size).from_address(array.ctypes.data)
            arguments[k] = np.frombuffer(flat, array.dtype, size // array.itemsize)
    return (*arguments, table)


class CupyWithCublasLt(EmulatedCupy):
    """EmulatedCupy with nvmath: FakeCublasLt computes in the memory of its arrays and raises outside of it.

    Attributes:
        bindings: the FakeCublasLt. Its products advance the clock, too.
        stream: the current stream.
    """

    stream = property(lambda self: self.cuda.get_current_stream())

    def __init__(self, *args, **kwargs):
        # address → memory of the allocation; address → its device
        self.blocks, self.device_of = weakref.WeakValueDictionary(), {}
        super().__init__(*args, **kwargs)
        self.bindings = FakeCublasLt(self)
        self.cuda.Device.compute_capability = "80"
        self.cuda.runtime.getDeviceProperties = lambda index: {"name": f"Paper {index}".encode()}
        self.cuda.runtime.driverGetVersion = lambda: 13000
        self.cuda.Event, self.cuda.get_elapsed_time = (
            lambda: Event(self),
            lambda start, stop: stop.time - start.time,
        )

    def load_bindings(self):
        return self.bindings

    def new(self, host, asked=True, given=()):
        """Start every allocation at a multiple of 512 bytes, like CuPy."""
        made = super().new(host, asked, given)
        whole = np.empty(made.nbytes + 512, np.uint8)
        start = -whole.ctypes.data % 512
        placed = np.ndarray(made.shape, made.dtype, whole, start, made.strides)
        placed[...] = made.host
        self.blocks[placed.ctypes.data], self.device_of[placed.ctypes.data] = whole, made.device_id
        return StrictArray(self, placed, made.device_id)

    def view(self, pointer, name, rows, columns, ld):
        """Like host_memory.Memory.view; also require that the matrix is on the current device."""
        storage = np.dtype(STORAGE[name])
        size = ((columns - 1) * ld + rows) * storage.itemsize
        for start, whole in list(self.blocks.items()):
            if start <= pointer and pointer + size <= start + whole.nbytes - 512:
                assert self.device_of[start] == self._state().devices[-1], "an array of another device"
                flat = np.frombuffer((ctypes.c_char * size).from_address(pointer), storage)
                return np.lib.stride_tricks.as_strided(
                    flat, (rows, columns), (storage.itemsize, ld * storage.itemsize)
                )
        raise IndexError(f"illegal address: {size} bytes at {pointer:#x} lie in no allocation")
