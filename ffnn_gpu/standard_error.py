"""Standard error, which may be missing, closed, or a pipe whose reader has gone: a line ends no work.

`sys.stderr` is None without a console (pythonw, frozen programs) and if a shell closes it by `2>&-`.
"""

import sys
from contextlib import suppress


def write_line(line: str) -> None:
    """Write one line to standard error at once, in one call; do nothing if it cannot be written."""
    stream = sys.stderr
    with suppress(AttributeError, OSError, ValueError):  # None or no flush; a broken pipe; closed
        try:
            stream.write(f"{line}\n")
        except UnicodeEncodeError:
            stream.write(line.encode("ascii", "backslashreplace").decode() + "\n")
        stream.flush()


def is_terminal() -> bool:
    """Return whether standard error is a terminal."""
    with suppress(AttributeError, OSError, ValueError):
        return sys.stderr.isatty()
    return False
