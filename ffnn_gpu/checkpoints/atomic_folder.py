"""A folder of files that is always whole: the old one or the new one, whenever the process is killed.

Written beside its place under a name of its own, every file and the folder flushed to the disk, then put in its place as
`folder_swap` says.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ffnn_gpu.checkpoints import atomic_file, folder_swap
from ffnn_gpu.checkpoints.folder_swap import INDEX, LARGEST_INDEX
from ffnn_gpu.errors import CheckpointCorruptError, CheckpointError


def write(path: Path, files: Mapping[str, bytes], state: Mapping[str, Any]) -> None:
    """Make `path` a folder of `files` and state.json, which holds `state` and the sha256 of everything, itself included.

    What somebody else put into the folder stays there.

    Raises:
        CheckpointError: path is something else than such a folder, or cannot be written; says what is there then.
    """
    path = _resolved(path)
    unchanged = partial(_said, f"cannot write {path}", "what was there before stays")
    with unchanged():
        if path.exists() and not _replaceable(path, files):
            raise CheckpointError(
                f"{path} exists and is not a checkpoint; it is left alone. Choose another name"
            )
    try:
        with unchanged():
            path.parent.mkdir(parents=True, exist_ok=True)
            folder_swap.sweep(
                path
            )  # first, so that a program that is killed again and again does not fill the disk
            folder_swap.put_in_place(_scratch(path, files, state), path)
        with _said(
            f"{path} is the new checkpoint", "the disk did not confirm it and may lose it if the power fails"
        ):
            atomic_file.flush_folder(path.parent)
    finally:
        troubles = folder_swap.sweep(path)
    if troubles:
        raise CheckpointError(f"{path} is the new checkpoint; {'; '.join(troubles)}. Move them yourself")


@contextmanager
def _said(what: str, outcome: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{what}: {error.strerror or error}; {outcome}") from error


def _scratch(path: Path, files: Mapping[str, bytes], state: Mapping[str, Any]) -> Path:
    """The folder that shall replace `path`, on the disk."""
    scratch = folder_swap.scratch_beside(path)
    scratch.mkdir()
    for name, content in files.items():
        atomic_file.create(scratch / name, content)
    atomic_file.create(scratch / INDEX, _index(files, state))
    atomic_file.flush_folder(scratch)
    return scratch


def read(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files and the state `write` put there, verified byte by byte.

    Raises:
        CheckpointError: there is no checkpoint. CheckpointCorruptError: it is not what was written.
    """
    try:
        return _read_once(path)
    except (
        CheckpointCorruptError
    ):  # a writer may have exchanged the folder between two of the reads: look once more
        return _read_once(path)


def _read_once(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    folder = _existing(_resolved(path))
    raw = _read_file(folder / INDEX, LARGEST_INDEX)
    try:
        state = json.loads(raw)
        sums = state.pop("sha256")
        own = sums.pop(INDEX)
        if raw != _dump(state | {"sha256": sums | {INDEX: own}}) or own != _digest(
            _dump(state | {"sha256": sums})
        ):
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
    return (path / INDEX).is_file() or folder_swap.moved_aside(path) is not None


def _index(files: Mapping[str, bytes], state: Mapping[str, Any]) -> bytes:
    sums = {name: _digest(content) for name, content in files.items()}
    whole = {**state, "bytes": {name: len(content) for name, content in files.items()}, "sha256": sums}
    return _dump({**whole, "sha256": sums | {INDEX: _digest(_dump(whole))}})


def _dump(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_file(path: Path, most: int) -> bytes:
    if not path.is_file():
        raise CheckpointCorruptError(f"{path} is missing, or is no file")
    try:
        content = atomic_file.read(path, most)
    except OSError as error:
        raise CheckpointCorruptError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) > most:
        raise CheckpointCorruptError(f"{path} is longer than the {most} bytes it should have at most")
    return content


def _resolved(path: Path) -> Path:
    return Path(
        os.path.realpath(path)
    )  # where path is a link, the folder it leads to is replaced, not the link


def _replaceable(path: Path, files: Mapping[str, bytes]) -> bool:
    """Whether the folder `path` is empty, a checkpoint, or what is left of a damaged one."""
    if not path.is_dir():
        return False
    present, own = set(os.listdir(path)), folder_swap.own_names(path)
    return INDEX in own or not present or {INDEX} < present <= {INDEX, *files}


def _existing(path: Path) -> Path:
    if (path / INDEX).is_file():
        return path
    aside = folder_swap.moved_aside(path)
    if aside is None:
        inside = sorted(
            entry.parent.name for entry in path.glob(f"*/{INDEX}") if not entry.parent.name.startswith(".")
        )
        among = f"; it holds {' and '.join(inside)}, which are" * bool(inside)
        raise CheckpointError(f"{path} is not a checkpoint: it has no {INDEX}{among}")
    return aside
