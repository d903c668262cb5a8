"""Delete the machine code that Numba has cached on disk if any of its sources has changed.

Why: Numba compares only the file of the function that it is asked for. Here a compiled function also contains
functions of other files: loops in recorded steps, and constants and formulas of the reference backend in
loops. The package `loops` imports this file first, so that no outdated code is loaded.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

CPU = Path(__file__).parents[1]
FOLDERS = (CPU / "loops", CPU / "recording", CPU.parent / "elementwise")
REFERENCE = CPU.parent / "reference"
ALSO = tuple(REFERENCE / f"{name}.py" for name in ("step_control", "updates", "philox"))


def delete_outdated() -> None:
    """Delete Numba's cached code if any source file has changed.

    A read-only folder is skipped: it was installed as one version.
    """
    digest = hashlib.sha256()
    for path in (*(source for folder in FOLDERS for source in sorted(folder.glob("*.py"))), *ALSO):
        digest.update(path.read_bytes())
    stamp = FOLDERS[0] / "__pycache__" / "sources.sha256"
    with suppress(OSError):
        if stamp.exists() and stamp.read_text(encoding="ascii") == digest.hexdigest():
            return
        for folder in FOLDERS:
            for path in folder.glob("__pycache__/*.nb?"):
                path.unlink(missing_ok=True)
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(digest.hexdigest(), encoding="ascii")


delete_outdated()
