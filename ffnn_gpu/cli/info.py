"""Collect what `ffnn-gpu info` prints: versions, the backend and why it was chosen, and the machine."""

import os
import platform
from importlib import metadata
from typing import Any

import numpy as np

import ffnn_gpu
from ffnn_gpu.backends import Backend, get_backend, load_cupy, probe
from ffnn_gpu.distributed import Communicator, Single
from ffnn_gpu.errors import FfnnGpuError


def information(ranks: Communicator | None = None) -> dict[str, Any]:
    """Return everything a bug report should contain, as JSON values. A missing GPU is no error."""
    ranks = ranks or Single()
    several = {"size": ranks.size, "device": ranks.device, "reason": ranks.reason}
    return {
        "versions": {
            "ffnn_gpu": ffnn_gpu.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "cupy": _cupy_version(),
            "llvmlite": _version_of("llvmlite"),
            "mpi4py": _version_of("mpi4py"),
        },
        "ranks": several if ranks.size > 1 else None,
        **_backend(ranks.device),
        "blas": _blas(),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Format the result of `information` as lines of text."""
    device = found["device"]
    shown = {name: version or "not installed" for name, version in found["versions"].items()}
    if found["ranks"]:
        shown["ranks"] = f"{found['ranks']['size']}, {found['ranks']['reason']}"
    reason, hint = found["reason"], found["hint"]
    if hint and "No module named 'cupy'" in reason:  # not where its import fails for another reason
        reason = "the CPU computes, because CuPy is not installed"
    shown |= {"backend": f"{found['backend'] or 'none'} ({reason})", "hint": hint and f"to use a GPU: {hint}"}
    if device is not None:
        memory = f"{device['free_bytes']:,} of {device['total_bytes']:,} bytes free"
        shown["device"] = f"{device['name']}, {memory}"
    shown |= {name: str(found[name] or "") for name in ("products", "recorded", "blas", "cpus", "platform")}
    return [f"{name:<9} {text}" for name, text in shown.items() if text]


def _backend(name: str) -> dict[str, Any]:
    try:
        backend = get_backend(name)
    except FfnnGpuError as error:  # FFNN_GPU_DEVICE names one that cannot be used
        return {"backend": None, "reason": str(error)} | dict.fromkeys(
            ("hint", "products", "recorded", "device")
        )
    on_cpu = backend.memory() is None
    hint = probe(0).hint if on_cpu and "auto" in backend.reason else None
    return {
        "backend": backend.name,
        "reason": backend.reason,
        "hint": hint,
        "products": getattr(backend, "products", None),
        "recorded": getattr(backend, "recorded", None),
        "device": None if on_cpu else _device(backend),
    }


def _device(backend: Backend) -> dict[str, str | int]:
    properties = backend.xp.cuda.runtime.getDeviceProperties(getattr(backend, "index", 0))
    free, total = backend.memory() or (0, 0)
    return {"name": properties["name"].decode(), "free_bytes": free, "total_bytes": total}


def _cupy_version() -> str | None:
    try:
        return str(load_cupy().__version__)
    except Exception:  # not installed, or broken in one of many ways
        return None


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _blas() -> str:
    config: Any = np.show_config(mode="dicts")  # NumPy's stubs declare None
    blas = config.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
