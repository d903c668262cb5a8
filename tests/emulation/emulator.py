"""Run CUDA kernels on a CPU with checks that a GPU does not make; the interface is that of cupy.RawModule.

    module = RawModule(text, options=("-DWIDTH=64",))
    kernel = module.get_function("bias_add")
    for order in ORDERS:
        module.schedule(order)
        kernel((4,), (256,), (x, b, y, np.int32(n)))       # writes y, or raises a KernelError with the line

Each array is copied between two guards before a launch and back after it, at the same address modulo 16.
Overlapping arrays share one copy. test_emulator.py lists what the emulator detects and what it cannot;
cuda_on_cpu.h is the kernels' side.
"""

import ctypes
import math
import os
from dataclasses import dataclass

import cuda_build
import numpy as np

ORDERS = (("thread", 0), ("reversed", 0), ("shuffled", 1), ("shuffled", 2), ("warps", 1), ("warps", 2))
ORDER_NAMES = ("thread", "reversed", "shuffled", "warps")
GUARD = 4096  # bytes before and after every array
CANARY = 0xA5
REQUIRE = "FFNN_GPU_REQUIRE_EMULATOR"


class KernelError(RuntimeError):
    """A fault of a kernel or its launch, which a GPU may or may not report."""


class KernelCompileError(KernelError):
    """g++ refuses the text; the message is g++'s."""


class KernelArgumentError(KernelError):
    """An argument does not fit the kernel's C++ signature."""


class KernelLaunchError(KernelError):
    """A grid, a block or an amount of shared memory that cannot be launched."""


class KernelRaceError(KernelError):
    """Two threads access a byte without order, and at least one writes it."""


class KernelBoundsError(KernelError):
    """An access outside every array and outside shared memory."""


class KernelAlignmentError(KernelError):
    """A vector access at an address that is not a multiple of its size."""


class KernelUninitializedError(KernelError):
    """A read of shared memory that this block has not written."""


class KernelDivergenceError(KernelError):
    """Threads wait at different barriers or collectives, or some have already returned."""


class KernelArithmeticError(KernelError):
    """Signed overflow, too large a shift, or an integer division by zero."""


class KernelTimeoutError(KernelError):
    """The launch used more CPU time than the module allows, such as an endless loop."""


class KernelCrashError(KernelError):
    """A signal: a wild pointer (fast build) or a stack overflow (both builds)."""


ERRORS = (  # in the order of `enum Error`, machine.h, after its 0
    KernelRaceError,
    KernelBoundsError,
    KernelAlignmentError,
    KernelUninitializedError,
    KernelDivergenceError,
    KernelArithmeticError,
    KernelTimeoutError,
    KernelCrashError,
)


def require():
    """Skip the test if kernels cannot run here, or fail it if FFNN_GPU_REQUIRE_EMULATOR is set."""
    import pytest

    reason = cuda_build.missing()
    if reason is None:
        return
    if os.environ.get(REQUIRE, "0") not in ("", "0"):
        pytest.fail(f"{REQUIRE} is set: {reason}", pytrace=False)
    pytest.skip(reason)


