"""`python3 scripts/docs.py`: build the site into build/site, on a machine that has only Python.

    --here        use the Sphinx of the Python that runs this script, without .venv
    --external    print every link that leads out of the site

The exit code is 1 if Sphinx warns, a page is in no navigation, a link is broken, or a page loads anything
from another place. Formulas, fonts and the search work without a network, also from the files alone.

Why Sphinx, with MyST and the PyData theme: they stay maintained. NumPy, SciPy, pandas and scikit-learn
publish with Sphinx and this theme, and all three had releases in the last two months (November 2026). MkDocs
had its last release in August 2024. Material for MkDocs announced the end of its support for November 2026,
and its successor Zensical is at version 0.1. The theme Furo had its last release in December 2025.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from bootstrap import ROOT, launch
from docs_links import check

SITE = ROOT / "build" / "site"
REDIRECT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ffnn_gpu</title>
<link rel="icon" href="_static/icon.svg">
<meta http-equiv="refresh" content="0; url=docs/index.html"></head>
<body><a href="docs/index.html">ffnn_gpu</a></body></html>
"""


def build():
    """Write the pages and return the exit code of Sphinx."""
    shutil.rmtree(SITE, ignore_errors=True)
    doctrees = str(SITE.with_name("doctrees"))
    options = ["-q", "-W", "--keep-going", "-E", "-b", "html", "-c", str(ROOT / "docs"), "-d", doctrees]
    code = subprocess.call([sys.executable, "-P", "-m", "sphinx", *options, str(ROOT), str(SITE)])
    if SITE.is_dir():
        (SITE / "index.html").write_text(REDIRECT, encoding="utf-8")
    return code


def main(arguments):
    """Build the site, check its links, and return the exit code."""
    if code := build():
        return code
    complaints, external = check(SITE)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    if "--external" in arguments:
        print("\n".join(external))
    pages = len([*SITE.rglob("*.html")])
    print(f"{SITE / 'index.html'}: {pages} pages, {len(external)} links to elsewhere")
    return 1 if complaints else 0


if __name__ == "__main__":
    options = sys.argv[1:]
    if not set(options) <= {"--here", "--external"}:
        sys.exit("usage: python3 scripts/docs.py [--here] [--external]")
    if "--here" in options:
        sys.exit(main(options))
    sys.exit(launch("dev", [str(Path(__file__).resolve()), "--here", *options]))
