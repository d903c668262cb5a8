"""A folder of files that is always whole: the old one or the new one, whenever the process is killed.

Written beside its place under a name of its own, every file and the folder flushed to the disk, then exchanged with the old
folder in one step (renameat2 with RENAME_EXCHANGE on Linux). Where the system has no exchange, the old folder is moved
aside first; for the moment between the two renames `read` takes the one moved aside.
"""

import ctypes
import glob
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
    path = _resolved(path)
    if path.exists() and not _replaceable(path, files):
        raise CheckpointError(f"{path} exists and is not a checkpoint; it is left alone. Choose another name")
    scratch = path.parent / f".{path.name}.new-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
        for name, content in files.items():
            _write_file(scratch / name, content)
        _write_file(scratch / INDEX, _index(files, state))
        _flush_folder(scratch)
        replaced = _put_in_place(scratch, path)
        _flush_folder(path.parent)
        _keep_strangers(replaced, path)
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
    try:
        return _read_once(path)
    except CheckpointCorruptError:  # a writer may have exchanged the folder between two of the reads: look once more
        return _read_once(path)


def _read_once(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    folder = _existing(_resolved(path))
    raw = _read_file(folder / INDEX, LARGEST_INDEX)
    try:
        state = json.loads(raw)
        sums = state.pop("sha256")
        own = sums.pop(INDEX)
        if raw != _dump(state | {"sha256": sums | {INDEX: own}}) or own != _digest(_dump(state | {"sha256": sums})):
            raise ValueError("its checksum does not fit")
        sizes = {name: int(state["bytes"][name]) for name in sums if os.path.basename(name) == name}
        if len(sizes) < len(sums) or min(sizes.values(), default=0) < 0:
            raise ValueError("a file of it lies elsewhere, or is shorter than nothing")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointCorruptError(f"{folder / INDEX} is damaged: {error}") from error
    files = {}
    for name, digest in sums.items():
        files[name] = _read_file(folder / name, sizes[name])
        if _digest(files[name]) != digest:
            raise CheckpointCorruptError(f"{folder / name} is damaged: its sha256 is not the one in {INDEX}")
    return files, state


def exists(path: Path) -> bool:
    """Whether there is a checkpoint to read."""
    path = _resolved(path)
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
    if not path.is_file():
        raise CheckpointCorruptError(f"{path} is missing, or is no file")
    try:
        with open(path, "rb") as file:
            content = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)  # read() takes the memory it is told
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


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))  # where path is a link, the folder it leads to is replaced, not the link


def _replaceable(path: Path, files: Mapping[str, bytes]) -> bool:
    """Whether the folder `path` is empty, a checkpoint, or what is left of a damaged one."""
    if not path.is_dir(): return False
    present, own = set(os.listdir(path)), _own_names(path)
    return INDEX in own or not present or {INDEX} < present <= {INDEX, *files}


def _own_names(folder: Path) -> set[str]:
    """The files that belong to the checkpoint in `folder`; none if it is not one."""
    try:
        return set(json.loads(_read_file(folder / INDEX, LARGEST_INDEX))["sha256"])
    except (CheckpointCorruptError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _keep_strangers(replaced: Path | None, path: Path) -> None:
    """Move what somebody else put into the folder that was replaced (notes, a .DS_Store) into the new one."""
    own = _own_names(replaced) if replaced else set()
    if replaced and INDEX in own:
        for name in set(os.listdir(replaced)) - own - set(os.listdir(path)):
            os.rename(replaced / name, path / name)


def _put_in_place(scratch: Path, path: Path) -> Path | None:
    """Make `scratch` the folder `path`. Returns where the folder it replaces is now."""
    if not path.exists():
        os.rename(scratch, path)
        return None
    if _exchange(scratch, path):
        return scratch
    aside = path.parent / f".{path.name}.old-{os.getpid()}-{secrets.token_hex(4)}"
    os.rename(path, aside)
    os.rename(scratch, path)
    return aside


def _exchange(a: Path, b: Path) -> bool:
    """Swap two folders in one step; False where the system or the file system cannot."""
    if not sys.platform.startswith("linux"): return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None: return False
    return renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE) == 0


def _moved_aside(path: Path) -> list[Path]:
    return [old for old in _beside(path, "old") if (old / INDEX).is_file()]


def _beside(path: Path, kind: str) -> list[Path]:
    return sorted(path.parent.glob(f".{glob.escape(path.name)}.{kind}-*-*"))


def _existing(path: Path) -> Path:
    if (path / INDEX).is_file():
        return path
    aside = _moved_aside(path)
    if not aside:
        inside = sorted(entry.parent.name for entry in path.glob(f"*/{INDEX}") if not entry.parent.name.startswith("."))
        among = f"; it holds {' and '.join(inside)}, which are" * bool(inside)
        raise CheckpointError(f"{path} is not a checkpoint: it has no {INDEX}{among}")
    return aside[0]


def _sweep(path: Path) -> None:
    """Remove what killed writers left beside `path`; a folder moved aside only once `path` is whole again."""
    for stray in [*_beside(path, "new"), *_beside(path, "old")]:
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
