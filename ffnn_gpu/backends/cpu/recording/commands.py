"""Find and compile a command by its name."""

import functools
from typing import Any

import numpy as np
from numba import cfunc, types

from ffnn_gpu.backends.cpu.loops import layers, losses, normalization, step_control, updates

# name → body of each function in loops/ whose name ends in _command
BODIES = {
    name.removesuffix("_command"): body
    for family in (layers, normalization, losses, step_control, updates)
    for name, body in vars(family).items()
    if name.endswith("_command")
}


@functools.cache
def command(name: str, dtype: np.dtype) -> Any:
    """Return the compiled command for arrays of `dtype`; callers use its `.address`.

    Numba caches it on disk.
    """
    of = types.CPointer({4: types.float32, 8: types.float64}[dtype.itemsize])
    signature = types.void(of, types.CPointer(types.int64), types.int64, types.int64)
    return cfunc(signature, cache=True, error_model="numpy")(BODIES[name])
