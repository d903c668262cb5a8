"""`python3 scripts/test.py [options of pytest]`: run the tests, from nothing but Python.

Test files are shared out over the cores, each with NumPy's products on one thread; `-n 0` runs them one by one.

The working directory stays the caller's, so that relative paths in options mean what they say. pytest reads `testpaths`
only when it starts in the repository's root, therefore the folder is named where no argument names a test.
"""

import os
import sys

from bootstrap import ROOT, launch


def command(arguments):
    """What .venv's Python runs."""
    named = any(os.path.exists(a.split("::")[0]) for a in arguments if not a.startswith("-"))
    tests = [] if named else [str(ROOT / "tests")]
    # By the order of names: by the number of tests, the few that take longest come last and alone: twice the time in all.
    spread = "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"
    return [
        "-P",
        "-m",
        "pytest",
        *spread,
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(ROOT),
        *arguments,
        *tests,
    ]


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more would wait for the cores of the other workers
    sys.exit(launch("test", command(sys.argv[1:])))
