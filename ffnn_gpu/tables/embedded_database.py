"""The embedded database (DuckDB) that holds the cells of tables: its connection, its literals, its folder."""

import os
import re
import secrets
import tempfile
import weakref
from pathlib import Path
from typing import Any

from ffnn_gpu import temporary
from ffnn_gpu.backends import cores
from ffnn_gpu.errors import ConfigurationError

MEMORY = 50  # percent of the memory of the machine or container; its ranks share it; more rows go to disk
OFFLINE = {
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
}


def connect(spill: Path | None = None) -> Any:
    """Open an empty database in memory. Raises ConfigurationError.

    It uses at most MEMORY of what the machine or the container has, the threads of FFNN_GPU_THREADS or all
    cores, and neither the network nor extensions. Ranks on one machine have equal shares of both.

    spill: the folder for rows that do not fit.
    """
    try:
        import duckdb
    except ImportError as error:
        raise ConfigurationError(
            f'reading tables needs DuckDB: pip install "ffnn_gpu[tables]" ({error})'
        ) from error
    ranks = cores.local_ranks()
    settings = {
        "temp_directory": "" if spill is None else str(spill),
        "memory_limit": f"{MEMORY / ranks:.4f}%",
        "threads": cores.threads_set() or max(1, cores.cores() // ranks),
    }
    return duckdb.connect(config=OFFLINE | settings)


def literal(text: str) -> str:
    """Return text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def path_literal(path: Path) -> str:
    """Return a path as a literal of SQL in which *, ? and [ name themselves and no address is meant."""
    return literal(re.sub(r"[*?[]", lambda sign: f"[{sign[0]}]", os.path.abspath(path)))


class Scratch:
    """A temporary folder, removed with this object or at the end of the process."""

    def __init__(self) -> None:
        self.path = Path(tempfile.gettempdir(), f"ffnn-gpu-{secrets.token_hex(8)}")
        temporary.add(self.path)
        self.path.mkdir(0o700)
        weakref.finalize(self, temporary.remove, self.path)

    def folder(self) -> Path:
        """Return a new folder in it."""
        return Path(tempfile.mkdtemp(dir=self.path))
