"""End a command on Ctrl-C, SIGTERM or SIGHUP by an exception, so that temporary folders are removed.

Why: by default SIGTERM and SIGHUP end a process at once, and what it has made stays. Why the number is kept
besides the exception: a library in C may raise its own error instead (DuckDB: "Query interrupted").
"""

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP


class Ended(BaseException):
    """Raised in the main thread by a signal; its argument is the number."""


class Signals:
    """Context manager: raise Ended at a signal, and keep the number of the first one in `received`.

    A signal that the caller of the command ignores, such as SIGHUP under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            ours = [n for n in SIGNALS if signal.getsignal(n) not in (None, signal.SIG_IGN)]
            self._previous = {number: signal.signal(number, self._receive) for number in ours}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        raise Ended(number)
