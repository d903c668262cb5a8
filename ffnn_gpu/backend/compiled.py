"""Loops compiled for the CPU at hand by Numba, which the extra `fast` installs; NumpyBackend works without.

Why dropout first: ten rounds of Philox are a hundred passes over memory in NumPy and none in a compiled loop (131,072
elements: 0.81 ms against 0.13 ms). The first call compiles, about 2 s, and keeps the result on disk.
"""

import numpy as np
from numba import njit, uint32, uint64

from ffnn_gpu.backend.philox import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1


@njit(cache=True, nogil=True)
def dropout_mask(
    out: np.ndarray, keep: float, threshold: int, key: tuple[int, int], step: int, layer: int, row: int
) -> None:
    """out (B, O) = keep where word c mod 4 of Philox at (⌊c/4⌋, row + r, step, layer) ≥ threshold, else 0."""
    rows, columns = out.shape
    for r in range(rows):
        for quad in range((columns + 3) // 4):
            c0, c1, c2, c3 = uint32(quad), uint32(row + r), uint32(step), uint32(layer)
            k0, k1 = uint32(key[0]), uint32(key[1])
            for _ in range(ROUNDS):
                p0, p1 = uint64(c0) * uint64(MULTIPLIER_0), uint64(c2) * uint64(MULTIPLIER_1)
                c0, c1 = uint32((p1 >> uint64(32)) ^ c1 ^ k0), uint32(p1)
                c2, c3 = uint32((p0 >> uint64(32)) ^ c3 ^ k1), uint32(p0)
                k0, k1 = uint32(k0 + uint32(WEYL_0)), uint32(k1 + uint32(WEYL_1))
            words = (c0, c1, c2, c3)
            for j in range(min(4, columns - 4 * quad)):
                out[r, 4 * quad + j] = keep if words[j] >= threshold else 0
