"""A folder of files that is always whole: the old one or the new one, whenever the process is killed.

Written beside its place under a name of its own, every file and the folder flushed to the disk, then exchanged with the old
folder in one step (renameat2 with RENAME_EXCHANGE on Linux). Where the system has no exchange, the old folder is moved
aside first; for the moment between the two renames `read` takes the one moved aside.
"""

import ctypes
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffnn_gpu.errors import CheckpointCorruptError, CheckpointError

INDEX = "state.json"
LARGEST_INDEX = 256 * 2**20  # bytes; a longer one is damaged
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def write(path: Path, files: Mapping[str, bytes], state: Mapping[str, Any]) -> None:
    """Make `path` a folder of `files` and state.json, which holds `state` and the sha256 of everything, itself included.

    Raises:
        CheckpointError: path is something else than such a folder, or cannot be written; it is as before then.
    """
    if path.exists() and not (path / INDEX).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise CheckpointError(f"{path} exists and is not a checkpoint; it is left alone. Choose another name")
    scratch = path.parent / f".{path.name}.new-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
        for name, content in files.items():
            _write_file(scratch / name, content)
        _write_file(scratch / INDEX, _index(files, state))
        _flush_folder(scratch)
        _put_in_place(scratch, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}; what was there before stays") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        _sweep(path)


def read(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files and the state `write` put there, verified byte by byte.

    Raises:
        CheckpointError: there is no checkpoint. CheckpointCorruptError: it is not what was written.
    """
    folder = _existing(path)
    raw = _read_file(folder / INDEX, LARGEST_INDEX)
    try:
        state = json.loads(raw)
        sums = state.pop("sha256")
        own = sums.pop(INDEX)
        if raw != _dump(state | {"sha256": sums | {INDEX: own}}) or own != _digest(_dump(state | {"sha256": sums})):
            raise ValueError("its checksum does not fit")
        sizes = state["bytes"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointCorruptError(f"{folder / INDEX} is damaged: {error}") from error
    files = {}
    for name, digest in sums.items():
        files[name] = _read_file(folder / name, sizes[name])
        if _digest(files[name]) != digest:
            raise CheckpointCorruptError(f"{folder / name} is damaged: its sha256 is not the one in {INDEX}")
    return files, state


def exists(path: Path) -> bool:
    """Whether there is a checkpoint to read."""
    return (path / INDEX).is_file() or bool(_moved_aside(path))


def _index(files: Mapping[str, bytes], state: Mapping[str, Any]) -> bytes:
    sums = {name: _digest(content) for name, content in files.items()}
    whole = {**state, "bytes": {name: len(content) for name, content in files.items()}, "sha256": sums}
    return _dump({**whole, "sha256": sums | {INDEX: _digest(_dump(whole))}})


def _dump(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_file(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read_file(path: Path, most: int) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise CheckpointCorruptError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) > most:
        raise CheckpointCorruptError(f"{path} is longer than the {most} bytes it should have at most")
    return content


def _flush_folder(path: Path) -> None:
    if sys.platform == "win32": return  # a folder cannot be opened there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put_in_place(scratch: Path, path: Path) -> None:
    if not path.exists():
        os.rename(scratch, path)
    elif not _exchange(scratch, path):
        os.rename(path, path.parent / f".{path.name}.old-{os.getpid()}-{secrets.token_hex(4)}")
        os.rename(scratch, path)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two folders in one step; False where the system or the file system cannot."""
    if not sys.platform.startswith("linux"): return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None: return False
    return renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE) == 0


def _moved_aside(path: Path) -> list[Path]:
    return [old for old in path.parent.glob(f".{path.name}.old-*") if (old / INDEX).is_file()]


def _existing(path: Path) -> Path:
    if (path / INDEX).is_file():
        return path
    aside = _moved_aside(path)
    if not aside:
        raise CheckpointError(f"{path} is not a checkpoint: it has no {INDEX}")
    return aside[0]


def _sweep(path: Path) -> None:
    """Remove what killed writers left beside `path`; a folder moved aside only once `path` is whole again."""
    for stray in [*path.parent.glob(f".{path.name}.new-*"), *path.parent.glob(f".{path.name}.old-*")]:
        pid = stray.name.split("-")[-2]
        if (path / INDEX).is_file() and (pid == str(os.getpid()) or not _alive(pid)):
            shutil.rmtree(stray, ignore_errors=True)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:
        return True
    return True
