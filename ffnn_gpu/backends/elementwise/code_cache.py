"""Keep the machine code of compiled loops on disk: to load a loop takes 2 ms, to compile it 60 ms.

A file's name is a hash of whatever its code depends on: the expressions, this processor, the versions of
LLVM and Numba. cpu/loops/numba_cache deletes the files when a source of this package has changed. A file that
is damaged, or cannot be written, only costs the time to compile.

At most MOST files are kept, the most recently used ones. Why: each constant of a user's formula has a file of
its own, so a search over constants would fill the disk.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.registry import cpu_target

FOLDER = Path(__file__).with_name("__pycache__")
SUFFIX = ".nbl"  # numba_cache deletes *.nb?
CHECKSUM = 32  # bytes of a SHA-256
WORD = 8  # bytes of a length
MOST = 512  # files, each of 3 to 30 KiB


def name_of(text: str) -> str:
    """Return a name for the code of a loop with this text on this processor."""
    processor = cpu_target.target_context.codegen().magic_tuple()
    parts = repr((text, processor, llvmlite.__version__, numba.__version__))
    return "loop_" + hashlib.sha256(parts.encode()).hexdigest()[:40]


def load(name: str) -> Any:
    """Return the library of this name, or None if it is not on disk as it was written."""
    with suppress(OSError):
        path = FOLDER / (name + SUFFIX)
        content = path.read_bytes()
        checksum, body = content[:CHECKSUM], content[CHECKSUM:]
        with suppress(OSError):
            os.utime(path)  # used now
        if hashlib.sha256(body).digest() == checksum:
            length = int.from_bytes(body[:WORD], "little")
            code, shared = body[WORD : WORD + length], body[WORD + length :]
            return cpu_target.target_context.codegen().unserialize_library((name, "object", (code, shared)))
    return None


def save(name: str, library: Any) -> None:
    """Write the code of a library, which other processes may read at any time."""
    _, _, (code, shared) = library.serialize_using_object_code()
    body = len(code).to_bytes(WORD, "little") + code + shared
    temporary = FOLDER / f"{name}.{os.getpid()}"
    with suppress(OSError):
        FOLDER.mkdir(exist_ok=True)
        try:
            temporary.write_bytes(hashlib.sha256(body).digest() + body)
            temporary.replace(FOLDER / (name + SUFFIX))
        finally:
            temporary.unlink(missing_ok=True)
        _delete_oldest()


def _delete_oldest() -> None:
    """Delete the files that were used longest ago until MOST are left."""
    ages = []
    for path in FOLDER.glob("*" + SUFFIX):
        with suppress(OSError):  # another process has deleted it
            ages.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(ages)[: max(len(ages) - MOST, 0)]:
        path.unlink(missing_ok=True)
