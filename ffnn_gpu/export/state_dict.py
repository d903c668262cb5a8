"""The weights of a network ↔ the `state_dict` of the same network in PyTorch, in a safetensors file.

The numbering is that of a torch.nn.Sequential in which each activation but identity is a module of its own:

    [Dense(128, "relu"), Dropout(0.1), Dense(10)]
    Sequential(Linear(64, 128), ReLU(), Dropout(0.1), Linear(128, 10))
    0.weight (128, 64)   0.bias (128,)   3.weight (10, 128)   3.bias (10,)

Dense          Linear        weight (out, in), which is W transposed; bias
LayerNorm      LayerNorm     weight, bias
BatchNorm      BatchNorm1d   weight, bias, running_mean, running_var, num_batches_tracked
Embedding      a module with a ModuleList of Embeddings, one a column: embeddings.0.weight (levels, width), …
Residual       a module with a Sequential: layers.0.weight, …
Stack          a Sequential
Average        a module with a ModuleList of Sequentials: members.0.0.weight, …

Dropout, Softmax and LogSoftmax are modules without weights.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import safetensors.numpy

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.precision import floating, is_floating
from ffnn_gpu.checkpoints import atomic_file
from ffnn_gpu.errors import CheckpointCorruptError, CheckpointError, IncompatibleCheckpointError
from ffnn_gpu.export.exported import exported, writer_of
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import (
    Average,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    LayerNorm,
    LogSoftmax,
    Residual,
    Softmax,
    Stack,
)
from ffnn_gpu.nn.network import Network

TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64"}
TRACKED = "num_batches_tracked"  # PyTorch counts batches; it is written, and not read
NORMS: dict[type[Layer], dict[str, str]] = {
    LayerNorm: {"gain": "weight", "bias": "bias"},
    BatchNorm: {
        "gain": "weight", "bias": "bias", "running_mean": "running_mean", "running_variance": "running_var",
    },
}  # fmt: skip


class Piece(NamedTuple):
    """One array of a network and its place in the state_dict.

    Attributes:
        name: in the network, such as "0.W".
        there: in the state_dict, such as "0.weight".
        rows: of the network's vector, if the piece is a table of an Embedding; else all of it.
        shape: in the state_dict.
    """

    name: str
    there: str
    shape: tuple[int, ...]
    rows: slice = slice(None)

    @property
    def is_transposed(self) -> bool:
        return self.name.endswith(".W")


def export_state_dict(model: Any, path: str | Path) -> None:
    """Write the weights of a network or model as PyTorch's state_dict; an old file is replaced in one step.

    In PyTorch: `module.load_state_dict(safetensors.torch.load_file(path))`.

    Raises:
        ConfigurationError: a layer has no counterpart in PyTorch. CheckpointError: writing failed.
    """
    content = state_dict_bytes(model)
    try:
        atomic_file.write(Path(path), content)
    except OSError as error:
        raise CheckpointError(f"saving {path}: {error.strerror or error}") from error


def state_dict_bytes(model: Any) -> bytes:
    """Return the content of the file that `export_state_dict` writes."""
    return safetensors.numpy.save(state_dict(exported(model).network), metadata={"format": "pt"})


def load_state_dict(model: Any, path: str | Path) -> None:
    """Overwrite the weights of a network or model with those of a PyTorch state_dict in a safetensors file.

    In PyTorch: `safetensors.torch.save_file(module.state_dict(), path)`. Numbers of another floating type are
    rounded to the network's. Nothing changes if an error is raised.

    Raises:
        IncompatibleCheckpointError: a name is missing or superfluous, or an array has another shape.
        CheckpointCorruptError: the file is no safetensors file. CheckpointError: it cannot be read, or a
            number is not finite.
    """
    network = exported(model).network
    try:
        arrays = _arrays(Path(path).read_bytes(), str(path))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise CheckpointCorruptError(f"{path} is no safetensors file: {error}") from error
    network.params.assign(_weights(network, arrays, str(path)))


def state_dict(network: Network) -> dict[str, HostArray]:
    """Return name → array as PyTorch has them, in the type in which the network stores its weights."""
    weights, found = network.params.to_host(), {}
    for piece in pieces(network):
        array = weights[piece.name][piece.rows]
        shaped = array.T if piece.is_transposed else array.reshape(piece.shape)
        found[piece.there] = np.ascontiguousarray(shaped)
    updates = np.asarray(int(network.params.step[0]), np.int64)
    return found | {f"{there}.{TRACKED}": updates for there in _batch_norms(network)}


def _weights(network: Network, arrays: Mapping[str, HostArray], source: str) -> dict[str, HostArray]:
    """Return name → array as the network has them. Raises the errors of `load_state_dict`."""
    wanted = [*pieces(network)]
    lacking = [piece for piece in wanted if piece.there not in arrays]
    if lacking:
        raise IncompatibleCheckpointError(
            f"{source} lacks {lacking[0].there!r}, which this network needs with shape {lacking[0].shape}; "
            f"it has {_listed(arrays)}"
        )
    known = {piece.there for piece in wanted} | {f"{there}.{TRACKED}" for there in _batch_norms(network)}
    if surplus := [name for name in arrays if name not in known]:
        raise IncompatibleCheckpointError(
            f"{source} has {surplus[0]!r}, which does not belong to this network: {network!r}"
        )
    found: dict[str, list[HostArray]] = {}
    for piece in wanted:
        array = _checked(arrays[piece.there], piece, network.dtype, source)
        found.setdefault(piece.name, []).append(array.T if piece.is_transposed else array)
    tables = {name: np.concatenate([*map(np.ravel, found[name])]) for name in found if name.endswith(".E")}
    return {name: parts[0] for name, parts in found.items()} | tables


def _arrays(content: bytes, source: str) -> dict[str, HostArray]:
    """Return the arrays of a safetensors file. Why not by `safetensors.numpy`: it does not know bfloat16."""
    found = {}
    for name, entry in cast(Any, safetensors).deserialize(content):
        if entry["dtype"] not in TYPES:
            raise IncompatibleCheckpointError(
                f"{source}: {name!r} holds numbers of type {entry['dtype']}; "
                f"a network reads {', '.join(TYPES)}"
            )
        dtype = floating(TYPES[entry["dtype"]])
        found[name] = np.frombuffer(entry["data"], dtype).reshape(tuple(entry["shape"]))
    return found


def _checked(array: HostArray, piece: Piece, dtype: Any, source: str) -> HostArray:
    if array.shape != piece.shape:
        raise IncompatibleCheckpointError(
            f"{source}: {piece.there!r} has shape {array.shape}; this network needs {piece.shape}"
        )
    if not is_floating(array.dtype):
        raise IncompatibleCheckpointError(f"{source}: {piece.there!r} is {array.dtype}; weights are floats")
    with np.errstate(over="ignore", under="ignore"):
        rounded: HostArray = array.astype(dtype)
    if not np.isfinite(rounded).all():
        raise CheckpointError(f"{source}: {piece.there!r} holds a number that is not finite in {dtype}")
    return rounded


def pieces(network: Network) -> Iterator[Piece]:
    """Yield the arrays of a network in the order of its layers. Raises ConfigurationError."""
    return _of_layers(network.layers, network.n_in, "", "")


def _of_layers(layers: Sequence[Layer], width: int, here: str, there: str) -> Iterator[Piece]:
    """Yield the arrays of layers. here, there: the prefixes of their names in the network and in PyTorch."""
    place = 0
    for k, layer in enumerate(layers):
        write = writer_of(layer, f"{here}{k}", PIECES, "a state_dict holds")
        yield from write(layer, width, f"{here}{k}.", f"{there}{place}.")
        place += 1 + _has_activation(layer)
        width = layer.output_width(width)


def _has_activation(layer: Layer) -> bool:
    return isinstance(layer, Dense) and layer.phi.name != "identity"


def _dense(layer: Dense, width: int, here: str, there: str) -> Iterator[Piece]:
    yield Piece(f"{here}W", f"{there}weight", (layer.width, width))
    if layer.bias:
        yield Piece(f"{here}b", f"{there}bias", (layer.width,))


def _norm(layer: Layer, width: int, here: str, there: str) -> Iterator[Piece]:
    for name, other in NORMS[type(layer)].items():
        yield Piece(here + name, there + other, (width,))


def _embedding(layer: Embedding, width: int, here: str, there: str) -> Iterator[Piece]:
    start = 0
    for k, shape in enumerate(zip(layer.levels, layer.sizes, strict=True)):
        rows = slice(start, start + shape[0] * shape[1])
        yield Piece(f"{here}E", f"{there}embeddings.{k}.weight", shape, rows)
        start = rows.stop


def _residual(layer: Residual, width: int, here: str, there: str) -> Iterator[Piece]:
    return _of_layers(layer.layers, width, f"{here}layers.", f"{there}layers.")


def _stack(layer: Stack, width: int, here: str, there: str) -> Iterator[Piece]:
    return _of_layers(layer.layers, width, f"{here}layers.", there)


def _average(layer: Average, width: int, here: str, there: str) -> Iterator[Piece]:
    for r, member in enumerate(layer.layers):
        yield from _stack(member, width, f"{here}layers.{r}.", f"{there}members.{r}.")


def _nothing(layer: Layer, width: int, here: str, there: str) -> Iterator[Piece]:
    return iter(())


PIECES: dict[type[Layer], Callable[..., Iterator[Piece]]] = {
    Dense: _dense, LayerNorm: _norm, BatchNorm: _norm, Embedding: _embedding, Residual: _residual,
    Stack: _stack, Average: _average, Dropout: _nothing, Softmax: _nothing, LogSoftmax: _nothing,
}  # fmt: skip


def _batch_norms(network: Network) -> list[str]:
    """Return the names of the BatchNorm1d modules."""
    statistics = (piece.there for piece in pieces(network) if piece.name.endswith(".running_mean"))
    return [name.removesuffix(".running_mean") for name in statistics]


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join([*names][:5]) + ", …" * (len(names) > 5) if names else "no arrays"
