"""Store Ctrl-C, SIGTERM and SIGHUP for the training loop to read, instead of an exception in a step."""

import signal
import threading
from types import FrameType
from typing import Any

from ffnn_gpu.training.data_parallel.team import SIGNALS as SIGNALS


class Interrupted(KeyboardInterrupt):
    """A signal came before there was any result.

    number: of the signal. what: what it ended, for the message.
    """

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"{signal.Signals(number).name} ended {what}")
        self.number = number


class Interrupt:
    """Context manager: store the first of SIGNALS in `signal`; raise KeyboardInterrupt at the second.

    An ignored signal, such as SIGHUP under nohup, stays ignored. Outside the main thread it does nothing,
    because Python delivers no signals there.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            # Why getsignal: None stands for a handler set in C, which Python could not restore, so it stays.
            unheard = (None, signal.SIG_IGN)
            ours = [number for number in SIGNALS if signal.getsignal(number) not in unheard]
            self._previous = {number: signal.signal(number, self._receive) for number in ours}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt(f"second {signal.Signals(number).name}")
        self.signal = number
