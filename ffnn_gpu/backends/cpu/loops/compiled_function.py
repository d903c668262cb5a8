"""Functions of this package that are compiled, called by their address. Machine code is cached on disk."""

import ctypes
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ffnn_gpu.backends.cpu.loops.compiler import write_function
from ffnn_gpu.backends.cpu.loops.values import FLOAT64, INT64, TRUTH
from ffnn_gpu.backends.elementwise import code_cache, machine_code

C_TYPES = {INT64: ctypes.c_int64, FLOAT64: ctypes.c_double, TRUTH: ctypes.c_bool, None: None}


class CompiledFunction:
    """A function of addresses and integers. Calls from Python release its lock (the GIL).

    It is compiled when it is needed for the first time. It must not raise.

    Args:
        function: in the language of compiler.py.
        result, params: those of `write_function`.
    """

    def __init__(self, function: Callable[..., Any], result: np.dtype | None, *params: Any) -> None:
        self.function, self.result, self.params = function, result, params

    @cached_property
    def name(self) -> str:
        """The name of the machine code in the cache."""
        signature = f"{self.result} {self.params}"
        return code_cache.name_of(f"{self.function.__module__}.{self.function.__name__} {signature}")

    def _write(self, module: Any) -> None:
        write_function(module, self.name, self.function, self.result, self.params)

    @cached_property
    def address(self) -> int:
        """The address of the machine code."""
        if not code_cache.load(self.name):
            code_cache.compile(self.name, self._write)
        return machine_code.address(self.name)

    @cached_property
    def call(self) -> Callable[..., Any]:
        """The machine code as a Python function; a pointer is an integer or None."""
        kinds: Any = (ctypes.c_void_p if isinstance(p, tuple) else C_TYPES[p] for p in self.params)
        return ctypes.CFUNCTYPE(C_TYPES[self.result], *kinds)(self.address)

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)
