"""One training step of any `benchmarks.kinds.Kind`, one file per library: `step(kind, variant)` → Program.

Where a library has no such loss, penalty or optimizer, the step writes it with the library's own functions.
`rules` holds the update rules that the files of NumPy and of JAX share.
"""

from itertools import cycle

from benchmarks.contenders import Program


def in_turn(step, batches, wait=lambda result: None, to_host=float):
    """Return the Program that calls step(x, y) on the prepared minibatches in turn."""
    turns = cycle(batches)

    def launch():
        x, y = next(turns)
        return step(x, y)

    return Program(launch, wait, to_host)
