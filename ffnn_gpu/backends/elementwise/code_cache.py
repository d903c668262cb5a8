"""Keep machine code on disk: to load a function takes 2 ms, to compile it 15 to 600 ms.

A file's name is a hash of whatever its code depends on: the function or the expressions, the sources of this
package that are compiled or write code, this processor, the versions and settings of LLVM and Numba. A file
that is damaged, or cannot be written, only costs the time to compile. Code is not kept if a source has
changed since this process has read it.

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
import numba
from numba.core import config
from numba.core.registry import cpu_target

SUFFIX = ".nbl"
PREFIX = "code_"
BACKENDS = Path(__file__).parents[1]
SOURCES = tuple(BACKENDS / room for room in ("elementwise", "cpu/loops", "cpu/recording", "reference"))
CHECKSUM = 32  # bytes of a SHA-256
WORD = 8  # bytes of a length
MOST = 2048  # files, each of 3 to 60 KiB
# Settings of Numba
SETTINGS = "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "USING_SVML"


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
    processor = cpu_target.target_context.codegen().magic_tuple()
    settings = [str(getattr(config, name, None)) for name in SETTINGS]
    parts = repr((text, processor, llvmlite.__version__, numba.__version__, settings, DIGEST))
    return PREFIX + hashlib.sha256(parts.encode()).hexdigest()[:40]


def load(name: str) -> tuple[Any, str] | None:
    """Return the library of this name and its symbol, or None if it is not on disk as it was written."""
    with suppress(OSError, RuntimeError):  # the second one if LLVM cannot read it
        path = FOLDER / (name + SUFFIX)
        content = path.read_bytes()
        checksum, body = content[:CHECKSUM], content[CHECKSUM:]
        with suppress(OSError):
            os.utime(path)  # used now
        if hashlib.sha256(body).digest() == checksum:
            symbol, body = _first(body)
            code, shared = _first(body)
            library = cpu_target.target_context.codegen().unserialize_library(
                (name, "object", (code, shared))
            )
            return library, symbol.decode()
    return None


def compiled(name: str, write: Callable[[Any], None]) -> Any:
    """Return the library of the code that write(module) writes, with a function of this name; save it."""
    library = cpu_target.target_context.codegen().create_library(name)
    library.enable_object_caching()
    module = library.create_ir_module(name)
    write(module)
    library.add_ir_module(module)
    library.finalize()
    library.get_pointer_to_function(name)  # makes the object code
    save(name, library, name)
    return library


def _first(body: bytes) -> tuple[bytes, bytes]:
    """Return the first part of a file's content, and the rest."""
    end = WORD + int.from_bytes(body[:WORD], "little")
    return body[WORD:end], body[end:]


def save(name: str, library: Any, symbol: str) -> None:
    """Write the code of a library, which other processes may read at any time.

    symbol: the name by which the library is asked for its function.
    """
    _, _, (code, shared) = library.serialize_using_object_code()
    if _digest_of_sources() != DIGEST:
        return
    body = b"".join(
        (*(len(part).to_bytes(WORD, "little") + part for part in (symbol.encode(), code)), shared)
    )
    temporary = FOLDER / f"{name}.{os.getpid()}"
    with suppress(OSError):
        FOLDER.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(hashlib.sha256(body).digest() + body)
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
