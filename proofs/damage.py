"""Every bit of a small checkpoint flipped and every length it could be cut to: each is refused with a sentence.

Silently other numbers are what must never be; a refusal is a CheckpointError that names the folder.
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
    """One row for flips, one for cuts."""
    folder = settings.scratch / "model"
    checkpoint.write(
        nn.Network(3, [nn.Dense(2, nn.tanh)], "numpy"), folder, {"extras": {}}, {"m": np.arange(3.0)}
    )
    rows = []
    for what, damaged in (("single bits flipped", flips), ("truncations", cuts)):
        count, accepted = 0, []
        for file in sorted(folder.iterdir()):
            whole = file.read_bytes()
            settings.say(f"damage: {what} in {file.name}, {len(whole)} bytes")
            for where, content in damaged(whole):
                file.write_bytes(content)
                count += 1
                if not is_refused(folder):
                    accepted.append(f"{file.name}, {where}")
            file.write_bytes(whole)
        figure = f"{count - len(accepted)} of {count} {what} refused with a sentence"
        rows.append(Figure(f"{PROMISE}: {what}", figure, not accepted, accepted))
    checkpoint.read(folder, "numpy")
    return rows


def flips(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """(where, the file with one bit flipped), for every bit."""
    for i, byte in enumerate(whole):
        for bit in range(8):
            yield f"byte {i} bit {bit}", whole[:i] + bytes([byte ^ 1 << bit]) + whole[i + 1 :]


def cuts(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """(where, the file cut short), for every length."""
    for length in range(len(whole)):
        yield f"{length} bytes of {len(whole)}", whole[:length]


def is_refused(folder: Path) -> bool:
    """Whether reading `folder` ends in a sentence with the folder's name. Any other exception passes through."""
    try:
        checkpoint.read(folder, "numpy")
    except CheckpointError as error:
        return str(folder) in str(error) and "\n" not in str(error)
    return False
