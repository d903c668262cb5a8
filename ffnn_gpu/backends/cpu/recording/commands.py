"""Every command by its name."""

import functools
from typing import Any

import numpy as np
from numba import cfunc, types

from ffnn_gpu.backends.cpu.loops import layers, losses, normalization, step_control, updates

BODIES = {
    body.__name__.removesuffix("_part"): body
    for family in (layers, normalization, losses, step_control, updates)
    for body in family.COMMANDS
}


@functools.cache
def command(name: str, dtype: np.dtype) -> Any:
    """The command called `name` for arrays of `dtype`; `.address` is what is called. Compiled once, then read from disk."""
    of = types.CPointer({4: types.float32, 8: types.float64}[dtype.itemsize])
    signature = types.void(of, types.CPointer(types.int64), types.int64, types.int64)
    return cfunc(signature, cache=True, error_model="numpy")(BODIES[name])
