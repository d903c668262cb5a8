"""Commands that prepare an update: step numbers, and the factor that clips ∇θ by its norm."""

import math
from typing import Any

import numpy as np

from ffnn_gpu.backends.cpu.loops.chunks import scalars, sum_in_order
from ffnn_gpu.backends.cpu.loops.intrinsics import as_real, vector
from ffnn_gpu.backends.reference.step_control import FACTOR, GOOD, GROWTH_INTERVAL, LARGEST_SCALE, SCALE, SKIP
from ffnn_gpu.backends.reference.updates import PRODUCT, RATE, STEP, nadam_momentum


def is_skipped(control: int) -> bool:
    """Return whether the update is skipped, given the address of [c, skip], or 0."""
    return control != 0 and vector(np.float64, control, 2)[SKIP] != 0


def advance_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """t ← t + 1, the parameters' count of updates ← count + 1, unless skipped, and η ← lr if given"""
    of_step, count, lr, control = n[0], n[1], n[2], n[3]
    if not is_skipped(control):
        scalars(of_step)[STEP] += 1
        vector(np.int64, count, 1)[0] += 1
    if lr:
        scalars(of_step)[RATE] = vector(np.float64, lr, 1)[0]


def advance_product_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """Π ← Π μ_t, unless skipped"""
    of_step, beta1, psi, control = n[0], n[1], n[2], n[3]
    if not is_skipped(control):
        scalars(of_step)[PRODUCT] *= nadam_momentum(scalars(of_step)[STEP], as_real(beta1), as_real(psi))


# ----------------------------------------------------------------------  the gradient


def factor_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """control ← [c, skip] from the sums of squares of ∇θ, and the loss scale as in the reference"""
    sums, parts, limit, scale = n[0], n[1], as_real(n[2]), n[4]
    control, of_scale = vector(np.float64, n[3], 2), vector(np.float64, scale, 2)
    S, norm = of_scale[SCALE] if scale else 1.0, math.sqrt(sum_in_order(vector(np.float64, sums, parts)))
    finite, norm = math.isfinite(norm), norm / S
    control[FACTOR], control[SKIP] = (limit / norm if norm > limit else 1.0) / S, 0
    if not scale:
        return
    good = of_scale[GOOD] + 1
    if not finite:
        control[FACTOR], control[SKIP] = 0, 1
        S, good = max(S / 2, 1.0), 0.0
    elif good == GROWTH_INTERVAL:
        S, good = min(2 * S, LARGEST_SCALE), 0.0
    of_scale[SCALE], of_scale[GOOD] = S, good


def inverse_norm_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """factor ← 1 / max(√Σ sums, least)"""
    sums, parts, least, factor = n[0], n[1], as_real(n[2]), vector(np.float64, n[3], 1)
    norm = math.sqrt(sum_in_order(vector(np.float64, sums, parts)))
    factor[0] = 1.0 / (least if norm < least else norm)
