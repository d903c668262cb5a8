"""Write a network, or everything needed to resume its training run, to one file, and read it.

`tensor_file` describes the file. It holds:

    arrays    "0.W", "2.layers.0.gain", …: θ and the running statistics; W has the shape (in, out)
              "optimizer.m", "callback.0.…", …: vectors of the optimizer and of callbacks, in a training run
    values    format_version; architecture; state (counters, history, extras and versions)

A path that does not end in `.safetensors` gets that suffix. Reading takes the first of

    the path with the suffix · the path itself, a file · the path itself, a folder of an earlier version

Writing does not change such a folder. A file written on a GPU is read where CuPy is not installed.
"""

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ffnn_gpu.backends import Backend, get_backend
from ffnn_gpu.checkpoints import old_format, tensor_file
from ffnn_gpu.checkpoints.architecture import decode, encode
from ffnn_gpu.checkpoints.tensor_file import Arrays
from ffnn_gpu.checks import renamed, special_file
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
from ffnn_gpu.nn.network import Network, uninitialized
from ffnn_gpu.nn.pack import Member
from ffnn_gpu.nn.parameters import count_parameters

FORMAT = 2
MALFORMED = (FfnnGpuError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
SUFFIX = ".safetensors"


def save(network: Network, path: str | Path, *, extras: Mapping[str, Any] | None = None) -> None:
    """Write the network to one file; a checkpoint that is there is replaced in one step.

    Args:
        path: gets the suffix `.safetensors` if it lacks it.
        extras: JSON values to store with the network, such as `Standardizer.to_json()`.

    Raises:
        CheckpointError: a parameter is not finite, `path` is a file of another kind, or writing failed. The
            message says whether the file was replaced.
    """
    write(network, path, {"extras": dict(extras or {})}, {})


@renamed(backend="device")
def load(
    path: str | Path,
    device: str | Backend = "auto",
    *,
    layers: type[Layer] | Iterable[type[Layer]] = (),
    dtype: DTypeLike | None = None,
) -> Network:
    """Return the network in a file, on any device.

    Args:
        path: with or without `.safetensors`, or a folder that an earlier version wrote.
        layers: classes of your own that the network uses.
        dtype: type to compute in; None for the saved one. A 16-bit network is saved with float32 numbers.

    Raises:
        CheckpointError: there is no checkpoint. CheckpointCorruptError: it is damaged.
        ConfigurationError: dtype is unknown, cannot compute this network, or cannot hold one of its numbers.
        IncompatibleCheckpointError: it has another format version or an unknown layer.
    """
    kinds: tuple[Any, ...] = (layers,) if isinstance(layers, type) else tuple(layers)
    stray = next((kind for kind in kinds if not (isinstance(kind, type) and issubclass(kind, Layer))), None)
    if stray is not None:
        raise ConfigurationError(
            f"layers takes the classes of your own layers, such as [MyLayer], not {stray!r}"
        )
    backend = get_backend(device)
    if dtype is not None:
        backend.dtype(dtype)
    return read(path, backend, kinds, dtype)[0]


def load_extras(path: str | Path) -> dict[str, Any]:
    """Return the `extras` that were saved with the network. Raises the errors of `load`."""
    extras: dict[str, Any] = read_state(path).get("extras", {})
    return extras


def read_state(path: str | Path) -> dict[str, Any]:
    """Return the `state` that `write` received. Raises the errors of `load`."""
    return _contents(_found(path))[2]


def write(network: Network, path: str | Path, state: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a checkpoint with `state`, JSON values, and further arrays, if all parameters are finite.

    Args:
        arrays: no name may begin with a digit, because the names of the network's arrays do.

    Raises the errors of `save`.
    """
    path = file_of(path)
    numbers = network.params.to_host()
    broken = next((name for name, value in numbers.items() if not np.isfinite(value).all()), None)
    if broken is not None:
        raise CheckpointError(f"{broken} is not finite; {path} was not changed")
    architecture = {
        "n_in": network.n_in,
        "layers": encode(network.layers),
        "dtype": network.compute_dtype.name,
        "seed": network.seed,
    }
    if network.members is not None:
        architecture["members"] = [asdict(member) for member in network.members]
    whole = {
        **state,
        "updates": int(network.params.step[0]),
        "backend": network.backend.name,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }
    values = {"format_version": FORMAT, "architecture": architecture, "state": whole}
    tensor_file.write(path, {**numbers, **arrays}, values)


def read(
    path: str | Path,
    backend: str | Backend = "auto",
    layers: Iterable[type[Layer]] = (),
    dtype: DTypeLike | None = None,
) -> tuple[Network, dict[str, Any], Arrays]:
    """Return (network, state, arrays) as `write` received them. Raises the errors of `load`."""
    path, backend = _found(path), get_backend(backend)
    arrays, architecture, state = _contents(path)
    numbers = {name: arrays.pop(name) for name in [*arrays] if name[:1].isdigit()}
    try:
        decoded, n_in = decode(architecture["layers"], tuple(layers)), architecture["n_in"]
        listed = architecture.get("members")
        members = None if listed is None else [Member(**settings) for settings in listed]
        present = sum(value.size for value in numbers.values())
        _require_room(decoded, n_in, present if members is None else present // max(len(members), 1))
        number_type, seed = dtype or architecture["dtype"], architecture["seed"]
        network = uninitialized(n_in, decoded, backend, number_type, seed, members)
        updates = np.int64(int(state["updates"]))
    except (CheckpointError, BackendUnavailableError, DeviceOutOfMemoryError):
        raise
    except MALFORMED as error:
        if dtype is not None:
            read(path, backend, layers)  # raises the error of a file that describes no network in any type
            raise ConfigurationError(f"{path} cannot be loaded with dtype={dtype!r}: {error}") from error
        raise IncompatibleCheckpointError(
            f"{path} describes no network: {type(error).__name__}: {error}"
        ) from error
    network.params.assign(_cast(path, numbers, network) if dtype else numbers)
    network.backend.write(network.params.step, 0, updates)
    return network, state, arrays


def file_of(path: str | Path) -> Path:
    """Return the file to write for `path`. Raises CheckpointError for a path without a name, such as "."."""
    path = Path(path)
    if path.name in ("", ".."):
        raise CheckpointError(f"{path} is a folder; add the name of a file")
    return path if path.name.endswith(SUFFIX) else path.with_name(path.name + SUFFIX)


def find(path: str | Path) -> Path | None:
    """Return the file or folder that is read for `path`; None if there is none."""
    path = Path(path)
    if path.name not in ("", "..") and file_of(path).is_file():
        return file_of(path)
    return path if path.is_file() or old_format.is_one(path) else None


def _found(path: str | Path) -> Path:
    found, path = find(path), Path(path)
    if found is not None:
        return found
    if kind := special_file(path):
        raise CheckpointError(f"{path} is {kind}; a checkpoint is read from a file only, so copy it to one")
    network = find(path / "model")
    if network is not None and (path / "config.toml").is_file():
        raise CheckpointError(
            f"{path} is a run folder: use ffnn_gpu.Model.load, or load('{network}') for the bare network"
        )
    inside = sorted(
        entry.name for entry in path.glob("[!.]*") if entry.suffix == SUFFIX or old_format.is_one(entry)
    )
    holds = f"it is a folder that holds {' and '.join(inside) or 'none'}"
    raise CheckpointError(
        f"{path} is not a checkpoint: {holds if path.is_dir() else 'there is no such file'}"
    )


def _contents(path: Path) -> tuple[Arrays, Any, dict[str, Any]]:
    """Return (all arrays, the architecture, the state) of a file or an old folder."""
    arrays, values = old_format.read(path) if path.is_dir() else tensor_file.read(path)
    version, state = values.get("format_version"), values.get("state")
    if version not in (1, FORMAT):
        raise IncompatibleCheckpointError(
            f"{path} has format version {version}; this package reads 1 and {FORMAT}"
        )
    if not isinstance(state, dict):
        raise CheckpointCorruptError(f"{path} is damaged: its state is {type(state).__name__}")
    return arrays, values.get("architecture"), state


def _cast(path: Path, numbers: Arrays, network: Network) -> Arrays:
    """Return the numbers in the network's dtype. Raises ConfigurationError if one is too large."""
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
    """Refuse layers with more parameters than the file has numbers, before anything is allocated."""
    declared, width = 0, n_in
    for layer in layers:
        declared += count_parameters(layer.parameter_shapes(width))
        width = layer.output_width(width)
    if declared > present:
        raise IncompatibleCheckpointError(
            f"the layers have {declared} parameters; the file holds {present} numbers"
        )
