"""Which type a number is kept in, computed in and summed in, and what an underflow means.

A 16-bit type is one to store and to multiply in: arithmetic on it is float32's, rounded once where it is written. What must
not lose small changes stays in float32, the *master* type: θ, ∇θ, moments, statistics and losses.
Reference: Micikevicius et al., Mixed Precision Training (2018), section 3.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.errors import ConfigurationError

# Why: e⁻¹⁰⁰⁰ is 0 to every digit a float32 has. A caller who runs under np.errstate(all="raise") asks to hear of wrong
# results, and this one is right; overflow, division by zero and invalid operations still raise.
underflow_is_zero = np.errstate(under="ignore")


def floating(name: str) -> np.dtype:
    """The floating type called `name`. Raises ConfigurationError where bfloat16 is asked for and NumPy has none."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise ConfigurationError(
            "bfloat16 needs the package ml_dtypes, which is not installed: pip install ml_dtypes, or use dtype='float32'"
        ) from error
    return np.dtype(ml_dtypes.bfloat16)


def is_floating(dtype: np.dtype) -> bool:
    """Whether numbers of this type are real and may be NaN; NumPy counts bfloat16 among the unknown kinds."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def is_16_bit(dtype: np.dtype) -> bool:
    """Whether this is float16 or bfloat16."""
    return dtype.itemsize == 2 and is_floating(dtype)


def eps(dtype: Any) -> float:
    """The distance from 1 to the next number of a floating type."""
    return 2.0**-7 if np.dtype(dtype).name == "bfloat16" else float(np.finfo(dtype).eps)


def largest(dtype: Any) -> float:
    """The largest finite number of a floating type."""
    return (2 - 2.0**-7) * 2.0**127 if np.dtype(dtype).name == "bfloat16" else float(np.finfo(dtype).max)


def master(dtype: Any) -> np.dtype:
    """float32 for the 16-bit types, every other type itself."""
    return np.dtype(np.float32) if is_16_bit(np.dtype(dtype)) else np.dtype(dtype)


def loss_gradient(dtype: Any) -> np.dtype:
    """The type of ∂L/∂z for outputs of this type: float32 for float16, whose smallest number 6·10⁻⁸ a mean over many rows
    falls below, else the type itself."""
    return np.dtype(np.float32 if np.dtype(dtype) == np.float16 else dtype)


def wide(dtype: Any) -> np.dtype:
    """float64 for the real types, complex128 for the complex ones (which only gradient checks use)."""
    return np.result_type(dtype, np.float64)


def in_float32(*written: str, of: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator of operations: they get 16-bit arrays as float32, and the ones they write are rounded once, at the end.

    Args:
        written: the names of the parameters an operation may write to.
        of: the parameter, an array, whose type says whether there is anything to do; the first by default. One is looked at
            and not all, because a small network has operations that take no longer.
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
            wide = {id(a): a.astype(np.float32) for a in given.values() if _is_narrow(a)}
            narrow = {id(wide[id(a)]): a for a in given.values() if id(a) in wide}
            result = operation(self, **{name: wide.get(id(a), a) for name, a in given.items()})
            with np.errstate(under="ignore"):
                for a in {
                    id(given[name]): given[name] for name in written if id(given.get(name)) in wide
                }.values():
                    a[...] = wide[id(a)]
            return narrow.get(id(result), result)

        return run

    return decorate


def _is_narrow(array: Any) -> bool:
    dtype = getattr(array, "dtype", None)
    return dtype is not None and dtype.itemsize == 2 and is_16_bit(dtype)
