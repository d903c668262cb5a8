"""Remove temporary files when Ctrl-C, SIGTERM or SIGHUP ends a command.

By default the last two end a process at once, and what it has made stays. `fit` has handlers of its own,
which save a checkpoint first.
"""

import os
import signal
import threading
from types import FrameType
from typing import Any, NoReturn

from ffnn_gpu import temporary

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP


class Signals:
    """Context manager: a signal ends the process with 128 + its number, without its temporary files.

    A signal that the caller of the command ignores, such as SIGHUP under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            ours = [n for n in SIGNALS if signal.getsignal(n) not in (None, signal.SIG_IGN)]
            self._previous = {number: signal.signal(number, _end) for number in ours}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    temporary.remove_all()
    os._exit(128 + number)
