"""Run work on rank 0 for all ranks, such as writing into a folder, and report the outcome to all.

Why a thread: rank 0 sends a message every second while it works. So the others do not take a large checkpoint
on a slow disk for a rank that hangs, and they notice when rank 0 really stops.
"""

import json
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ffnn_gpu import errors
from ffnn_gpu.distributed.communicator import Communicator
from ffnn_gpu.distributed.sharing import shared_text

BUSY, DONE = range(2)
BEAT = 1.0  # seconds
T = TypeVar("T", bound=str | None)


def on_rank_zero(communicator: Communicator, work: Callable[[], T], limit: float = 600.0) -> T:
    """Run work() on rank 0 once all ranks have arrived, and return its result (str or None) on every rank.

    Raises:
        FfnnGpuError, OSError: work() raised it; it is the same on every rank.
        CheckpointError: work() took more than `limit` seconds.

    Any other exception is raised on rank 0, and FfnnGpuError on the others.
    """
    if communicator.size == 1:
        return work()
    communicator.barrier()
    running = Work(work, limit) if communicator.rank == 0 else None
    state = np.array([BUSY], np.int64)
    while state[0] == BUSY:
        if running is not None:
            state[0] = running.state()
        communicator.broadcast(state)
    text = "" if running is None else json.dumps(running.outcome(), default=str)
    kind, content = json.loads(shared_text(communicator, text))
    if running is not None and running.error is not None:
        raise running.error
    if kind:
        raise (OSError if kind == "OSError" else getattr(errors, kind, errors.FfnnGpuError))(*content)
    result: T = content
    return result


class Work:
    """work() running in its own thread, and its outcome."""

    def __init__(self, work: Callable[[], str | None], limit: float) -> None:
        self._work, self._limit, self._began = work, limit, time.monotonic()
        self._result: str | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ffnn_gpu rank 0 for all", daemon=True)
        self._thread.start()

    def state(self) -> int:
        """Wait up to one second; return DONE if the work has ended or its limit is over, else BUSY."""
        self._thread.join(BEAT)
        if not self._thread.is_alive():
            return DONE
        if time.monotonic() - self._began < self._limit:
            return BUSY
        self.error = errors.CheckpointError(
            f"rank 0 was not done writing after {self._limit:g} s; raise checkpoint_limit of DataParallel"
        )
        return DONE

    def outcome(self) -> tuple[str, Any]:
        """Return ("", result of work), or (name, arguments) of an exception to raise on the other ranks."""
        error = self.error
        if error is None:
            return "", self._result
        if isinstance(error, OSError):
            names = (None if name is None else str(name) for name in (error.filename, None, error.filename2))
            return "OSError", [str(error)] if error.errno is None else [error.errno, error.strerror, *names]
        if isinstance(error, errors.FfnnGpuError):
            return type(error).__name__, [str(error)]
        return "FfnnGpuError", ["rank 0 failed in work for all ranks; its own error gives the reason"]

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:  # raised again by the main thread
            self.error = self.error or error  # the others may already have received the first one
