"""What rank 0 does for all: claiming a folder, writing into it. The others hear how it goes.

Why a thread: the others hear every second that rank 0 still works, so that a large checkpoint on a slow disk is not taken
for a rank that hangs, and a rank 0 that is stopped meanwhile is.
"""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu import errors
from ffnn_gpu.distributed.communicator import Communicator

BUSY, DONE = range(2)
BEAT = 1.0  # seconds
Said = tuple[str, Any]


def from_first(communicator: Communicator, work: Callable[[], Any], limit: float = 600.0) -> Any:
    """What work() returns on rank 0, a text or None, on every rank. It begins when all are here.

    Raises:
        FfnnGpuError, OSError: the one that work() raised, the same on every rank. CheckpointError: it took more than `limit`
            seconds. Any other exception is rank 0's alone, and FfnnGpuError on the others.
    """
    if communicator.size == 1:
        return work()
    communicator.barrier()
    task = Task(work, limit) if communicator.rank == 0 else None
    state = np.array([BUSY], np.int64)
    while state[0] == BUSY:
        if task is not None:
            state[0] = task.state()
        communicator.broadcast(state)
    kind, said = json.loads(
        _broadcast(communicator, "" if task is None else json.dumps(task.said(), default=str))
    )
    if task is not None and task.error is not None:
        raise task.error
    if kind:
        raise _error(kind, said)
    return said


class Task:
    """work() in a thread of its own, and how it went."""

    def __init__(self, work: Callable[[], Any], limit: float) -> None:
        self._work, self._limit, self._began = work, limit, time.monotonic()
        self._found: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ffnn_gpu rank 0 for all", daemon=True)
        self._thread.start()

    def state(self) -> int:
        """BUSY after a second of waiting, DONE before."""
        self._thread.join(BEAT)
        if not self._thread.is_alive():
            return DONE
        if time.monotonic() - self._began < self._limit:
            return BUSY
        self.error = errors.CheckpointError(
            f"rank 0 was not done writing after {self._limit:g} s; checkpoint_limit of DataParallel allows a checkpoint more"
        )
        return DONE

    def said(self) -> Said:
        """What the others are told: ("", what work returned), or an error's kind and what it is made of."""
        error = self.error
        if error is None:
            return "", self._found
        if isinstance(error, OSError):
            names = (None if name is None else str(name) for name in (error.filename, None, error.filename2))
            return "OSError", [str(error)] if error.errno is None else [error.errno, error.strerror, *names]
        if isinstance(error, errors.FfnnGpuError):
            return type(error).__name__, [str(error)]
        return "FfnnGpuError", ["rank 0 failed in what it does for all; its own error says why"]

    def _run(self) -> None:
        try:
            self._found = self._work()
        except BaseException as error:  # raised again by the thread that trains
            self.error = self.error or error  # the others may know of a first one


def _error(kind: str, made_of: list[Any]) -> Exception:
    if kind == "OSError":
        return OSError(*made_of)
    return getattr(errors, kind, errors.FfnnGpuError)(*made_of)


def _broadcast(communicator: Communicator, text: str) -> str:
    """Rank 0's text, on every rank."""
    message = np.frombuffer(text.encode(), np.uint8).copy()
    length = np.array([len(message)], np.int64)
    communicator.broadcast(length)
    if communicator.rank:
        message = np.zeros(int(length[0]), np.uint8)
    communicator.broadcast(message)
    return message.tobytes().decode()
