"""Keep machine code on disk: to load a function takes 2 ms, to compile it 10 to 300 ms.

A file's name is a hash of whatever its code depends on: the function or the expressions, the sources of this
package that are compiled or write code, this processor, and the version of LLVM. A file that is damaged, or
cannot be written, only costs the time to compile. Code is not kept if a source has changed since this process
has read it.

The folder is $NUMBA_CACHE_DIR if that is set. Else it is beside the sources, or the user's own folder for
caches if that one cannot be written.

Why not Numba's own cache: it numbers the files of one function. Two processes that compile it for different
types at the same time give both the same number, and every later process fails with a TypeError. It also
compares only one source file, but a compiled function contains functions of other files.

At most MOST files are kept, the most recently used ones. Why: each constant of a user's formula has a file of
its own, so a search over constants would fill the disk.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite

from ffnn_gpu.backends.elementwise import machine_code

SUFFIX = ".nbl"
PREFIX = "code_"
BACKENDS = Path(__file__).parents[1]
SOURCES = tuple(BACKENDS / room for room in ("elementwise", "cpu/loops", "cpu/recording", "reference"))
CHECKSUM = 32  # bytes of a SHA-256
MOST = 2048  # files, each of 3 to 60 KiB


def _folder() -> Path:
    """Return the folder of the cache."""
    chosen, beside = os.environ.get("NUMBA_CACHE_DIR"), Path(__file__).with_name("__pycache__")
    if chosen:
        return Path(chosen, "ffnn_gpu")
    if os.access(beside if beside.exists() else beside.parent, os.W_OK):
        return beside
    home = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "ffnn_gpu")


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for path in (source for folder in SOURCES for source in sorted(folder.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


FOLDER, DIGEST = _folder(), _digest_of_sources()


def name_of(text: str) -> str:
    """Return a name for the code that this text describes, on this processor."""
    parts = repr((text, machine_code.processor(), llvmlite.__version__, DIGEST))
    return PREFIX + hashlib.sha256(parts.encode()).hexdigest()[:40]


def load(name: str) -> bool:
    """Load the code of this name into the process. Return whether it is on disk as it was written."""
    with suppress(OSError, RuntimeError):  # the second one if LLVM cannot read it
        path = FOLDER / (name + SUFFIX)
        content = path.read_bytes()
        checksum, code = content[:CHECKSUM], content[CHECKSUM:]
        with suppress(OSError):
            os.utime(path)  # used now
        if hashlib.sha256(code).digest() == checksum:
            machine_code.load(name, code)
            return True
    return False


def compile(name: str, write: Callable[[Any], None]) -> None:
    """Load the code that write(module) writes, with a function of this name, and save it."""
    module = machine_code.new_module(name)
    write(module)
    code = machine_code.object_code(module)
    machine_code.load(name, code)
    _save(name, code)


def _save(name: str, code: bytes) -> None:
    """Write an object file, which other processes may read at any time."""
    if _digest_of_sources() != DIGEST:
        return
    temporary = FOLDER / f"{name}.{os.getpid()}"
    with suppress(OSError):
        FOLDER.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(hashlib.sha256(code).digest() + code)
            temporary.replace(FOLDER / (name + SUFFIX))
        finally:
            temporary.unlink(missing_ok=True)
        _delete_oldest()


def _delete_oldest() -> None:
    """Delete the files that were used longest ago until MOST are left; also those of writers that died."""
    ages = []
    for path in FOLDER.glob(PREFIX + "*"):
        with suppress(OSError):  # another process has deleted it
            ages.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(ages)[: max(len(ages) - MOST, 0)]:
        path.unlink(missing_ok=True)
