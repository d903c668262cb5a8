"""Signals that a test sends to its own process, and the end of their handlers."""

import signal
import threading

from ffnn_gpu.training.interrupt import Interrupt


def sender(monkeypatch):
    """Return a function that sends a signal to this process and returns when `Interrupt` has handled it.

    Why: Python runs handlers in the main thread, on a busy machine long after the signal was sent.
    """
    ended, receive = threading.Semaphore(0), Interrupt._receive

    def noted(self, number, frame):
        try:
            receive(self, number, frame)
        finally:
            ended.release()

    def send(number):
        # The system may give a signal to any thread. Here it is one that may not run Python's handlers.
        signal.pthread_kill(threading.get_ident(), number)
        assert ended.acquire(timeout=60), "the main thread did not handle the signal within 60 s"

    monkeypatch.setattr(Interrupt, "_receive", noted)
    return send
