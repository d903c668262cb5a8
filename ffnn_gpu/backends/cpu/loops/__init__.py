"""Compiled loops over arrays, called by NumbaBackend. They assume that shapes match, and check nothing.

The first call of each loop compiles it (about 0.5 s) and caches the machine code on disk.
"""

import ffnn_gpu.backends.cpu.loops.numba_cache as numba_cache  # first: it deletes outdated machine code
from ffnn_gpu.backends.cpu.loops import (
    cross_entropy,
    formulas,
    gather,
    layers,
    losses,
    normalization,
    softmax,
    step_control,
)

__all__ = [
    "cross_entropy", "formulas", "gather", "layers", "losses", "normalization", "numba_cache", "softmax",
    "step_control",
]  # fmt: skip
