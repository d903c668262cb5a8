"""What rank 0 does for all: looking at a folder, claiming it, writing it. The others hear how it went."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu import errors
from ffnn_gpu.parallel.communicator import Communicator


def from_first(communicator: Communicator, work: Callable[[], Any]) -> Any:
    """What work() returns on rank 0, a text or None, on every rank.

    It begins when all are here, and both waits may take as long as the first call.

    Raises:
        FfnnGpuError: the one that work() raised, the same on every rank. Any other exception is rank 0's alone, as it is
            wherever one rank raises.
    """
    if communicator.size == 1: return work()
    communicator.barrier()
    said: tuple[str, Any] = "", None
    error: errors.FfnnGpuError | None = None
    if communicator.rank == 0:
        try:
            said = "", work()
        except errors.FfnnGpuError as raised:
            error, said = raised, (type(raised).__name__, str(raised))
    kind, text = json.loads(_broadcast(communicator, json.dumps(said)))
    if error is not None: raise error
    if kind: raise getattr(errors, kind, errors.FfnnGpuError)(text)
    return text


def _broadcast(communicator: Communicator, text: str) -> str:
    """Rank 0's text, on every rank. It comes when rank 0 has worked, however long that takes within the limit."""
    message = np.frombuffer(text.encode(), np.uint8).copy()
    length = np.array([len(message)], np.int64)
    communicator.unhurried()
    communicator.broadcast(length)
    if communicator.rank: message = np.zeros(int(length[0]), np.uint8)
    communicator.broadcast(message)
    return message.tobytes().decode()
