"""Whether predicted probabilities are as often right as they say."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checks import require_positive_int
from ffnn_gpu.errors import DataError, ShapeError


class Reliability(NamedTuple):
    """Of each bin with rows: the mean probability, the share of events, and the number of rows."""

    predicted: HostArray
    observed: HostArray
    rows: HostArray

    @property
    def error(self) -> float:
        """The expected calibration error: Σ (rows / n) |observed − predicted|."""
        return float(np.average(np.abs(self.observed - self.predicted), weights=self.rows))


def reliability(p: ArrayLike, event: ArrayLike, bins: int = 10) -> Reliability:
    """Sort rows into equal bins of [0, 1] by their probability p, and average p and the event in each.

    Args:
        p: (n,) probabilities; p = 1 belongs to the last bin.
        event: (n,) whether the event came true: 0 or 1.

    Raises:
        ShapeError: the lengths differ. DataError: no rows, a p outside [0, 1], or an event that is neither.

    Reference: Guo et al.: On Calibration of Modern Neural Networks (2017), equations 2 and 3.
    """
    require_positive_int("bins", bins)
    p, event = np.asarray(p, np.float64), np.asarray(event, np.float64)
    if p.ndim != 1 or p.shape != event.shape:
        raise ShapeError(f"p has shape {p.shape} and event {event.shape}; both must be (n,)")
    if not len(p):
        raise DataError("p and event have no rows; give at least one")
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError(f"p must hold probabilities from 0 to 1; it ranges from {p.min()} to {p.max()}")
    if not ((event == 0) | (event == 1)).all():
        raise DataError(f"event must hold 0 and 1; it ranges from {event.min()} to {event.max()}")
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    rows, sums, events = (np.bincount(place, weight, minlength=bins) for weight in (None, p, event))
    used = rows > 0
    return Reliability(sums[used] / rows[used], events[used] / rows[used], rows[used])
