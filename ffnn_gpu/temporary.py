"""The files and folders that must not outlive this process, for whoever ends it before they are removed.

Why a list: a signal handler cannot raise an exception to run the usual `finally` blocks. DuckDB calls Python
from C++, where an exception that it does not expect aborts the process.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

_paths: dict[Path, int] = {}  # → the process that made it: a forked child must not remove it


def add(path: Path) -> None:
    """Remember a file or folder that is about to be made."""
    _paths[path] = os.getpid()


def discard(path: Path) -> None:
    """Forget a file or folder that has been removed or is finished."""
    _paths.pop(path, None)


def remove(path: Path) -> None:
    """Remove a file or folder, if this process made it, and forget it. What cannot be removed stays."""
    if _paths.pop(path, None) != os.getpid():
        return
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


def remove_all() -> None:
    """Remove everything that this process has made and not yet removed."""
    for path in [*_paths]:
        remove(path)
