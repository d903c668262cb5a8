"""Send texts and host arrays of rank 0 to all ranks."""

import json

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.distributed.communicator import Communicator

PIECE = 1 << 28  # bytes of one call: MPI counts the elements of a call by 32 bits


def shared_text(communicator: Communicator, text: str) -> str:
    """Return rank 0's text on every rank."""
    message = np.frombuffer(text.encode(), np.uint8).copy()
    length = np.array([len(message)], np.int64)
    communicator.broadcast(length)
    if communicator.rank:
        message = np.zeros(int(length[0]), np.uint8)
    communicator.broadcast(message)
    return message.tobytes().decode()


def shared_array(
    communicator: Communicator, array: HostArray | None, out: HostArray | None = None
) -> HostArray:
    """Return rank 0's array on every rank.

    Args:
        array: of numbers or texts; only rank 0 gives it.
        out: where another rank stores it, such as a file that is mapped; None for a new array.
    """
    described = "" if array is None else json.dumps([array.dtype.str, array.shape])
    kind, shape = json.loads(shared_text(communicator, described))
    if communicator.rank == 0:
        whole = np.ascontiguousarray(array)
    else:
        whole = np.empty(shape, kind) if out is None else out
    if whole.nbytes:
        content = whole.reshape(-1).view(np.uint8)
        for start in range(0, len(content), PIECE):
            piece = content[start : start + PIECE]  # MPI takes no buffer that cannot be written
            communicator.broadcast(piece if piece.flags.writeable else piece.copy())
    return whole
