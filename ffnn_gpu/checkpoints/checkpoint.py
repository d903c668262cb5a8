"""A network, or everything needed to resume its training ↔ one folder.

    model.safetensors       θ and the running statistics by name, W as (in, out); the architecture as JSON in the metadata
    optimizer.safetensors   the optimizer's vectors and the arrays of callbacks (only in a training checkpoint)
    state.json              counters, history, versions, and the sha256 of every file

Host bytes only: written on a GPU, read where CuPy is not installed. `atomic_folder` keeps the folder whole.
"""

import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from ffnn_gpu.backends.choice import get_backend
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.checkpoints import atomic_folder
from ffnn_gpu.checkpoints.architecture import decode, encode
from ffnn_gpu.errors import (
    BackendUnavailableError,
    CheckpointCorruptError,
    CheckpointError,
    ConfigurationError,
    DeviceOutOfMemoryError,
    FfnnGpuError,
    IncompatibleCheckpointError,
)
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.summary import count

FORMAT = 1
MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"


def save(network: Network, path: str | Path, *, extras: Mapping[str, Any] | None = None) -> None:
    """Write the network to the folder `path`; a checkpoint that is there is replaced in one step.

    Args:
        extras: JSON values to keep with the network, such as `Standardizer.to_json()`.

    Raises:
        CheckpointError: path cannot be written, or the parameters are not finite; says what is there then.
    """
    write(network, path, {"extras": dict(extras or {})}, {})


def load(
    path: str | Path,
    backend: str | Backend = "auto",
    *,
    layers: Iterable[type[Layer]] = (),
    dtype: Any = None,
) -> Network:
    """The network in the folder `path`, on any backend.

    Args:
        layers: classes of your own that the network uses.
        dtype: what to compute in; None for the one it was saved with. A 16-bit network is saved with its float32 numbers.

    Raises:
        CheckpointError: there is no checkpoint. CheckpointCorruptError: its files are damaged.
        ConfigurationError: there is no such dtype, or a number is too large for it.
        IncompatibleCheckpointError: it is of another format version or holds an unknown layer.
    """
    folder = Path(path)
    if (folder / "config.toml").is_file() and (folder / "model").is_dir():
        raise CheckpointError(
            f"{path} is a run folder: use ffnn_gpu.Model.load, or load('{folder / 'model'}') for the "
            "bare network"
        )
    kinds: tuple[Any, ...] = (layers,) if isinstance(layers, type) else tuple(layers)
    stray = next((kind for kind in kinds if not (isinstance(kind, type) and issubclass(kind, Layer))), None)
    if stray is not None:
        raise ConfigurationError(
            f"layers takes the classes of your own layers, such as [MyLayer], not {stray!r}"
        )
    backend = get_backend(backend)
    if dtype is not None:
        backend.dtype(dtype)
    return read(path, backend, kinds, dtype)[0]


def load_extras(path: str | Path) -> dict[str, Any]:
    """What was saved with the network as `extras`."""
    return atomic_folder.read(Path(path))[1].get("extras", {})


def write(
    network: Network, path: str | Path, state: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write a checkpoint with `state` (JSON) and further named arrays. Never replaces finite numbers by others."""
    numbers = network.params.to_host()
    broken = next((name for name, value in numbers.items() if not np.isfinite(value).all()), None)
    if broken is not None:
        raise CheckpointError(f"{broken} is not finite; {path} is left as it was")
    dtype = network.compute_dtype.name
    description = {
        "n_in": network.n_in,
        "layers": encode(network.layers),
        "dtype": dtype,
        "seed": network.seed,
    }
    files = {MODEL: _tensors(numbers, {"architecture": json.dumps(description)})}
    if arrays:
        files[OPTIMIZER] = _tensors(arrays, None)
    whole = {
        **state,
        "format": FORMAT,
        "updates": int(network.params.step[0]),
        "backend": network.backend.name,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    atomic_folder.write(Path(path), files, whole)


def read(
    path: str | Path, backend: str | Backend = "auto", layers: Iterable[type[Layer]] = (), dtype: Any = None
) -> tuple[Network, dict[str, Any], dict[str, np.ndarray]]:
    """(network, state, arrays) as `write` got them. Raises as `load` does."""
    files, state = atomic_folder.read(Path(path))
    if state.get("format") != FORMAT:
        raise IncompatibleCheckpointError(
            f"{path} has format version {state.get('format')}; this package reads {FORMAT}"
        )
    try:
        length = int.from_bytes(files[MODEL][:8], "little")
        header = json.loads(files[MODEL][8 : 8 + length])
        description = json.loads(header["__metadata__"]["architecture"])
        numbers = safetensors.numpy.load(files[MODEL])
        arrays = safetensors.numpy.load(files[OPTIMIZER]) if OPTIMIZER in files else {}
    except (KeyError, TypeError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointCorruptError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    return (
        _network(path, description, numbers, state, get_backend(backend), tuple(layers), dtype),
        state,
        arrays,
    )


def _network(
    path: str | Path,
    description: Any,
    numbers: dict[str, np.ndarray],
    state: Mapping[str, Any],
    backend: Backend,
    custom: tuple[type[Layer], ...],
    dtype: Any,
) -> Network:
    try:
        layers, n_in = decode(description["layers"], custom), description["n_in"]
        _require_room(layers, n_in, sum(value.size for value in numbers.values()))
        network = Network(n_in, layers, backend, dtype or description["dtype"], description["seed"])
        updates = np.int64(int(state["updates"]))
    except (CheckpointError, BackendUnavailableError, DeviceOutOfMemoryError):
        raise
    except (
        FfnnGpuError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise IncompatibleCheckpointError(
            f"{path} describes no network: {type(error).__name__}: {error}"
        ) from error
    network.params.assign(_cast(path, numbers, network) if dtype else numbers)
    network.backend.write(network.params.step, 0, updates)
    return network


def _cast(path: str | Path, numbers: dict[str, np.ndarray], network: Network) -> dict[str, np.ndarray]:
    """The numbers in the type the network keeps. Raises ConfigurationError if one is too large for what it computes in."""
    statistics, kept = {slot.name for slot in network.params.state_slots}, {}
    for name, value in numbers.items():
        used = network.dtype if name in statistics else network.compute_dtype
        with np.errstate(over="ignore", under="ignore"):
            kept[name] = value.astype(network.dtype)
            fits = np.isfinite(kept[name].astype(used)).all()
        if not fits:
            raise ConfigurationError(
                f"{name} in {path} holds {np.abs(value).max():g}, too large for {used.name}"
            )
    return kept


def _require_room(layers: tuple[Layer, ...], n_in: int, present: int) -> None:
    """Raise IncompatibleCheckpointError, before memory is asked for, if the layers have more parameters than the file."""
    declared, width = 0, n_in
    for layer in layers:
        declared += count(layer.parameter_shapes(width))
        width = layer.output_width(width)
    if declared > present:
        raise IncompatibleCheckpointError(
            f"the layers have {declared} parameters; the file holds {present} numbers"
        )


def _tensors(arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None) -> bytes:
    # Why ascontiguousarray: safetensors writes the memory of an array with other strides as if it had none (issue 825).
    return safetensors.numpy.save(
        {name: np.ascontiguousarray(value) for name, value in arrays.items()}, metadata
    )
