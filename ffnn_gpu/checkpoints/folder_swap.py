"""One folder in place of another, and what killed processes left beside it.

    .NAME.new-PID-…        being written; after an exchange, the folder that was replaced
    .NAME.old-PID-N.…      moved aside, where the system has no exchange; the highest N is the newest

On Linux the two are exchanged in one step (renameat2 with RENAME_EXCHANGE). Elsewhere the old folder is moved aside first;
from then until the new one is in place, the newest one aside is the folder. Two can be there only if a writer was killed and
its number is another process's by now. The files that somebody else put into a folder (notes, a .DS_Store) are moved to the
new one before it is removed.
"""

import ctypes
import glob
import json
import os
import secrets
import shutil
import sys
from pathlib import Path

from ffnn_gpu.checkpoints import atomic_file

INDEX = "state.json"  # written last; a folder that has it is whole
LARGEST_INDEX = 256 * 2**20  # bytes; a longer one is damaged
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def scratch_beside(path: Path) -> Path:
    """A name for the folder that shall replace `path`."""
    return path.parent / f".{path.name}.new-{os.getpid()}-{secrets.token_hex(4)}"


def put_in_place(scratch: Path, path: Path) -> None:
    """Make `scratch` the folder `path`; what was there lies beside it then. Raises OSError, and path is as before."""
    if not path.exists():
        os.rename(scratch, path)
    elif not _exchange(scratch, path):
        number = 1 + max(map(_number, _beside(path, "old")), default=0)
        aside = path.parent / f".{path.name}.old-{os.getpid()}-{number}.{secrets.token_hex(4)}"
        os.rename(path, aside)
        try:
            os.rename(scratch, path)
        except OSError:
            os.rename(aside, path)
            raise


def moved_aside(path: Path) -> Path | None:
    """The newest folder that was moved aside and is whole."""
    return max((old for old in _beside(path, "old") if (old / INDEX).is_file()), key=_number, default=None)


def sweep(path: Path) -> list[str]:
    """Remove what killed writers and this one left beside `path`; a folder moved aside only while `path` is whole.

    Returns:
        One sentence for each folder that must stay, because files of somebody else in it could not be moved to `path`.
    """
    troubles, older = [], _beside(path, "old") if (path / INDEX).is_file() else []
    for stray in filter(_is_abandoned, [*_beside(path, "new"), *older]):
        try:
            _move_strangers(stray, path)
            shutil.rmtree(stray, ignore_errors=True)
        except OSError as error:
            troubles.append(f"files in {stray} could not be moved to {path}: {error.strerror or error}")
    return troubles


def own_names(folder: Path) -> set[str]:
    """The files that belong to the checkpoint in `folder`; none if it is not one. Raises OSError if it cannot be told."""
    if not (folder / INDEX).is_file():
        return set()
    content = atomic_file.read(folder / INDEX, LARGEST_INDEX)
    try:
        return set(json.loads(content)["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()


def _move_strangers(stray: Path, path: Path) -> None:
    own = own_names(stray)
    for name in sorted(set(os.listdir(stray)) - own) if INDEX in own else []:
        taken = os.path.lexists(path / name)
        os.rename(stray / name, path / (f"{name}.{secrets.token_hex(4)}" if taken else name))


def _exchange(a: Path, b: Path) -> bool:
    """Swap two folders in one step; False where the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE) == 0


def _beside(path: Path, kind: str) -> list[Path]:
    return sorted(path.parent.glob(f".{glob.escape(path.name)}.{kind}-*-*"))


def _number(aside: Path) -> int:
    """N in the name; 0 where an earlier version of this package gave it."""
    number, point, _ = aside.name.rsplit("-", 1)[1].partition(".")
    return int(number) if point and number.isdecimal() else 0


def _is_abandoned(stray: Path) -> bool:
    """Whether this process made it, or one that has ended."""
    pid = stray.name.rsplit("-", 2)[1]
    if pid == str(os.getpid()):
        return True
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return True
    except OSError:
        return False
    return False
