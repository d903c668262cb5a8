"""Write and read a safetensors file of arrays and JSON values that carries its own checksum.

    8 bytes   length of the header, little-endian
    header    {"__metadata__":{"sha256":"64 hex digits", name: "value as JSON", …},
               name: {"dtype": …, "shape": …, "data_offsets": …}, …}
    data      the arrays, one after the other

The digest is at the same place in every file. It is the SHA-256 of the whole file with 64 zeros ("0")
instead of the digest, and is compared as text. A changed bit therefore changes either what is hashed or what
is compared, and a truncated file is hashed at another length. Any safetensors reader reads the file.

Why the safetensors package does not write it: it orders the metadata by chance and copies all bytes.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from ffnn_gpu.checkpoints import atomic_file, json_values
from ffnn_gpu.errors import CheckpointCorruptError, CheckpointError

Arrays: TypeAlias = dict[str, NDArray[Any]]  # on the host, by name

BEGINNING = b'{"__metadata__":{"sha256":"'
START = 8 + len(BEGINNING)  # offset of the digest in the file
END = START + 64
BLANK = b"0" * 64
LARGEST_HEADER = 100_000_000  # bytes; safetensors readers refuse more
TYPES = {"float": "F", "int": "I", "uint": "U", "complex": "C"}


def write(path: Path, arrays: Arrays, values: Mapping[str, Any]) -> None:
    """Replace the file at `path` in one step.

    Args:
        arrays: of any memory layout; numbers of at most 64 bits, or booleans.

    Raises:
        CheckpointError: `path` is a file that this function did not write, safetensors has no such type, the
            values are too long, or writing failed. In the last case the message says whether the file was
            changed.
    """
    _require_replaceable(path)
    texts = {name: json_values.dumps_exactly(value) for name, value in values.items()}
    header: dict[str, Any] = {"__metadata__": {"sha256": BLANK.decode(), **texts}}
    data, end = [], 0
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):  # aligned
        # Why order="C": the memory of an array with other strides is not its numbers in order.
        array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _type_name(name, array), "shape": array.shape, "data_offsets": (start, end)}
        data.append(array.reshape(-1).view(np.uint8).data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_HEADER:
        raise CheckpointError(
            f"the settings, history and extras take {len(text)} bytes of JSON; "
            f"a safetensors file holds at most {LARGEST_HEADER}"
        )
    first = len(text).to_bytes(8, "little") + text
    digest = _digest(first, *data)
    try:
        atomic_file.write(path, first[:START] + digest + first[END:], *data)
    except OSError as error:
        raise CheckpointError(f"saving {path}: {error.strerror or error}") from error


def read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays and the values of a file that `write` wrote.

    Raises:
        CheckpointCorruptError: the file is not, byte for byte, what `write` wrote.
        CheckpointError: it cannot be read.
    """
    try:
        content = _content(path)
        if content[START:END] != _digest(content):
            raise CheckpointCorruptError(f"{path} is damaged: its SHA-256 is not the one in its header")
        arrays = safetensors.numpy.load(content)
        texts = _header(content)["__metadata__"]
        return arrays, {name: json_values.loads(text) for name, text in texts.items() if name != "sha256"}
    except CheckpointError:  # a ValueError too
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointCorruptError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _content(path: Path) -> bytes:
    """Return the bytes of the file after a check of its size.

    Why the size is checked first: a wrong file may be larger than memory. The header read for it is not
    verified. The caller verifies the returned bytes and uses only these.
    """
    with open(path, "rb") as file:
        first = file.read(END)
        if first[8:START] != BEGINNING:
            raise CheckpointCorruptError(
                f"{path} is not a checkpoint of ffnn_gpu, or its beginning is damaged"
            )
        length, size = int.from_bytes(first[:8], "little"), os.fstat(file.fileno()).st_size
        if length > min(size, LARGEST_HEADER):
            raise CheckpointCorruptError(f"{path} is damaged: its header claims {length} bytes")
        file.seek(0)
        header = _header(file.read(8 + length))
        del header["__metadata__"]
        wanted = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if size != wanted:
            raise CheckpointCorruptError(f"{path} is damaged: it has {size} bytes instead of {wanted}")
        file.seek(0)
        return file.read(size)


def _header(content: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header


def _require_replaceable(path: Path) -> None:
    """Raise CheckpointError unless `path` is free, empty, or begins like a file that `write` wrote."""
    problem = "is not a checkpoint file of ffnn_gpu"
    try:
        if not path.exists():
            return
        if path.is_file():
            with open(path, "rb") as file:
                beginning = file.read(START)
            if not beginning or beginning[8:] == BEGINNING:
                return
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    raise CheckpointError(f"{path} exists and {problem}; it was not changed. Choose another name")


def _digest(first: bytes, *others: memoryview) -> bytes:
    """Return the digest of a file in pieces; `first` includes the place of the digest, hashed as zeros."""
    pieces: tuple[bytes | memoryview, ...] = (BLANK, memoryview(first)[END:], *others)
    sha256 = hashlib.sha256(first[:START])
    for piece in pieces:
        sha256.update(piece)
    return sha256.hexdigest().encode()


def _type_name(name: str, array: NDArray[Any]) -> str:
    kind = array.dtype.name.rstrip("0123456789")
    if kind == "bool":
        return "BOOL"
    if kind not in TYPES or array.itemsize > 8:
        raise CheckpointError(f"{name} has type {array.dtype}, which a safetensors file cannot hold")
    return f"{TYPES[kind]}{8 * array.itemsize}"
