"""Compiled loops over arrays: commands, which threads run, and the functions that they consist of.

They assume that shapes and types match, and check nothing.
"""

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
    "cross_entropy", "formulas", "gather", "layers", "losses", "normalization", "softmax", "step_control",
]  # fmt: skip
