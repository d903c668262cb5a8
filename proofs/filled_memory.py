"""A plugin of pytest: fill every uninitialized array of every backend, so that reading one shows.

    FILL=nan python3 -m pytest -p proofs.filled_memory tests/nn        also: largest, infinity

Memory from the system is often zero, and memory that was freed holds numbers of the size that is expected. A
test that reads either passes by chance.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

FILLS = ("nan", "largest", "infinity")
SETTING = "FILL"


def pytest_configure(config: Any) -> None:
    """Fill what `empty` and `output` return, in every class of backends."""
    from ffnn_gpu.backends.choice import Backend, CompiledBackend, NumpyBackend
    from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend

    fill = os.environ[SETTING]
    if fill not in FILLS:
        raise ValueError(f"{SETTING}={fill!r} is unknown; use {', '.join(FILLS)}")
    for kind in (Backend, NumpyBackend, CompiledBackend, CupyBackend):
        for name in ("empty", "output"):
            if name in vars(kind):
                setattr(kind, name, filled(vars(kind)[name], fill))


def filled(operation: Callable[..., Any], fill: str) -> Callable[..., Any]:
    """Return the operation whose floating-point results are filled."""

    @functools.wraps(operation)
    def run(self: Any, shape: Any, dtype: Any, *args: Any, **named: Any) -> Any:
        out = operation(self, shape, dtype, *args, **named)
        number = value(np.dtype(dtype), fill)
        if number is not None:
            out[...] = number
        return out

    return run


def value(dtype: np.dtype[Any], fill: str) -> Any:
    """Return the number that fills arrays of this type; None for integers."""
    if dtype.kind not in "fc" and dtype.name != "bfloat16":
        return None
    if fill == "largest":
        return float(ml_dtypes.finfo(dtype).max) if dtype.kind != "c" else float(np.finfo(np.float64).max)
    return float("nan" if fill == "nan" else "inf")
