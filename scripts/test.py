"""`python3 scripts/test.py [options of pytest]`: run the tests on a machine that has only Python.

Test files are distributed over the cores, and NumPy uses one thread in each process. `-n 0` runs one process.

The working directory stays the caller's, so relative paths in options keep their meaning. pytest reads
`testpaths` only in the repository's root, so the folder tests/ is added if no argument names a test.
"""

import os
import sys

from bootstrap import ROOT, launch


def command(arguments):
    """Return the arguments of .venv's Python."""
    named = any(os.path.exists(a.split("::")[0]) for a in arguments if not a.startswith("-"))
    tests = [] if named else [str(ROOT / "tests")]
    # Files run in the order of their names. Sorted by number of tests, the slowest files would come last and
    # alone, and the whole run would take twice as long.
    spread = "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"
    place = "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)
    return ["-P", "-m", "pytest", *spread, *place, *arguments, *tests]


if __name__ == "__main__":
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # more threads would wait for cores of the other processes
    sys.exit(launch("test", command(sys.argv[1:])))
