"""A matrix of raw numbers → the function `features` of the file."""

from typing import Any

import numpy as np

MATRIX = '''
def features(rows):
    """Return the matrix (n, {width}) that the network reads: the numbers of rows{scaling}."""
    x = np.asarray(rows, np.{given})
    if x.ndim != 2 or x.shape[1] != {width}:
        raise ValueError(f"rows have shape {{x.shape}}; the model reads {width} columns")
    if not np.isfinite(x).all():
        raise ValueError("rows hold a number that is not finite")
{lines}    return x
'''


def source(width: int, dtype: np.dtype[Any], constant: tuple[int, ...] | None, limit: float | None) -> str:
    """Return the function `features` for a matrix.

    constant: the constant columns of the standardizer; None if there is no standardizer.
    """
    if constant is None:
        return MATRIX.format(width=width, scaling="", given=dtype.name, lines="")
    lines = f'    x = ((x - WEIGHTS["mean"]) / WEIGHTS["scale"]).astype(np.{dtype.name})\n'
    if constant:
        lines += f"    x[:, {[*constant]}] = 0  # columns that were constant in the training\n"
    if limit is not None:
        lines += f"    x = np.clip(x, {-limit!r}, {limit!r})\n"
    return MATRIX.format(width=width, scaling=", standardized", given="float64", lines=lines)
