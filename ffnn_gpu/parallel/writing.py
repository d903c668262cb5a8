"""A checkpoint that rank 0 writes while the other ranks wait.

Why a thread: the others hear every second that rank 0 still writes, so that a large checkpoint on a slow disk is not taken
for a rank that hangs, and a rank 0 that is stopped meanwhile is.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from ffnn_gpu.errors import CheckpointError

BUSY, WRITTEN, FAILED = range(3)
BEAT = 1.0  # seconds


class Writing:
    """write() in a thread of its own."""

    def __init__(self, write: Callable[[], None], backend: Any, limit: float) -> None:
        self._write, self._limit, self._began = write, limit, time.monotonic()
        self.error: BaseException | None = None
        backend.synchronize()                                                    # the thread knows nothing of our streams
        self._thread = threading.Thread(target=self._run, name="ffnn_gpu checkpoint", daemon=True)
        self._thread.start()

    def state(self) -> int:
        """BUSY after a second of waiting, WRITTEN or FAILED before."""
        self._thread.join(BEAT)
        if not self._thread.is_alive(): return WRITTEN if self.error is None else FAILED
        if time.monotonic() - self._began < self._limit: return BUSY
        self.error = CheckpointError(f"the checkpoint was not on the disk after {self._limit:g} s; checkpoint_limit of "
                                     "DataParallel allows more")  # fmt: skip
        return FAILED

    def _run(self) -> None:
        try:
            self._write()
        except BaseException as error:  # raised again by the thread that trains
            self.error = error
