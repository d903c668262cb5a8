"""How many cores this process may use at a time: those it may run on, or as many as its share of time is worth.

Why the share: a container may see 64 cores and get the time of two. 64 threads would then wait for each other most of it.
"""

import math
import os
from pathlib import Path

OURS, TOLD = "FFNN_GPU_THREADS", ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
CONTROL_GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores() -> int:
    """At least one."""
    return max(1, int(min(len(allowed()), granted(CONTROL_GROUPS, OWN))))


def allowed() -> set[int]:
    """The numbers of the cores that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {*range(os.cpu_count() or 1)}


def granted(control_groups: Path, own: Path) -> float:
    """Cores whose time the control groups of this process grant it, the smallest of all levels; ∞ where none says any.

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


def told() -> int:
    """How many threads numerical libraries are told to use, of OMP_NUM_THREADS=4,2 the first; 0 where nobody says."""
    texts = (os.environ.get(name, "").partition(",")[0].strip() for name in TOLD)
    return next((int(text) for text in texts if text.isdecimal() and int(text)), 0)
