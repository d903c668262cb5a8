"""What Numba has compiled and kept on disk, forgotten when the sources have changed.

Why: Numba looks only at the file of the function that was asked for, and here functions of other files are part of it. What
stands in `step_control` and `philox` is, too.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

FOLDER = Path(__file__).parent
ALSO = ("step_control.py", "philox.py")


def forget_others() -> None:
    """Delete what was kept of other sources than these. A folder that cannot be written has been installed as a whole."""
    digest = hashlib.sha256()
    for path in (*sorted(FOLDER.glob("*.py")), *(FOLDER.parent / name for name in ALSO)):
        digest.update(path.read_bytes())
    kept = FOLDER / "__pycache__" / "sources.sha256"
    with suppress(OSError):
        if kept.exists() and kept.read_text(encoding="ascii") == digest.hexdigest(): return
        for path in FOLDER.glob("__pycache__/*.nb?"):
            path.unlink(missing_ok=True)
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(digest.hexdigest(), encoding="ascii")
