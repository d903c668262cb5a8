"""Read checkpoints of format 1: folders, which earlier versions wrote.

model.safetensors       θ and the running statistics; the architecture as JSON in the metadata
optimizer.safetensors   the arrays of the optimizer and of callbacks (only in a checkpoint of a training run)
state.json              counters, history, versions, size and SHA-256 of the other files, its own SHA-256
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import safetensors.numpy
from safetensors import SafetensorError

from ffnn_gpu.checkpoints.tensor_file import Arrays
from ffnn_gpu.errors import CheckpointCorruptError

STATE, MODEL, OPTIMIZER = "state.json", "model.safetensors", "optimizer.safetensors"
LARGEST_STATE = 256 * 2**20  # bytes; a longer file counts as damaged


def is_one(folder: Path) -> bool:
    """Return whether `folder` is a checkpoint of format 1."""
    return (folder / STATE).is_file()


def read(folder: Path) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays and the values as `tensor_file.read` does.

    Raises CheckpointCorruptError if the folder is not, byte for byte, what was written.
    """
    files, state = _verified(folder)
    try:
        length = int.from_bytes(files[MODEL][:8], "little")
        architecture = json.loads(json.loads(files[MODEL][8 : 8 + length])["__metadata__"]["architecture"])
        arrays = safetensors.numpy.load(files[MODEL])
        if OPTIMIZER in files:
            arrays |= safetensors.numpy.load(files[OPTIMIZER])
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointCorruptError(f"{folder} is damaged: {type(error).__name__}: {error}") from error
    return arrays, {"format_version": state.get("format"), "architecture": architecture, "state": state}


def _verified(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files and the state, once every checksum is right."""
    raw = _bytes(folder / STATE, LARGEST_STATE)
    try:
        state = json.loads(raw)
        sums = state.pop("sha256")
        own = sums.pop(STATE)
        unsigned = state | {"sha256": sums}
        if raw != _dump(state | {"sha256": sums | {STATE: own}}) or own != _sha256(_dump(unsigned)):
            raise ValueError("its checksum is wrong")
        sizes = {name: int(state["bytes"][name]) for name in sums if os.path.basename(name) == name}
        if len(sizes) < len(sums) or min(sizes.values(), default=0) < 0:
            raise ValueError("it names a file outside the folder, or a negative size")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointCorruptError(f"{folder / STATE} is damaged: {error}") from error
    files = {name: _bytes(folder / name, size) for name, size in sizes.items()}
    for name, content in files.items():
        if _sha256(content) != sums[name]:
            raise CheckpointCorruptError(f"{folder / name} is damaged: its SHA-256 is not the one in {STATE}")
    return files, state


def _bytes(path: Path, largest: int) -> bytes:
    try:
        if not path.is_file() or path.stat().st_size > largest:
            raise CheckpointCorruptError(f"{path} is missing, not a file, or longer than {largest} bytes")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointCorruptError(f"{path} cannot be read: {error.strerror or error}") from error


def _dump(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
