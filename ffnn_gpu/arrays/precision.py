"""Number types to store, compute and sum in, and the meaning of an underflow.

16-bit types are for storage and products: arithmetic on them is done in float32, and the result is rounded
once. Values that must not lose small changes stay in float32, the *master* type: θ, ∇θ, moments, statistics
and losses. Reference: Micikevicius et al.: Mixed Precision Training (2018), section 3.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.errors import ConfigurationError

# Why: e⁻¹⁰⁰⁰ is 0 to every digit of a float32, so under np.errstate(all="raise") an underflow must not raise.
# Overflow, division by zero and invalid operations still raise.
underflow_is_zero = np.errstate(under="ignore")


def floating(name: str) -> np.dtype[Any]:
    """Return the floating type called `name`."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        remedy = "pip install ml_dtypes, or use dtype='float32'"
        raise ConfigurationError(f"bfloat16 needs the package ml_dtypes: {remedy}") from error
    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Return whether the type is real and has NaN; NumPy lists bfloat16 under the unknown kinds."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def is_16_bit(dtype: np.dtype[Any]) -> bool:
    """Return whether this is float16 or bfloat16."""
    return dtype.itemsize == 2 and is_floating(dtype)


def eps(dtype: Any) -> float:
    """Return the distance from 1 to the next number of a floating type."""
    return 2.0**-7 if np.dtype(dtype).name == "bfloat16" else float(np.finfo(dtype).eps)


def largest(dtype: Any) -> float:
    """Return the largest finite number of a floating type."""
    return (2 - 2.0**-7) * 2.0**127 if np.dtype(dtype).name == "bfloat16" else float(np.finfo(dtype).max)


def master(dtype: Any) -> np.dtype[Any]:
    """Return float32 for the 16-bit types, else the type itself."""
    return np.dtype(np.float32) if is_16_bit(np.dtype(dtype)) else np.dtype(dtype)


def loss_gradient(dtype: Any) -> np.dtype[Any]:
    """Return the type of ∂L/∂z for outputs of this type: float32 for float16, else the type itself.

    Why: a mean over many rows falls below 6·10⁻⁸, the smallest float16.
    """
    return np.dtype(np.float32 if np.dtype(dtype) == np.float16 else dtype)


def wide(dtype: Any) -> np.dtype[Any]:
    """Return float64 for the real types, complex128 for the complex ones (which only gradient checks use)."""
    return np.result_type(dtype, np.float64)


def in_float32(*written: str, of: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate an operation: it receives 16-bit arrays as float32; those it writes are rounded at the end.

    Args: written: names of the parameters that the operation may write to. of: the array parameter whose type
        decides whether to convert; the first by default. Only one is checked, because a check of all would
        take as long as an operation of a small network.
    """

    def decorate(operation: Callable[..., Any]) -> Callable[..., Any]:
        names = [*inspect.signature(operation).parameters][1:]
        decisive = of or names[0]
        place = names.index(decisive)

        @functools.wraps(operation)
        def run(self: Any, *args: Any, **named: Any) -> Any:
            array = args[place] if len(args) > place else named[decisive]
            if array.itemsize != 2:
                return operation(self, *args, **named)
            given = dict(zip(names, args, strict=False)) | named
            # Memory that was never written may hold a signaling NaN, which aarch64 reports as invalid.
            with np.errstate(invalid="ignore"):
                wide = {id(a): a.astype(np.float32) for a in given.values() if _is_narrow(a)}
            narrow = {id(wide[id(a)]): a for a in given.values() if id(a) in wide}
            result = operation(self, **{name: wide.get(id(a), a) for name, a in given.items()})
            outputs = {id(given[name]): given[name] for name in written if id(given.get(name)) in wide}
            with np.errstate(under="ignore"):
                for key, a in outputs.items():
                    a[...] = wide[key]
            return narrow.get(id(result), result)

        vars(run).update(written=written, parameters=names)
        return run

    return decorate


def _is_narrow(array: Any) -> bool:
    dtype = getattr(array, "dtype", None)
    return dtype is not None and dtype.itemsize == 2 and is_16_bit(dtype)
