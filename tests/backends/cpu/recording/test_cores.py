"""The number of usable cores follows from the process affinity and the CPU quota of its control groups."""

import math
import os

import pytest

from ffnn_gpu.backends.cpu.recording import cores


def groups(folder, own, **limits):
    """Create control groups below `folder`, each with its cpu.max; this process belongs to `own`."""
    for path, limit in limits.items():
        place = folder / "cgroup" / path.replace("_", "/").strip("/")
        place.mkdir(parents=True, exist_ok=True)
        (place / "cpu.max").write_text(f"{limit}\n")
    (folder / "own").write_text(f"1:cpu:/elsewhere\n0::{own}\n")
    return folder / "cgroup", folder / "own"


@pytest.mark.parametrize(
    ("own", "limits", "quota"),
    [
        ("/", {}, math.inf),
        ("/", {"_": "max 100000"}, math.inf),
        ("/", {"_": "250000 100000"}, 2.5),
        ("/a/b", {"_a_b": "max 100000", "_a": "150000 50000"}, 3),
        ("/a/b", {"_a_b": "50000 100000", "_a": "400000 100000"}, 0.5),
        ("/gone/elsewhere", {"_": "800000 100000"}, 8),
        ("/", {"_": "nonsense"}, math.inf),
    ],
    ids=["nothing", "max", "container", "parent", "child", "another namespace", "unreadable"],
)
def test_quota_is_the_smallest_of_all_levels(tmp_path, own, limits, quota):
    assert cores.cpu_quota(*groups(tmp_path, own, **limits)) == quota


def test_system_without_control_groups_has_no_quota(tmp_path):
    assert cores.cpu_quota(tmp_path, tmp_path / "missing") == math.inf


@pytest.mark.parametrize(
    ("limit", "expected"), [("250000 100000", 2), ("10000 100000", 1), ("900000 100000", 4)]
)
def test_cores_are_limited_by_affinity_and_quota(tmp_path, monkeypatch, limit, expected):
    control_groups, own = groups(tmp_path, "/", _=limit)
    monkeypatch.setattr(cores, "CONTROL_GROUPS", control_groups)
    monkeypatch.setattr(cores, "OWN", own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    assert cores.cores() == expected
