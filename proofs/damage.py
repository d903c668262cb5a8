"""Flip every bit of a small checkpoint and cut it to every length: each must be refused with a sentence.

Reading other numbers without an error is the failure. A refusal is a CheckpointError that names the file.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import ffnn_gpu as nn
from ffnn_gpu.checkpoints import checkpoint
from ffnn_gpu.errors import CheckpointError
from proofs import Figure, Settings

PROMISE = "no silent corruption"


def prove(settings: Settings) -> list[Figure]:
    """Return one row for flips and one for cuts."""
    file = settings.scratch / "model.safetensors"
    checkpoint.write(
        nn.Network(3, [nn.Dense(2, nn.tanh)], "numpy"), file, {"extras": {}}, {"m": np.arange(3.0)}
    )
    whole, rows = file.read_bytes(), []
    for what, damaged in (("single bits flipped", flips), ("truncations", cuts)):
        settings.say(f"damage: {what} in {file.name}, {len(whole)} bytes")
        count, accepted = 0, []
        for where, content in damaged(whole):
            file.write_bytes(content)
            count += 1
            if not is_refused(file):
                accepted.append(where)
        figure = f"{count - len(accepted)} of {count} {what} refused with a sentence"
        rows.append(Figure(f"{PROMISE}: {what}", figure, not accepted, accepted))
    file.write_bytes(whole)
    checkpoint.read(file, "numpy")
    return rows


def flips(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (where, the file with one bit flipped) for every bit."""
    for i, byte in enumerate(whole):
        for bit in range(8):
            yield f"byte {i} bit {bit}", whole[:i] + bytes([byte ^ 1 << bit]) + whole[i + 1 :]


def cuts(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (where, the truncated file) for every length."""
    for length in range(len(whole)):
        yield f"{length} bytes of {len(whole)}", whole[:length]


def is_refused(file: Path) -> bool:
    """Return whether reading `file` raises an error that names it. Other exceptions pass through."""
    try:
        checkpoint.read(file, "numpy")
    except CheckpointError as error:
        return str(file) in str(error) and "\n" not in str(error)
    return False
