"""The first signal is stored, the second raises, and the old handlers are restored."""

import os
import signal
import threading

import pytest

from ffnn_gpu.training.interrupt import SIGNALS, Interrupt


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


def kill_twice(number):
    with Interrupt() as interrupt:
        assert interrupt.signal is None
        os.kill(os.getpid(), number)
        assert interrupt.signal == number
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_is_stored_and_the_second_raises(number):
    before = handlers()
    with pytest.raises(KeyboardInterrupt, match="second"):
        kill_twice(number)
    assert handlers() == before


def test_signal_handlers_are_replaced_inside_and_restored_after_an_exception():
    before, inside = handlers(), []
    with pytest.raises(ZeroDivisionError), Interrupt():
        inside.append(handlers()) or 1 / 0
    assert inside != [before] and handlers() == before


def test_interrupt_does_nothing_outside_the_main_thread():
    found = []

    def enter():
        with Interrupt() as interrupt:
            found.append((interrupt.signal, handlers()))

    before = handlers()
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(None, before)]


def test_interrupts_nest():
    before = handlers()
    with Interrupt() as outer:
        with Interrupt() as inner:
            os.kill(os.getpid(), signal.SIGINT)
        assert (outer.signal, inner.signal) == (None, signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert outer.signal == signal.SIGTERM and handlers() == before


def test_handler_that_was_set_in_c_is_not_replaced(monkeypatch):
    before, seen = handlers(), []
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGTERM else before[0])
    monkeypatch.setattr(signal, "signal", lambda number, handler: seen.append(number))
    with Interrupt():
        pass
    assert seen == 2 * [number for number in SIGNALS if number != signal.SIGTERM]


def test_ignored_signal_stays_ignored():
    before = signal.signal(SIGNALS[-1], signal.SIG_IGN)
    try:
        with Interrupt():
            assert signal.getsignal(SIGNALS[-1]) == signal.SIG_IGN != signal.getsignal(SIGNALS[0])
    finally:
        signal.signal(SIGNALS[-1], before)
