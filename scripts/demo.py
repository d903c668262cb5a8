"""`python3 scripts/demo.py [options of ffnn-gpu train]`: train on digits, on a machine that has only Python.

The given options follow the defaults and override them. The working directory stays the caller's, so relative
paths in options keep their meaning; the default --out is in the clone. -P keeps that directory from shadowing
modules.
"""

import sys

from bootstrap import ROOT, launch


def command(arguments):
    """Return the arguments of .venv's Python."""
    defaults = "--out", str(ROOT / "runs" / "digits"), "--overwrite"
    return ["-P", "-m", "ffnn_gpu", "train", "digits", *defaults, *arguments]


if __name__ == "__main__":
    sys.exit(launch("demo", command(sys.argv[1:])))
