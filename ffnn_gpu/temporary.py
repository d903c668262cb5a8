"""The files and folders that must not outlive this process, for whoever ends it before they are removed.

Why a list: a signal handler cannot raise an exception to run the usual `finally` blocks. DuckDB calls Python
from C++, where an exception that it does not expect aborts the process.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

Remove = Callable[[Path], None]


def delete(path: Path) -> None:
    """Delete a file or folder. What cannot be deleted stays."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


# → the process that made it, because a forked child must not remove it, and what removes it
_paths: dict[Path, tuple[int, Remove]] = {}


def half_of(path: Path) -> Path:
    """Return a new path for the unfinished content of a file: `.NAME.PID-RANDOM.half` in the same folder."""
    return path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.half")


def add(path: Path, by: Remove = delete) -> None:
    """Remember a file or folder that is about to be made, and what removes it."""
    _paths[path] = os.getpid(), by


def discard(path: Path) -> None:
    """Forget a file or folder that has been removed or is finished."""
    _paths.pop(path, None)


def remove(path: Path) -> None:
    """Remove a file or folder, if this process made it, and forget it."""
    process, by = _paths.pop(path, (None, delete))
    if process == os.getpid():
        by(path)


def remove_all() -> None:
    """Remove all that this process has made and not yet removed: a file before the folder around it."""
    for path in reversed([*_paths]):
        remove(path)
