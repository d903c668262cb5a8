"""Cache on disk of what was fastest: one JSON file for each GPU name, driver and cublasLt version.

It holds algorithms, and choices between a fused epilogue and a separate kernel.

Why the version is in the name: a cublasLtMatmulAlgo_t is 64 opaque bytes that are valid only for the same
version of the library (cublasLt.h). A file that is missing, damaged or not writable costs a search, never an
error. cublasLt checks each cached algorithm before it runs.
"""

import contextlib
import json
import os
import re
import sys
from pathlib import Path

ALGO_BYTES = 64
# Prefix of the key of a choice. Its value is one byte: 1 if the fused epilogue was faster, else 0.
CHOICE = "fused epilogue: "
FORMAT = 1
LARGEST_FILE = 16 * 2**20  # bytes; a longer file counts as damaged


def cache_folder() -> Path:
    """Return the user's cache folder for this package."""
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "ffnn_gpu"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ffnn_gpu"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ffnn_gpu"


def store_path(gpu: str, driver: int, version: int) -> Path:
    """Return the file for one kind of GPU, CUDA driver version and cublasLt version."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", gpu).strip("-").lower()
    return cache_folder() / f"cublaslt-{name}-driver-{driver}-cublaslt-{version}.json"


class AlgorithmStore:
    """Map each problem to the bytes of its algorithm or choice, in memory and in the file `path`, if any."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._found = self._read()

    def get(self, problem: str) -> bytes | None:
        return self._found.get(problem)

    def put(self, problem: str, algorithm: bytes) -> None:
        """Store it, and keep what other processes have written since."""
        self._found = {**self._read(), **self._found, problem: algorithm}
        if self.path is not None:
            self._write(self.path)

    def _write(self, path: Path) -> None:
        plans = {name: value.hex() for name, value in sorted(self._found.items())}
        scratch = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
        with contextlib.suppress(OSError):  # without a writable cache, the search is repeated next time
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                content = json.dumps({"format": FORMAT, "algorithms": plans}, indent=1)
                scratch.write_text(content, encoding="utf-8")
                os.replace(scratch, path)
            finally:
                scratch.unlink(missing_ok=True)

    def _read(self) -> dict[str, bytes]:
        if self.path is None:
            return {}
        try:
            if self.path.stat().st_size > LARGEST_FILE:
                return {}
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                return {}
            found = {str(name): bytes.fromhex(value) for name, value in content["algorithms"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}
        sizes = {name: 1 if name.startswith(CHOICE) else ALGO_BYTES for name in found}
        return {name: value for name, value in found.items() if len(value) == sizes[name]}