class RawModule:
    """The `extern "C" __global__` functions of one CUDA C++ text.

    Args:
        code: the text for NVRTC.
        options: NVRTC's options, of which -D, -U and -I have an effect.
        check: use the checked build (races, bounds, …), else the fast one, about 10 times as fast.
        seconds: limit of the CPU time of one launch.

    Raises:
        KernelCompileError: g++ refuses the text; the message calls `code` kernels.cu.
    """

    def __init__(self, code, options=(), check=True, seconds=20.0):
        try:
            self.path, self.names = cuda_build.build(code, options, check)
        except cuda_build.CompileError as refusal:
            raise KernelCompileError(str(refusal)) from None
        self.check, self.seconds, self.order = check, seconds, ORDERS[0]
        self.binary = cuda_build.load(self.path)

    def schedule(self, order):
        """Run the threads and blocks of later launches in `order`, a (name, seed) as in ORDERS."""
        self.order = order

    def get_function(self, name):
        """Return the kernel of this name; call it as kernel(grid, block, arguments, shared_mem=0)."""
        if name not in self.names:
            raise KernelCompileError(f"no kernel {name!r}; this module has {', '.join(self.names)}")
        return RawKernel(self, name)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: its C++ type as NumPy's type."""

    pointer: bool
    const: bool
    dtype: str

    def __str__(self):
        return f"{'const ' if self.const else ''}{self.dtype}{' array' if self.pointer else ' scalar'}"

    def accepts(self, dtype):
        """bfloat16 travels as ml_dtypes.bfloat16 or as its 16 bits."""
        return dtype.name == self.dtype or (self.dtype == "bfloat16" and dtype.name == "uint16")


class RawKernel:
    """One kernel with CuPy's calling convention; raises if arguments do not fit its signature."""

    def __init__(self, module, name):
        self.module, self.name = module, name
        self.max_dynamic_shared_size_bytes = 48 * 1024  # raise it to opt in to more, as on a GPU
        self._launch = getattr(module.binary, f"emu_launch_{name}")
        self._bound = getattr(module.binary, f"emu_threads_{name}")()
        signature = getattr(module.binary, f"emu_signature_{name}")
        signature.restype = ctypes.c_char_p
        words = signature().decode().split()
        self.parameters = [
            Parameter("*" in kind, "const" in kind, dtype)
            for kind, dtype in zip(words[::2], words[1::2], strict=True)
        ]

    def __call__(self, grid, block, args, shared_mem=0):
        geometry = self._geometry(grid, block, shared_mem)
        if len(args) != len(self.parameters):
            raise KernelArgumentError(
                f"{self.name}: {len(args)} arguments; it has {len(self.parameters)} parameters"
            )
        for i, pair in enumerate(zip(args, self.parameters, strict=True)):
            self._check(i, *pair)
        memory = _Memory([a for a in args if isinstance(a, np.ndarray)])
        self._prepare(memory, args)
        values = [_value(a, p, memory) for a, p in zip(args, self.parameters, strict=True)]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        error = self._launch(pointers, (ctypes.c_uint * 7)(*geometry))
        if error:
            message = self.module.binary.emu_message().decode(errors="replace")
            raise ERRORS[error - 1](cuda_build.locate(self.module.path, message))
        written = [
            a for a, p in zip(args, self.parameters, strict=True) if isinstance(a, np.ndarray) and not p.const
        ]
        if not memory.intact():
            raise KernelBoundsError(f"{self.name}: a write just outside one of the arrays")
        memory.copy_back(written)

    def _geometry(self, grid, block, shared_mem):
        grid, block = (tuple(map(int, (*size, 1, 1)[:3])) for size in (grid, block))
        threads, blocks = math.prod(block), math.prod(grid)
        if min(grid + block) < 1:
            raise KernelLaunchError(f"{self.name}: grid {grid} and block {block} must not hold a zero")
        if threads > self._bound:
            raise KernelLaunchError(f"{self.name}: {threads} threads per block; at most {self._bound}")
        if block[2] > 64 or max(grid[1:]) > 65535:
            raise KernelLaunchError(f"{self.name}: grid {grid} or block {block} is too large")
        if blocks >= 1 << 22:
            raise KernelLaunchError(f"{self.name}: {blocks} blocks; the emulator takes fewer than 2²²")
        limit = min(self.max_dynamic_shared_size_bytes, cuda_build.MOST_DYNAMIC)
        if not 0 <= shared_mem <= limit:
            hint = "; set max_dynamic_shared_size_bytes" if 0 <= shared_mem <= cuda_build.MOST_DYNAMIC else ""
            raise KernelLaunchError(
                f"{self.name}: {shared_mem} bytes of dynamic shared memory, {limit} are allowed{hint}"
            )
        return (*grid, *block, shared_mem)

    def _check(self, i, argument, parameter):
        is_null = argument is None or (type(argument) is int and argument == 0)
        if parameter.pointer and is_null:
            return
        wanted = np.ndarray if parameter.pointer else np.generic
        if not isinstance(argument, wanted) or not parameter.accepts(argument.dtype):
            kind = "array" if isinstance(argument, np.ndarray) else "scalar"
            found = (
                f"a {argument.dtype} {kind}"
                if hasattr(argument, "dtype")
                else f"a Python {type(argument).__name__}"
            )
            raise KernelArgumentError(f"{self.name}: argument {i} is {found}; the kernel takes a {parameter}")
        if parameter.pointer and not argument.flags.c_contiguous:
            raise KernelArgumentError(
                f"{self.name}: argument {i} is not contiguous, and a kernel cannot see strides"
            )
        if parameter.pointer and not parameter.const and not argument.flags.writeable:
            raise KernelArgumentError(
                f"{self.name}: argument {i} is read-only; the kernel takes a {parameter}"
            )

    def _prepare(self, memory, args):
        binary, (order, seed) = self.module.binary, self.module.order
        binary.emu_configure(
            int(self.module.check), ORDER_NAMES.index(order), seed, float(self.module.seconds)
        )
        binary.emu_forget_regions()
        if not self.module.check:
            return
        for address, size, first in memory.regions():
            i = next(i for i, a in enumerate(args) if a is first)
            binary.emu_add_region(address, size, f"argument {i} ({first.dtype}, {size} bytes)".encode())


