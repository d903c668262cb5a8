"""Predicting any number of rows: piece by piece, in scratch that a thread keeps where the rows are few.

Why it is kept: making a workspace takes longer than a pass of few rows through it (30 µs against 9 for one row through
layers of 128 and 10), and a backend records only passes through memory that stays.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.arrays.boundary import stored
from ffnn_gpu.backends.choice import to_kind_of
from ffnn_gpu.checks import require_positive_int
from ffnn_gpu.errors import DivergedError
from ffnn_gpu.nn.workspace import Workspace

FEW_ROWS, MOST_KEPT = (
    64,
    1 << 20,
)  # rows for which each thread keeps the workspace that it predicts with; numbers in it


@np.errstate(over="ignore", invalid="ignore")  # the check of the outputs says more than a warning
def predict(network: Any, threads: threading.local, x: Any, batch_size: int | None) -> Any:
    """As `Network.predict`.

    threads: where each thread keeps the workspace `ws` that it predicts few rows with.

    Raises:
        ShapeError: x is not (n, n_in). DataError: x is not finite. DivergedError: an output is not finite.
    """
    backend = network.backend
    batch_size = backend.rows_at_once if batch_size is None else batch_size
    require_positive_int("batch_size", batch_size)
    rows, batch_size = network.admit(x), int(batch_size)
    z = backend.output((len(rows), network.widths[-1]), network.dtype)
    ws, forward = _inference(network, threads, min(batch_size, len(rows)))
    try:
        for start in range(0, len(rows), batch_size):
            part = backend.matrix(rows[start : start + batch_size], network.compute_dtype)
            backend.copy(forward(part, ws.first(len(part))), out=z[start : start + len(part)])
    except BaseException:  # Ctrl-C may have left it within a pass
        threads.ws = None
        raise
    if not backend.all_finite(z):
        too_large = ", or its activations are too large for float16" * (network.compute_dtype == np.float16)
        raise DivergedError(
            f"the network's output is not finite although its input is: its parameters diverged{too_large}"
        )
    return to_kind_of(stored(x), backend, z)


def _inference(network: Any, threads: threading.local, B: int) -> tuple[Workspace, Callable[..., Any]]:
    """Scratch to predict B rows with, and how: few rows get this thread's last one, whose passes are worth recording."""
    if B > FEW_ROWS or FEW_ROWS * sum(network.widths) > MOST_KEPT:
        return network.workspace(B, training=False), network.run
    kept = getattr(threads, "ws", None)
    if kept is None or kept.owner is not network.params:
        kept = threads.ws = network.workspace(FEW_ROWS, training=False)
    return kept.first(B), network.forward
