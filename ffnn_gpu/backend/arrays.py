"""Arrays at the library's boundary: what callers hand over, and what they get back."""

import sys
from typing import Any

import numpy as np

from ffnn_gpu.backend.precision import is_floating
from ffnn_gpu.errors import DataError

CHUNK = 65536  # rows looked at together, so that a memory-mapped array is never copied whole


def host_array(array: Any) -> np.ndarray:
    """`array` (NumPy, a list, DLPack, CuPy) as a NumPy array, without a copy where none is needed.

    Raises:
        DataError: it holds Python objects, or its rows differ in length.
    """
    if not isinstance(array, np.ndarray):
        array = _from_foreign(array)
    if array.dtype == object:
        raise DataError(f"an array of shape {array.shape} holds Python objects; pass numbers")
    return array


def _from_foreign(array: Any) -> np.ndarray:
    if type(array).__module__.split(".")[0] == "cupy":
        return array.get()
    try:
        return np.from_dlpack(array) if hasattr(array, "__dlpack__") else np.asarray(array)
    except (ValueError, TypeError, BufferError, RuntimeError) as error:
        raise DataError(f"a {type(array).__name__} cannot be read as an array of numbers: {error}") from error


def kind_of(like: Any, host: np.ndarray) -> Any:
    """`host` as the kind of array `like` is: CuPy if it is CuPy, else NumPy."""
    cupy = sys.modules.get("cupy")
    if cupy is None or not isinstance(like, cupy.ndarray): return host
    with like.device:
        return cupy.asarray(host)


@np.errstate(over="ignore", under="ignore")
def require_finite(xp: Any, array: Any, what: str, dtype: Any = None) -> None:
    """Raise DataError with the count and the first index if a value of `array` is NaN, infinite or too large for `dtype`."""
    if not is_floating(array.dtype) and dtype != np.float16:  # whose largest number is 65504
        return
    bad, first = 0, -1
    for start in range(0, len(array), CHUNK):
        finite = xp.isfinite(array[start : start + CHUNK].astype(dtype or array.dtype, copy=False))
        if not bool(finite.all()):
            broken = xp.flatnonzero(~finite.reshape(-1))
            if not bad:
                first = int(broken[0]) + start * (array.size // len(array))
            bad += len(broken)
    if bad:
        at = tuple(int(i) for i in np.unravel_index(first, array.shape))
        trouble = f"too large for {np.dtype(dtype).name}" if bool(xp.isfinite(array[at])) else "not finite"
        raise DataError(f"{what} holds {bad} values that are {trouble}; the first is {array[at]} at index {at}")
