"""Which columns of an encoded table are numbers, and the bins in which their embedding is linear."""

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.nn.layers import PiecewiseLinearEmbedding

MOST_BINS, MOST_WIDTH = 48, 16  # of a column
ALL_BINS, ALL_WIDTHS = 8192, 2048  # of all columns together
DIGITS = 4  # of an edge after its point, which a saved model writes as text


def leading_numbers(x: HostArray) -> int:
    """Return how many columns of x (n, d) come first, up to the last one with more than two values.

    The columns behind them are flags: levels of categories, and missing cells.
    """
    low, high = x.min(axis=0, initial=np.inf), x.max(axis=0, initial=-np.inf)
    between = np.flatnonzero(((x != low) & (x != high)).any(axis=0))
    return int(between[-1]) + 1 if between.size else 0


def piecewise_linear(x: HostArray) -> PiecewiseLinearEmbedding:
    """Return an embedding of all columns of x (n, F), of which n training rows decide about the bins.

    Bins end at quantiles. Many columns get fewer bins and numbers each, so that the width of the next layer
    is bounded.
    """
    F = x.shape[1]
    bins, width = max(1, min(MOST_BINS, ALL_BINS // F)), max(1, min(MOST_WIDTH, ALL_WIDTHS // F))
    quantiles = np.quantile(np.asarray(x, np.float64), np.linspace(0, 1, bins + 1), 0, method="nearest")
    return PiecewiseLinearEmbedding(
        tuple(_edges(np.unique(column)) for column in quantiles.round(DIGITS).T), width
    )


def _edges(ends: HostArray) -> tuple[float, ...]:
    """Return ascending ends of bins as they are; for a constant column one bin."""
    found = tuple(map(float, ends))
    return found if len(found) > 1 else (found[0], found[0] + 1.0)
