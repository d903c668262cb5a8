"""Cases that every commit runs, and the rest of them, which `scripts/prove.py --only tests` runs."""

import os


def some_of(cases, one_in):
    """Return every `one_in`-th of the cases, beginning with the first; all of them if EVERY_CASE=1."""
    return list(cases) if os.environ.get("EVERY_CASE") else list(cases)[::one_in]
