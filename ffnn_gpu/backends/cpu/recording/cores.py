"""Count the cores that this process may use at a time: those it may run on, or its CPU quota if that is less.

Why the quota: a container may see 64 cores and get the time of two. 64 threads would then mostly wait for
each other.
"""

import math
import os
from pathlib import Path
from typing import Any

from ffnn_gpu.checks import is_whole
from ffnn_gpu.errors import ConfigurationError

THREADS = "FFNN_GPU_THREADS"  # environment variables: ours, and those of numerical libraries
LOCAL_RANKS = "FFNN_GPU_LOCAL_RANKS"  # set by the communicator: the number of ranks on this machine
LIBRARIES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
MOST_THREADS = 1024  # more than the cores of any machine; each needs memory of its own
CONTROL_GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> int:
    """Return the number of cores, at least 1."""
    return max(1, int(min(len(allowed()), cpu_quota(CONTROL_GROUPS, OWN))))


def allowed() -> set[int]:
    """Return the numbers of the cores that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {*range(os.cpu_count() or 1)}


def cpu_quota(control_groups: Path, own: Path) -> float:
    """Return the CPU quota of this process in cores, the smallest of its control groups; ∞ without one.

    Reference: Linux, Documentation/admin-guide/cgroup-v2.rst, "cpu.max".
    """
    try:
        path = next(line[len("0::/") :] for line in own.read_text().splitlines() if line.startswith("0::/"))
    except (OSError, StopIteration):
        return math.inf
    levels = [control_groups / path, *(control_groups / path).parents]
    return min(_limit(folder) for folder in levels if folder.is_relative_to(control_groups))


def _limit(group: Path) -> float:
    try:
        time, period = (group / "cpu.max").read_text().split()
        return math.inf if time == "max" else int(time) / int(period)
    except (OSError, ValueError):
        return math.inf


def environment_threads() -> int:
    """Return the thread count set for numerical libraries (4 for OMP_NUM_THREADS=4,2); 0 if none is set."""
    texts = (os.environ.get(name, "").partition(",")[0].strip() for name in LIBRARIES)
    return next((int(text) for text in texts if text.isdecimal() and int(text)), 0)


def threads_set() -> int:
    """Return the number in FFNN_GPU_THREADS, 0 if it is not set. Raises ConfigurationError."""
    text = os.environ.get(THREADS, "").strip()
    if text and not (text.isdecimal() and 1 <= int(text) <= MOST_THREADS):
        raise _no_threads(THREADS, text)
    return int(text or 0)


def require_threads(value: Any) -> None:
    """Raise ConfigurationError unless value is a whole number from 1 to MOST_THREADS."""
    if not is_whole(value) or not 1 <= value <= MOST_THREADS:
        raise _no_threads("threads", value)


def _no_threads(what: str, value: Any) -> ConfigurationError:
    return ConfigurationError(f"{what} must be a whole number from 1 to {MOST_THREADS:,}, not {value!r}")


def local_ranks() -> int:
    """Return the number of ranks that share this machine, at least 1."""
    text = os.environ.get(LOCAL_RANKS, "")
    return max(1, int(text)) if text.isdecimal() else 1
