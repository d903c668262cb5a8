"""How much a model's error grows when the numbers of one column are given to other rows."""

from collections.abc import Callable, Sequence

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checks import require_positive_int
from ffnn_gpu.errors import DataError


def permutation_importance(
    error: Callable[[HostArray], float],
    x: HostArray,
    columns: Sequence[Sequence[int]],
    repeats: int = 3,
    seed: int = 0,
) -> HostArray:
    """error(x with a column shuffled) − error(x), for each column and repeat: (columns, repeats).

    In one repeat every column is shuffled by the same permutation, so the result for a column does not
    depend on the others.

    Args:
        error: of a matrix like x; a lower value is better. It must not change the matrix.
        x: (n, d), left unchanged.
        columns: for each column the places in x that are shuffled together.

    Raises:
        DataError: x has fewer than two rows, or a place is not in it.

    Reference: Fisher, Rudin, Dominici: All Models are Wrong, but Many are Useful, Journal of Machine Learning
    Research 20 (2019), section 3.
    """
    require_positive_int("repeats", repeats)
    _require_places(x, columns)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(x)) for _ in range(repeats)]
    before, shuffled = error(x), x.copy()
    found = np.empty((len(columns), repeats))
    for k, places in enumerate(columns):
        own = [*places]
        for r, order in enumerate(orders):
            shuffled[:, own] = x[order[:, None], own]
            found[k, r] = error(shuffled) - before
        shuffled[:, own] = x[:, own]
    return found


def mean_and_deviation(rises: HostArray) -> tuple[HostArray, HostArray]:
    """Return the mean and the standard deviation over the last axis, also of numbers near 1e300."""
    unit = np.ldexp(1.0, np.frexp(np.abs(rises).max(initial=0))[1] - 1)
    return rises.mean(axis=-1), (rises / unit).std(axis=-1) * unit


def _require_places(x: HostArray, columns: Sequence[Sequence[int]]) -> None:
    if x.ndim != 2 or len(x) < 2:
        raise DataError(f"x has shape {x.shape}; a column is shuffled among at least two rows")
    outside = [place for places in columns for place in places if not 0 <= place < x.shape[1]]
    if outside:
        raise DataError(f"x has {x.shape[1]} columns; place {outside[0]} is not among them")
