"""Whether whole numbers are codes of classes or quantities, judged by how often each occurs.

Codes are 0 … K − 1 or 1 … K with few gaps, and their frequencies have no order. Quantities begin anywhere,
have gaps in a long tail, or have frequencies that rise to one peak and fall: counts, ages, ratings. Of random
frequencies of 7 codes, 1 in 80 orders has one peak; of 10 codes, 1 in 7,000.

Classes that somebody numbered by their frequency have one peak too, at the first code. They differ from
counts at the other end: the largest counts occur once or twice, the rarest of such classes in several rows.

Why not the number of distinct values alone, as other libraries do: of 2,087 columns of whole numbers in the
tables of R's packages with at most max(20, √n) distinct values, most of those with more than 6 are counts,
ages, years, years of schooling and ratings.
"""

import math

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray

FEW = 5  # distinct values that are codes
SEVERAL = 20  # distinct values up to which codes may be rare
FEWEST_ROWS = 3  # of each of more codes
CONSECUTIVE = 1.5  # (largest + 1) / distinct values up to which numbers have few gaps
NO_ORDER = 1.25  # ratio of von Neumann above which frequencies have no order; 2 is expected of random ones
SURE = 2.0  # standard deviations
VARIED = 3.0  # χ² per degree of freedom above which frequencies differ
LEAST_OF_CLASSES = 10  # rows of the rarest class if classes are numbered by their frequency


def are_codes(y: HostArray) -> tuple[bool, str]:
    """Return whether whole numbers are codes of classes, and why; "" if it is plain."""
    values, counts = np.unique(y, return_counts=True)
    K, low, high = len(values), float(values[0]), float(values[-1])
    if K <= FEW or (K == FEW + 1 and (low in (0, 1) or high - low >= K)):
        return True, f"they have only {K} values" if K > 2 else ""
    if max(SEVERAL, math.sqrt(y.size)) < K:
        return False, ""
    if low not in (0, 1):
        return False, f"they begin at {low:.0f} and codes begin at 0 or 1"
    if high + 1 > CONSECUTIVE * K:
        return False, f"many of the numbers up to {high:.0f} do not occur"
    frequencies = counts.astype(np.float64)
    if high - low + 1 == K and _fall_to_many(frequencies):
        return True, f"they are {low:.0f} … {high:.0f} by falling frequency, and none is rare"
    if K > SEVERAL and (counts.min() < FEWEST_ROWS or _von_neumann(frequencies) <= NO_ORDER):
        return False, f"{K} codes would have several rows each, and frequencies without an order"
    if _has_one_peak(frequencies):
        return False, "their frequencies rise to one peak and fall, as those of counts do"
    return True, f"they are {low:.0f} … {high:.0f}, and their frequencies have no order"


def _fall_to_many(f: HostArray) -> bool:
    """Return whether frequencies never rise, and end far above those of the largest counts."""
    return bool((np.diff(f) <= 0).all() and f[0] > f[-1] >= LEAST_OF_CLASSES)


def _von_neumann(f: HostArray) -> float:
    """Return Σ (f_{k+1} − f_k)² / Σ (f_k − f̄)².

    Reference: J. von Neumann, Distribution of the Ratio of the Mean Square Successive Difference to the
    Variance, Annals of Mathematical Statistics 12 (1941).
    """
    spread = float(((f - f.mean()) ** 2).sum())
    return float((np.diff(f) ** 2).sum()) / spread if spread else math.inf


def _has_one_peak(f: HostArray) -> bool:
    """Return whether frequencies differ, and no valley between two higher ones is more than chance."""
    if ((f - f.mean()) ** 2).sum() <= VARIED * f.mean() * (len(f) - 1):
        return False
    before, after = np.maximum.accumulate(f), np.maximum.accumulate(f[::-1])[::-1]
    rim = np.minimum(before, after)
    return bool((rim - f <= SURE * np.sqrt(rim + f)).all())
