"""`python3 scripts/lint.py`: check format, lint and types on a machine that has only Python.

    --here    use ruff and mypy of the Python that runs this script, without .venv

All three checks run, and the exit code is 1 if any of them fails.
"""

import os
import subprocess
import sys

from bootstrap import ROOT, launch

CHECKS = (["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"])


def main():
    """Run every check in the repository's root and return the exit code."""
    failed = []
    for check in CHECKS:
        name = " ".join(check)
        print("$ " + name, flush=True)
        if subprocess.call([sys.executable, "-m", *check], cwd=str(ROOT)) != 0:
            failed.append(name)
    if failed:
        print("failed: " + ", ".join(failed), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--here"]:
        sys.exit(main())
    if sys.argv[1:]:
        sys.exit("usage: python3 scripts/lint.py [--here]")
    sys.exit(launch("dev", [os.path.abspath(__file__), "--here"]))
