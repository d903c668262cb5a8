"""Turn what callers pass into arrays or Rows, and results into the caller's kind of array."""

import sys
from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.arrays.file_rows import MappedRows
from ffnn_gpu.arrays.frames import as_numbers
from ffnn_gpu.arrays.precision import is_floating
from ffnn_gpu.arrays.rows import ArrayRows, Rows, blocks
from ffnn_gpu.arrays.sparse_rows import SparseRows, is_sparse
from ffnn_gpu.errors import DataError


def rows_of(x: Any, admit: Callable[[Any], Any] = lambda x: x) -> Rows:
    """Return x as Rows; Rows stay Rows. admit: turns anything else but a sparse matrix into an array."""
    if isinstance(x, Rows):
        return x.admitted(admit)
    if is_sparse(x):
        return SparseRows(x.tocsr())
    array = admit(x)
    return MappedRows(array) if isinstance(array, np.memmap) else ArrayRows(array)


def host_array(array: Any) -> Any:
    """Return `array` (NumPy, a list, a data frame, DLPack, CuPy) as a NumPy array, uncopied if possible.

    Rows are returned unchanged. Raises DataError.
    """
    if isinstance(array, Rows):
        return array
    if not isinstance(array, np.ndarray):
        array = _from_foreign(array)
    if array.dtype == object and array.size and isinstance(array.flat[0], str):
        return array.astype(str)  # a column of a data frame: the same strings, as NumPy keeps them
    if array.dtype == object:
        raise DataError(f"an array of shape {array.shape} holds Python objects; pass numbers")
    return array


def _from_foreign(array: Any) -> HostArray:
    if type(array).__module__.split(".")[0] == "cupy":
        return np.asarray(array.get())
    if is_sparse(array):
        raise DataError(
            f"a sparse {type(array).__name__} can be x only; pass {type(array).__name__}.toarray()"
        )
    if (numbers := as_numbers(array)) is not None:
        return numbers
    if isinstance(array, (str, PathLike)):
        raise DataError(f"{str(array)!r} is a text or a path; pass its rows (npy_rows reads .npy files)")
    try:
        return np.from_dlpack(array) if hasattr(array, "__dlpack__") else np.asarray(array)
    except (ValueError, TypeError, BufferError, RuntimeError) as error:
        raise DataError(f"a {type(array).__name__} cannot be read as an array of numbers: {error}") from error


def kind_of(like: Any, host: HostArray) -> Array:
    """`host` as a CuPy array if `like` is one, else as it is."""
    cupy = sys.modules.get("cupy")
    if cupy is None or not isinstance(like, cupy.ndarray):
        return host
    with like.device:
        return cupy.asarray(host)


@np.errstate(over="ignore", under="ignore")
def require_finite(
    xp: Any, array: Any, what: str, dtype: Any = None, read: Callable[[slice], Array] | None = None
) -> None:
    """Raise DataError (count, first index) if a value is NaN, infinite or too large for `dtype`.

    read: returns the numbers of a slice of rows; array[…] by default.
    """
    if not is_floating(array.dtype) and dtype != np.float16:  # whose largest number is 65504
        return
    read = read or array.__getitem__
    bad, at, value = 0, tuple[int, ...](), None
    for part in blocks(array):
        block = read(part)
        finite = xp.isfinite(block.astype(dtype or array.dtype, copy=False))
        if not bool(finite.all()):
            broken = xp.flatnonzero(~finite.reshape(-1))
            if not bad:
                first = int(broken[0])
                row, *rest = map(int, np.unravel_index(first, block.shape))
                at, value = (part.start + row, *rest), block.reshape(-1)[first]
            bad += len(broken)
    if bad:
        trouble = f"too large for {np.dtype(dtype).name}" if bool(xp.isfinite(value)) else "not finite"
        raise DataError(f"{what} holds {bad} values that are {trouble}; the first is {value} at index {at}")
