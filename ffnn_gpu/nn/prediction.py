"""Predict any number of rows, in blocks; each thread keeps the workspace with which it predicts few rows.

Why a workspace is kept: making one takes longer than a pass of few rows through it (30 µs against 9 for one
row through layers of 128 and 10), and a backend records only passes through memory that stays.
"""

import math
import threading
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.arrays.boundary import kind_of, rows_of
from ffnn_gpu.checks import require_positive_int
from ffnn_gpu.errors import DivergedError
from ffnn_gpu.nn.workspace import Workspace

FEW_ROWS = 64  # predictions of up to this many rows use a workspace that the thread keeps
MOST_KEPT = 1 << 20  # elements; a larger workspace is not kept
REPEATED = 3  # smallest number of equal blocks for which recording the pass takes less time than it saves


def predict(network: Any, threads: threading.local, x: Any, batch_size: int | None) -> Array:
    """`Network.predict`

    threads: holds each thread's workspace `ws` for few rows.
    """
    z = _few_rows(network, threads, x) if batch_size is None and type(x) is np.ndarray else None
    return _any_rows(network, threads, x, batch_size) if z is None else z


def _few_rows(network: Any, threads: threading.local, x: HostArray) -> Array | None:
    """Return the outputs for few rows that need no conversion.

    Return None for other rows, and if a number is not finite: `_any_rows` then raises the error.

    Why: a pass displaces Python's own data from the cache, and everything around it then takes twice as long.
    One row through 784-512-512-10 on two threads of an AMD EPYC: 29.5 µs with the two checks in Python, 24.8
    µs so, of which the pass takes 20.6.
    """
    plain = x.dtype == network.compute_dtype == network.dtype and x.ndim == 2 and x.shape[1] == network.n_in
    if not (plain and 0 < len(x) <= FEW_ROWS and network.backend.owns(x)):
        return None
    ws, recorded = _inference(network, threads, len(x))
    arguments = network, x, ws
    z: Array | None
    try:
        if recorded:
            z = network.backend.run_forward(finite_outputs, *arguments)
        else:
            z = finite_outputs(*arguments)
    except BaseException:  # Ctrl-C may have left the workspace within a pass
        threads.ws = None
        raise
    return None if z is None else z.copy()


@np.errstate(over="ignore", invalid="ignore")
def finite_outputs(network: Any, x: Array, ws: Workspace) -> Array | None:
    """Return the outputs, a buffer of ws; None if a number of x or of them is not finite.

    A backend may record the two checks with the pass.
    """
    if not network.backend.all_finite(x):
        return None
    z: Array = network.run(x, ws)
    return z if network.backend.all_finite(z) else None


@np.errstate(over="ignore", invalid="ignore")  # the check of the outputs raises a better error
def _any_rows(network: Any, threads: threading.local, x: Any, batch_size: int | None) -> Array:
    """Return the outputs for any number of rows of any kind."""
    backend = network.backend
    batch_size = backend.rows_at_once if batch_size is None else batch_size
    require_positive_int("batch_size", batch_size)
    rows, batch_size = network.admit(x), int(batch_size)
    z = backend.output((*network.leading, len(rows), network.widths[-1]), network.dtype)
    ws, recorded = _inference(network, threads, min(batch_size, len(rows)))
    recorded = recorded or not backend.records_passes
    repeats = len(rows) // batch_size >= REPEATED  # a shorter last block would need its own recording
    try:
        for start in range(0, len(rows), batch_size):
            part = rows.matrix(backend, slice(start, start + batch_size), network.compute_dtype)
            forward = network.forward if recorded or (repeats and len(part) == batch_size) else network.run
            backend.copy(forward(part, ws.first(len(part))), out=z[..., start : start + len(part), :])
    except BaseException:  # Ctrl-C may have left it within a pass
        threads.ws = None
        raise
    if not ws.is_part_of(getattr(threads, "ws", None)):
        ws.release()
    if not backend.all_finite(z):
        too_large = ", or its activations are too large for float16" * (network.compute_dtype == np.float16)
        raise DivergedError(
            f"the network's output is not finite although its input is: its parameters diverged{too_large}"
        )
    given = rows_of(x).stored
    return z if backend.owns(given) else kind_of(given, backend.to_host(z))


def _inference(network: Any, threads: threading.local, B: int) -> tuple[Workspace, bool]:
    """Return a workspace for B rows, and whether its passes are recorded: the kept one for few rows."""
    if B > FEW_ROWS or FEW_ROWS * sum(network.widths) * math.prod(network.leading) > MOST_KEPT:
        return network.workspace(B, training=False), False
    kept = getattr(threads, "ws", None)
    if kept is None or kept.owner is not network.params:
        kept = threads.ws = network.workspace(FEW_ROWS, training=False)
    return kept.first(B), True
