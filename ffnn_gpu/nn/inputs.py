"""Validate a network's input: a matrix (rows, n_in) of real numbers."""

from typing import Any

from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.arrays.precision import is_floating
from ffnn_gpu.arrays.rows import Rows
from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.errors import DataError, ShapeError


def rows(backend: Backend, x: Any, n_in: int) -> Rows:
    """Return x of any kind as Rows of the device, the host or files, uncopied; values are not checked."""
    found = rows_of(x, backend.admit)
    require_matrix(found.stored, n_in)
    return found


def require_matrix(x: Array, n_in: int) -> None:
    """Raise ShapeError unless x is (rows, n_in), and DataError unless it is real; values are not checked."""
    if x.ndim != 2:
        raise ShapeError(f"x has shape {x.shape}; a network reads a matrix (rows, {n_in})")
    if x.shape[1] != n_in:
        raise ShapeError(f"x has {x.shape[1]} columns; layer 0 of this network reads {n_in}")
    if x.dtype.kind not in "iub" and not is_floating(x.dtype):
        raise DataError(f"x has dtype {x.dtype}; a network reads real numbers")
