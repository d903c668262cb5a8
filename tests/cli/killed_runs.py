"""What killed runs leave in a run folder."""

import subprocess
import sys
from pathlib import Path


def files_of(folder: Path) -> set[Path]:
    """Return all files in a folder and in the folders below."""
    return {path for path in folder.rglob("*") if path.is_file()}


def leave_halves(folder: Path) -> set[Path]:
    """Write a temporary file of an ended process beside each file; return the files before."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(60)
    before = files_of(folder)
    for path in before:
        path.with_name(f".{path.name}.{child.pid}-0123abcd.half").write_bytes(b"of a killed run")
    return before
