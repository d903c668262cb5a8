"""Replace one file in one step: after a kill or on a full disk it holds the old bytes or the new ones.

The new bytes go to a temporary file in the same folder, are flushed to the disk, and take the place of the
old file. The temporary file is called `.NAME.PID-RANDOM.half`. So two processes that write the same file
never share a temporary file. Each writer removes the temporary files of processes that have ended, except on
Windows, where it cannot tell whether another process has ended.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ffnn_gpu import temporary


def write(path: Path, *pieces: bytes | memoryview) -> None:
    """Make `path` the file that holds `pieces`, one after the other; write nothing if it holds them already.

    Missing folders are created. If `path` is a link, the file it leads to is replaced.

    Raises:
        OSError: the message says whether the file was replaced.
    """
    path = Path(os.path.realpath(path))
    half = temporary.half_of(path)
    with _adding(path, "the file was not changed"):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        unchanged = _holds(path, pieces)
        if not unchanged:
            _replace(path, half, pieces)
    # Why even if nothing was written: an earlier writer may have been killed before it flushed the folder.
    state = "holds these bytes already" if unchanged else "was replaced"
    with _adding(path, f"the file {state}, but the disk has not confirmed it"):
        _flush_folder(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a new file to write, which takes the place of `path` unless an exception is raised.

    Missing folders are created. A `path` that is a pipe or a device is yielded itself.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    half = temporary.half_of(path)
    with _removed_on_failure(half):
        yield half
        with open(half, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(half, path)
    _flush_folder(path.parent)


def _replace(path: Path, half: Path, pieces: tuple[bytes | memoryview, ...]) -> None:
    with _removed_on_failure(half):
        with open(half, "xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, path)


@contextmanager
def _removed_on_failure(half: Path) -> Iterator[None]:
    """Remove a temporary file at an exception, or when a signal ends the command."""
    temporary.add(half)
    try:
        yield
    except BaseException:
        half.unlink(missing_ok=True)
        raise
    finally:
        temporary.discard(half)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` whose writers have ended, where the folder allows it."""
    with suppress(OSError):
        for left in leftovers(Path(os.path.realpath(path))):
            with suppress(OSError):
                left.unlink()


def leftovers(path: Path) -> list[Path]:
    """Return the temporary files of `path` whose writers have ended."""
    return _of_ended_writers(path.parent, re.escape(path.name))


def sweep(*folders: Path) -> None:
    """Remove the temporary files of every file in these folders whose writers have ended."""
    for folder in folders:
        with suppress(OSError):
            for left in _of_ended_writers(folder, ".+"):
                with suppress(OSError):
                    left.unlink()


def _of_ended_writers(folder: Path, name: str) -> list[Path]:
    """Return the temporary files of the files whose names match, as far as their writers have ended."""
    half = re.compile(rf"\.{name}\.(\d+)-[0-9a-f]{{8}}\.half", re.DOTALL)
    named = ((entry, half.fullmatch(entry.name)) for entry in folder.iterdir())
    return [entry for entry, match in named if match and _has_ended(int(match[1]))]


def _has_ended(pid: int) -> bool:
    """Return whether the process `pid` has ended. If `pid` is our own number, an earlier process had it."""
    if pid == os.getpid():
        return True
    if sys.platform == "win32":
        return False  # os.kill(pid, 0) sends Ctrl-C there
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError) as error:
        return isinstance(error, ProcessLookupError)
    return False


def _holds(path: Path, pieces: tuple[bytes | memoryview, ...]) -> bool:
    if not path.is_file() or path.stat().st_size != sum(map(len, pieces)):
        return False
    with open(path, "rb") as file:
        return all(file.read(len(piece)) == piece for piece in pieces)


@contextmanager
def _adding(path: Path, outcome: str) -> Iterator[None]:
    """Add the path and the outcome to an OSError."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror or error}; {outcome}", str(path)) from error


def _flush_folder(path: Path) -> None:
    """Write the names in a folder to the disk."""
    if sys.platform == "win32":
        return  # a folder cannot be opened there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
