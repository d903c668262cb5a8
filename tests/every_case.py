"""Cases that every commit runs, and the rest of them, which `scripts/prove.py --only tests` runs."""

import itertools
import os


def some_of(cases, one_in):
    """Return every `one_in`-th of the cases, beginning with the first; all of them if EVERY_CASE=1."""
    return list(cases) if os.environ.get("EVERY_CASE") else list(cases)[::one_in]


def in_turn(*lists):
    """Combine all lists but the last, and give each combination one element of the last; all if EVERY_CASE=1.

    A step in any list is a step in the last one, too. So the cases have every pair of elements of two lists,
    if a third list has as many elements as the last one. Of two lists, most pairs are left out.
    """
    *heads, last = map(list, lists)
    cases = []
    for place in itertools.product(*(range(len(head)) for head in heads)):
        first = [head[i] for head, i in zip(heads, place, strict=True)]
        cases += [(*first, last[(sum(place) + k) % len(last)]) for k in range(len(last))]
    return some_of(cases, len(last))