def _value(argument, parameter, memory):
    """Return the C value of a parameter in new memory."""
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(memory.address(argument))
    if parameter.pointer:
        return ctypes.c_void_p(0)
    return (ctypes.c_ubyte * argument.dtype.itemsize).from_buffer_copy(argument.tobytes())


class _Memory:
    """Copies of arrays, each between guards; arrays whose bytes overlap share one copy."""

    def __init__(self, arrays):
        self.groups = []  # [begin, end, first array, raw bytes, offset of begin in them]
        for array in sorted(arrays, key=lambda a: (a.ctypes.data, -a.nbytes)):
            begin, end = array.ctypes.data, array.ctypes.data + array.nbytes
            last_begin, last_end = self.groups[-1][:2] if self.groups else (None, 0)
            if begin < last_end or begin == last_begin:
                self.groups[-1][1] = max(end, self.groups[-1][1])
            else:
                self.groups.append([begin, end, array])
        for group in self.groups:
            begin, end, _ = group
            raw = np.full(end - begin + 2 * GUARD + 16, CANARY, np.uint8)
            group += [raw, GUARD + (begin - raw.ctypes.data - GUARD) % 16]
        for array in arrays:
            self._copy_of(array)[...] = _bytes(array)

    def _group(self, array):
        return next(
            g for g in self.groups if g[0] <= array.ctypes.data and array.ctypes.data + array.nbytes <= g[1]
        )

    def _copy_of(self, array):
        begin, _, _, raw, offset = self._group(array)
        start = offset + array.ctypes.data - begin
        return raw[start : start + array.nbytes]

    def address(self, array):
        begin, _, _, raw, offset = self._group(array)
        return raw.ctypes.data + offset + array.ctypes.data - begin

    def regions(self):
        return [
            (raw.ctypes.data + offset, end - begin, first) for begin, end, first, raw, offset in self.groups
        ]

    def intact(self):
        return all(
            (raw[:offset] == CANARY).all() and (raw[offset + end - begin :] == CANARY).all()
            for begin, end, _, raw, offset in self.groups
        )

    def copy_back(self, arrays):
        for array in arrays:
            _bytes(array)[...] = self._copy_of(array)


def _bytes(array):
    return array.reshape(-1).view(np.uint8)
