"""Functions of this package that Numba compiles, called by their address. Machine code is cached on disk."""

import ctypes
from collections.abc import Callable
from functools import cached_property
from typing import Any

from numba import cfunc, types
from numba.core.compiler_lock import global_compiler_lock

from ffnn_gpu.backends.elementwise import code_cache

C_TYPES = {types.int64: ctypes.c_int64, types.float64: ctypes.c_double, types.void: None}


class CompiledFunction:
    """A function of addresses and integers. Calls from Python release its lock (the GIL).

    It is compiled when it is needed for the first time. It must not raise.

    Args:
        function: plain, or a `kernel`.
        signature: result(argument, …) in Numba's types.
    """

    def __init__(self, function: Callable[..., Any], signature: Any) -> None:
        self.function, self.signature = getattr(function, "py_func", function), signature

    @cached_property
    def name(self) -> str:
        """The name of the machine code in the cache."""
        return code_cache.name_of(f"{self.function.__module__}.{self.function.__name__} {self.signature}")

    @cached_property
    @global_compiler_lock  # type: ignore[untyped-decorator]
    def _code(self) -> tuple[Any, str]:
        """The library with the machine code, and the symbol of the function."""
        found = code_cache.load(self.name)
        if found is None:
            compiled: Any = cfunc(self.signature, error_model="numpy", _nrt=False)(self.function)
            found = compiled._library, compiled.native_name
            code_cache.save(self.name, *found)
        return found

    @cached_property
    def address(self) -> int:
        """The address of the machine code."""
        library, symbol = self._code
        address: int = library.get_pointer_to_function(symbol)
        return address

    @cached_property
    def call(self) -> Callable[..., Any]:
        """The machine code as a Python function; a pointer is an integer or None."""
        kinds = self.signature.return_type, *self.signature.args
        types_in_c: Any = (C_TYPES.get(kind, ctypes.c_void_p) for kind in kinds)
        return ctypes.CFUNCTYPE(*types_in_c)(self.address)

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)
