"""A line to standard error ends no work: the stream may be missing, closed, broken or narrow."""

import io
import os
import sys

import numpy as np
import pytest

from ffnn_gpu import Dense, Network, fit
from ffnn_gpu.standard_error import is_terminal, write_line


class Bare:
    """A stream with nothing but `write`."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


def broken():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", buffering=1)


@pytest.mark.parametrize("make", [lambda: None, Bare, closed, object])
def test_missing_or_closed_standard_error_is_no_terminal_and_no_error(monkeypatch, make):
    stream = make()
    monkeypatch.setattr(sys, "stderr", stream)
    write_line("words")
    assert is_terminal() is False and getattr(stream, "text", "words\n") == "words\n"


def test_missing_standard_error_does_not_move_the_line_to_standard_output(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    write_line("words")
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_broken_pipe_is_no_error(monkeypatch):
    stream = broken()
    monkeypatch.setattr(sys, "stderr", stream)
    write_line("words")
    write_line("more words")
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    stream.close()


def test_characters_that_the_encoding_lacks_are_escaped(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    write_line("é → \udcff")
    assert stream.buffer.getvalue() == b"\\xe9 \\u2192 \\udcff\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("make", [lambda: None, Bare, closed, object, broken])
def test_fit_trains_without_a_usable_standard_error(monkeypatch, make):
    stream, network = make(), Network(2, [Dense(2)], "numpy")
    monkeypatch.setattr(sys, "stderr", stream)
    x, y = np.eye(2), np.arange(2)
    assert len(fit(network, "softmax_cross_entropy", "adam", (x, y), epochs=3, verbose=1)) == 3
    if make is broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
