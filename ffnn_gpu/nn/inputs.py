"""What a network reads: matrices (rows, n_in) of real numbers, looked at before anything is computed with them."""

from dataclasses import replace
from typing import Any

from ffnn_gpu.arrays.boundary import Standardized, stored
from ffnn_gpu.arrays.file_rows import share, unmapped
from ffnn_gpu.arrays.precision import is_floating
from ffnn_gpu.backends.reference.backend import Array, Backend
from ffnn_gpu.errors import DataError, ShapeError


def admit(backend: Backend, x: Any, n_in: int, dtype: Any, rank: int, size: int) -> Any:
    """As `Network.admit`; dtype: what the network computes in, in which x must be finite.

    Raises:
        ShapeError: x is not (n, n_in). DataError: x is not finite.
    """
    rows = backend.admit(x)
    if size > 1:
        rows = replace(rows, rows=unmapped(rows.rows)) if isinstance(rows, Standardized) else unmapped(rows)
    _require_shape(stored(rows), n_in)
    part, first = share(stored(rows), rank, size)
    part = replace(rows, rows=part) if isinstance(rows, Standardized) else part
    backend.require_finite(part, f"x from row {first} on" if first else "x", dtype)
    return rows


def converted(backend: Backend, x: Array, n_in: int, dtype: Any) -> Array:
    """Return x (B, n_in), an array of the device, in `dtype`; its values are not checked.

    Raises:
        ShapeError: x is not (B, n_in). DataError: x is not real.
    """
    _require_shape(x, n_in)
    return backend.asarray(x, dtype)


def _require_shape(x: Any, n_in: int) -> None:
    if x.ndim != 2:
        raise ShapeError(f"x has shape {x.shape}; a network reads a matrix (rows, {n_in})")
    if x.shape[1] != n_in:
        raise ShapeError(f"x has {x.shape[1]} columns; layer 0 of this network reads {n_in}")
    if x.dtype.kind not in "iub" and not is_floating(x.dtype):
        raise DataError(f"x has dtype {x.dtype}; a network reads real numbers")
