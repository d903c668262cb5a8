"""Probabilities that are right as often as they say, and intervals that hold as often as they promise."""

import math
from collections.abc import Callable

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray

COLDEST, HOTTEST = 0.5, 2.0
MOST_RESIDUALS = 2000
GOLDEN = (math.sqrt(5) - 1) / 2


def temperature(log_loss: Callable[[float], float]) -> float:
    """Return T in [0.5, 2] for which log_loss(T), the loss of softmax(z / T), is least; 1 if none is better.

    Golden-section search over log T: the loss is almost always unimodal in it.

    Reference: Guo et al.: On Calibration of Modern Neural Networks (2017), section 4.2.
    """
    low, high = math.log(COLDEST), math.log(HOTTEST)
    while high - low > 1e-3:
        a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if log_loss(math.exp(a)) < log_loss(math.exp(b)):
            high = b
        else:
            low = a
    found = math.exp((low + high) / 2)
    return found if log_loss(found) < log_loss(1.0) else 1.0


def thinned(residuals: HostArray) -> HostArray:
    """Return |residuals| (n, K) sorted by column, at most MOST_RESIDUALS of them, the largest included."""
    ordered = np.sort(np.abs(residuals), axis=0)
    if len(ordered) > MOST_RESIDUALS:
        ordered = ordered[np.linspace(0, len(ordered) - 1, MOST_RESIDUALS).round().astype(int)]
    return ordered


def half_width(residuals: HostArray, coverage: float) -> HostArray:
    """Return the half-width (K,) of an interval that holds with probability `coverage`.

    It is the ⌈(n + 1) coverage⌉-th smallest of n absolute residuals of rows that the model was not trained
    on; infinite if n is too small for this coverage.

    Reference: Lei et al.: Distribution-Free Predictive Inference for Regression (2018), section 2.
    """
    n = len(residuals)
    rank = math.ceil((n + 1) * coverage)
    if rank > n:
        return np.full(residuals.shape[1:], np.inf)
    width: HostArray = residuals[rank - 1]
    return width
