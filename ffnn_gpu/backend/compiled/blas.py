"""NumPy's BLAS by the addresses of its functions, for code that calls it without Python."""

import ctypes
import functools
from typing import Any, NamedTuple

import numpy as np


class Blas(NamedTuple):
    """Addresses: CBLAS's products of float32 and float64 with 64-bit integers; how many threads they use, and setting it."""

    sgemm: int
    dgemm: int
    threads: int
    set_threads: int

    def num_threads(self) -> int:
        return int(ctypes.CFUNCTYPE(ctypes.c_int)(self.threads)())

    def limit(self, number: int) -> None:
        ctypes.CFUNCTYPE(None, ctypes.c_int)(self.set_threads)(number)

    def gemm(self, dtype: np.dtype) -> int:
        return self.sgemm if dtype.itemsize == 4 else self.dgemm


@functools.cache
def blas() -> Blas | None:
    """The OpenBLAS that is part of NumPy's wheels; None where NumPy multiplies with something else."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    for library in ThreadpoolController().lib_controllers:
        names = ("cblas_sgemm64_", "cblas_dgemm64_", "openblas_get_num_threads64_", "openblas_set_num_threads64_")
        found = [getattr(library.dynlib, f"scipy_{name}", None) for name in names]
        if all(found): return Blas(*map(_address, found))
    return None


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
