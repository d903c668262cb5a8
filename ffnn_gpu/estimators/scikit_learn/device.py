"""Which backend trains a problem of which size.

Why not always the fastest one: to start compiled code takes 0.1 to 1 s in a new process, to start a GPU
longer, and most tables are trained in less time. Measured with one thread on a shared core of an AMD EPYC,
float64, 100 hidden units, whole fits of 200 epochs: iris 45 ms by NumPy, 24 ms by compiled code, 66 ms by
scikit-learn; digits 0.7, 0.4 and 0.9 s.
"""

import os

from ffnn_gpu.backends import Backend, get_backend
from ffnn_gpu.backends.choice import NumpyBackend, from_environment

FEW_STEPS = 10_000  # of training; NumPy takes 0.1 ms more for each
LITTLE_WORK = 1 << 33  # multiplications of the forward passes


def backend_for(device: str | Backend, steps: int, work: float) -> Backend:
    """Return the backend for a training run; NumPy for a small one, unless a GPU is asked for.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1", or a Backend, as `get_backend` reads it.
        steps: the largest number of updates.
        work: multiplications of all forward passes.

    The choice depends on the arguments only, so a repeated fit computes the same bits.
    """
    chosen = (isinstance(device, str) and device.strip().lower()) or ""
    if chosen == "auto" and from_environment(os.environ)[0]:
        return get_backend(device)
    if chosen in ("auto", "cpu", "numpy") and steps <= FEW_STEPS and work <= LITTLE_WORK:
        backend = NumpyBackend()
        backend.reason = "a small problem is trained by NumPy sooner than compiled code or a GPU starts"
        return backend
    return get_backend(device)
