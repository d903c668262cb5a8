"""Validate a network's input: a matrix (rows, n_in) of real numbers."""

from typing import Any

from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.arrays.precision import is_floating
from ffnn_gpu.arrays.rows import Rows
from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.errors import DataError, ShapeError


def rows(backend: Backend, x: Any, n_in: int) -> Rows:
    """Return x of any kind as Rows of the device, the host or files, uncopied; values are not checked.

    Raises:
        ShapeError: x is not (n, n_in). DataError: x is not real.
    """
    found = rows_of(x, backend.admit)
    _require_shape(found.stored, n_in)
    return found


def converted(backend: Backend, x: Array, n_in: int, dtype: Any) -> Array:
    """Return x (B, n_in), an array of the device, in `dtype`; its values are not checked.

    Raises:
        ShapeError: x is not (B, n_in). DataError: x is not real.
    """
    _require_shape(x, n_in)
    return backend.asarray(x, dtype)


def _require_shape(x: Array, n_in: int) -> None:
    if x.ndim != 2:
        raise ShapeError(f"x has shape {x.shape}; a network reads a matrix (rows, {n_in})")
    if x.shape[1] != n_in:
        raise ShapeError(f"x has {x.shape[1]} columns; layer 0 of this network reads {n_in}")
    if x.dtype.kind not in "iub" and not is_floating(x.dtype):
        raise DataError(f"x has dtype {x.dtype}; a network reads real numbers")
