"""Minimum, quartiles and maximum of many numbers, as np.percentile returns them, bit for bit.

Why not np.percentile: it moves all numbers several times. Here a sample tells between which values a quartile
lies, and only the numbers between these are sorted.
"""

import math

import numpy as np

from ffnn_gpu.tables.table import Floats

LARGE = 1 << 16  # numbers from which a sample pays
SAMPLE = 1 << 12
MARGIN = 4.0  # standard deviations of a quartile's place in the sample
QUARTILES = (0.25, 0.5, 0.75)


def quartiles(x: Floats) -> list[float]:
    """Return np.percentile(x, (0, 25, 50, 75, 100)) of numbers x (n,) without NaN, n > 0."""
    if len(x) < LARGE:
        found: list[float] = np.percentile(x, (0, 25, 50, 75, 100)).tolist()
        return found
    some = np.sort(x[:: len(x) // SAMPLE])
    return [float(x.min()), *(_quantile(x, some, q) for q in QUARTILES), float(x.max())]


def _quantile(x: Floats, some: Floats, q: float) -> float:
    """Return the number below which lies the share q of x, between two numbers of x in proportion."""
    place = (len(x) - 1) * q
    k = math.floor(place)
    a, b = _neighbours(x, some, k, q)
    t = place - k
    return b - (b - a) * (1 - t) if t >= 0.5 else a + (b - a) * t


def _neighbours(x: Floats, some: Floats, k: int, q: float) -> tuple[float, float]:
    """Return the numbers at the places k and k + 1 of sorted x."""
    margin = math.ceil(MARGIN * math.sqrt(len(some) * q * (1 - q))) + 1
    middle = int(q * len(some))
    low, high = some[middle - margin], some[middle + margin]
    before = int(np.count_nonzero(x < low))
    between = x[(x >= low) & (x <= high)]
    if before <= k and k + 1 < before + len(between):
        x, k = between, k - before
    a, b = np.partition(x, (k, k + 1))[k : k + 2].tolist()
    return a, b
