"""`python3 scripts/demo.py [options of ffnn-gpu train]`: train on the digits set, from nothing but Python.

Why so short: bootstrap.py makes .venv, `ffnn-gpu train` trains. Options given here follow the defaults and so override
them. The working directory stays the caller's, so that relative paths in options mean what they say; only the default
--out is in the clone. -P keeps that directory from shadowing modules.
"""

import sys

from bootstrap import ROOT, launch


def command(arguments):
    """What .venv's Python runs."""
    return [
        "-P",
        "-m",
        "ffnn_gpu",
        "train",
        "digits",
        "--out",
        str(ROOT / "runs" / "digits"),
        "--overwrite",
        *arguments,
    ]


if __name__ == "__main__":
    sys.exit(launch("demo", command(sys.argv[1:])))
