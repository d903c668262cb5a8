"""Choose the device: `get_backend` is the one place where a backend is selected."""

import os
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from ffnn_gpu.backends.cpu.compiled_backend import CompiledBackend
from ffnn_gpu.backends.cpu.numpy_backend import NumpyBackend
from ffnn_gpu.backends.cuda.probe import probe
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.errors import BackendUnavailableError, ConfigurationError

__all__ = ["Backend", "CompiledBackend", "NumpyBackend", "get_backend", "probe"]

SYNONYMS = {"cpu": "numpy", "cuda": "cupy"}
ENVIRONMENT, OLD_ENVIRONMENT = "FFNN_GPU_DEVICE", "FFNN_GPU_BACKEND"
TF32, AUTOTUNE = "FFNN_GPU_TF32", "FFNN_GPU_AUTOTUNE"
MOST_ALGORITHMS = 64


def get_backend(name: str | Backend = "auto") -> Backend:
    """Return the backend called `name`.

    Args:
        name: "numpy" or "cpu"; "cupy", "cupy:N", "cuda" or "cuda:N"; a Backend, which is returned unchanged;
            or "auto": the environment variable FFNN_GPU_DEVICE, else the GPU if it passes the
            probe, else NumPy.

    FFNN_GPU_TF32 and FFNN_GPU_AUTOTUNE are the arguments `tf32` and `autotune` of CupyBackend.

    Returns:
        A backend whose `reason` is one sentence about why it was chosen.

    Raises:
        BackendUnavailableError: a GPU was requested and cannot be used; there is no silent fallback.
        ConfigurationError: no device has this name, or FFNN_GPU_TF32 or FFNN_GPU_AUTOTUNE is not valid.
    """
    if isinstance(name, Backend):
        return name
    _product_options()  # raises for an invalid variable on every machine, not only on one with a GPU
    asked = str(name).strip().lower()
    source = "asked for"
    if asked == "auto":
        asked, variable = from_environment(os.environ)
        asked, source = asked or "auto", f"{variable}={asked}"
    if asked == "auto":
        found = probe(0)
        return _make(0 if found.usable else None, f"chosen by auto: {found.reason}")
    family, _, index = asked.partition(":")
    family = SYNONYMS.get(family, family)
    if family == "numpy" and ":" not in asked:
        return _make(None, source)
    if family == "cupy" and (index.isdecimal() or ":" not in asked):
        return _gpu(int(index or 0), source)
    shown = repr(name) if source == "asked for" else f"{asked!r} ({source})"
    raise ConfigurationError(
        f"no device is called {shown}; there are 'auto', 'cpu' (or 'numpy'), and 'cuda' or 'cuda:1' "
        "(or 'cupy', 'cupy:1')"
    )


def from_environment(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return (requested device, name of the variable that requests it); the device is "" if none is set.

    FFNN_GPU_DEVICE takes precedence over its old name, FFNN_GPU_BACKEND, which gives a DeprecationWarning.
    """
    for variable in (ENVIRONMENT, OLD_ENVIRONMENT):
        asked = environment.get(variable, "").strip().lower()
        if asked:
            if variable == OLD_ENVIRONMENT:
                warnings.warn(
                    f"{OLD_ENVIRONMENT} is now called {ENVIRONMENT}", DeprecationWarning, stacklevel=2
                )
            return asked, variable
    return "", ENVIRONMENT


def _gpu(index: int, source: str) -> Backend:
    found = probe(index)
    if not found.usable:
        raise BackendUnavailableError(f"{found.reason} ({source}). Hint: {found.hint}")
    return _make(index, source)


def _make(index: int | None, reason: str) -> Backend:
    backend: Backend
    if index is None:
        backend = CompiledBackend() if find_spec("llvmlite") else NumpyBackend()
    else:
        from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend  # takes 25 ms

        backend = CupyBackend(index, **_product_options())
    backend.reason = reason
    return backend


def _product_options() -> dict[str, Any]:
    return {"tf32": bool(_number(TF32, 1)), "autotune": _number(AUTOTUNE, MOST_ALGORITHMS)}


def _number(variable: str, most: int) -> int:
    text = os.environ.get(variable, "").strip() or "0"
    if not text.isdecimal() or int(text) > most:
        raise ConfigurationError(f"{variable} must be a whole number from 0 to {most}, not {text!r}")
    return int(text)
