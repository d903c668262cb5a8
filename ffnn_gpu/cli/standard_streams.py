"""Standard input, output and error of a command: missing, closed by their reader, in any encoding.

Why missing files are opened: a file that is opened while number 2 is free gets that number, and a library
that prints an error then writes into it.
"""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from ffnn_gpu.errors import ConfigurationError

PLAIN = {"…": "...", "→": "->", "×": "x", "²": "^2"}  # what the command prints where an encoding lacks them
SPELLED = "ffnn_gpu.spelled"


def prepare() -> None:
    """Open the standard files that are missing; print characters that an encoding lacks as ASCII."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    codecs.register_error(SPELLED, _spelled)
    for stream in (sys.stdout, sys.stderr):
        _change(stream, errors=SPELLED)


@contextmanager
def standard_output() -> Iterator[TextIO]:
    """Yield standard output for a result. A reader that closes it early, as `| head` does, is no error."""
    try:
        yield _required_output()
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)


def require_output() -> None:
    """Raise ConfigurationError if there is no standard output, before work whose result goes there."""
    _required_output()


def finish(code: Any) -> Any:
    """Write what the streams still hold; return the exit code, 1 if standard output could not be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError) as error:
            failed = stream is sys.stdout and not isinstance(error, BrokenPipeError)
            code = code or int(failed)
            _discard(stream)
    return code


def _required_output() -> TextIO:
    if sys.stdout is None:
        raise ConfigurationError("standard output is closed, and the result is printed there; redirect it")
    return sys.stdout


def _change(stream: Any, **settings: str) -> None:
    if hasattr(stream, "reconfigure"):  # a stream that replaces the standard one may lack it
        stream.reconfigure(**settings)


def _discard(stream: TextIO) -> None:
    """Discard what the stream holds and whatever is written to it, which would fail again at the exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Replace the characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = (PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return "".join(plain), error.end
