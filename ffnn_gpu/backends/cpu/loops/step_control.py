"""Commands that prepare an update: step numbers, and the factor that clips ∇θ by its norm."""

import math
from typing import Any

import numpy as np
from numba import njit

from ffnn_gpu.backends.cpu.loops.chunks import scalars
from ffnn_gpu.backends.cpu.loops.intrinsics import as_real, vector
from ffnn_gpu.backends.reference.step_control import FACTOR, SKIP
from ffnn_gpu.backends.reference.updates import PRODUCT, RATE, STEP, nadam_momentum

momentum_of_nadam = njit(nadam_momentum)


def advance_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """t ← t + 1, the parameters' count of updates ← count + 1, and η ← lr if given"""
    of_step, count, lr = n[0], n[1], n[2]
    scalars(of_step)[STEP] += 1
    vector(np.int64, count, 1)[0] += 1
    if lr:
        scalars(of_step)[RATE] = vector(np.float64, lr, 1)[0]


def advance_product_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """Π ← Π μ_t"""
    of_step, beta1, psi = n[0], n[1], n[2]
    scalars(of_step)[PRODUCT] *= momentum_of_nadam(scalars(of_step)[STEP], as_real(beta1), as_real(psi))


# ----------------------------------------------------------------------  the gradient


def factor_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """control ← [min(1, limit/‖∇θ‖), 0] from the sums of squares"""
    sums, parts, limit, control = n[0], n[1], n[2], n[3]
    norm = math.sqrt(vector(np.float64, sums, parts).sum())
    vector(np.float64, control, 2)[FACTOR] = as_real(limit) / norm if norm > as_real(limit) else 1.0
    vector(np.float64, control, 2)[SKIP] = 0
