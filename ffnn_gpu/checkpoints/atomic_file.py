"""One file that is always whole: the old bytes or the new ones, whenever the process is killed or the disk is full.

Written beside its place, flushed to the disk, then put over the old one in one step. A killed writer leaves its half under
the one name that the next writer takes.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Make `path` the file that holds `content`; nothing is written where it does already.

    Raises:
        OSError: it cannot be written; says what is there then.
    """
    path = Path(
        os.path.realpath(path)
    )  # where path is a link, the file it leads to is replaced, not the link
    half = half_of(path)
    with _said(path, "what was there before stays"):
        half.unlink(missing_ok=True)
        if path.is_file() and path.read_bytes() == content:
            return
        try:
            create(half, content)
            os.replace(half, path)
        except BaseException:
            half.unlink(missing_ok=True)
            raise
    with _said(path, "it is the new one, but the disk did not confirm it"):
        flush_folder(path.parent)


@contextmanager
def _said(path: Path, outcome: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror or error}; {outcome}", str(path)) from error


def half_of(path: Path) -> Path:
    """Where the bytes of `path` are written before they are put in its place."""
    return path.with_name(f".{path.name}.half")


def create(path: Path, content: bytes) -> None:
    """A new file, on the disk when this returns."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, most: int) -> bytes:
    """The bytes of a file, cut off after `most` + 1. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(min(os.fstat(file.fileno()).st_size, most) + 1)  # read() takes the memory it is told


def flush_folder(path: Path) -> None:
    """Put the names in a folder on the disk."""
    if sys.platform == "win32":
        return  # a folder cannot be opened there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
