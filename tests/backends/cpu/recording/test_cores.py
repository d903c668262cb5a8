"""How many threads a process is worth, by what it may run on and what its control groups grant."""

import math
import os

import pytest

from ffnn_gpu.backends.cpu.recording import cores


def groups(folder, own, **limits):
    """Control groups below `folder`, each with its cpu.max; this process is in `own`."""
    for path, limit in limits.items():
        place = folder / "cgroup" / path.replace("_", "/").strip("/")
        place.mkdir(parents=True, exist_ok=True)
        (place / "cpu.max").write_text(f"{limit}\n")
    (folder / "own").write_text(f"1:cpu:/elsewhere\n0::{own}\n")
    return folder / "cgroup", folder / "own"


@pytest.mark.parametrize(
    ("own", "limits", "granted"),
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
def test_least_that_any_level_grants_counts(tmp_path, own, limits, granted):
    assert cores.cpu_quota(*groups(tmp_path, own, **limits)) == granted


def test_system_without_control_groups_grants_all(tmp_path):
    assert cores.cpu_quota(tmp_path, tmp_path / "missing") == math.inf


@pytest.mark.parametrize(
    ("limit", "expected"), [("250000 100000", 2), ("10000 100000", 1), ("900000 100000", 4)]
)
def test_cores_are_those_it_may_run_on_and_has_time_for(tmp_path, monkeypatch, limit, expected):
    control_groups, own = groups(tmp_path, "/", _=limit)
    monkeypatch.setattr(cores, "CONTROL_GROUPS", control_groups)
    monkeypatch.setattr(cores, "OWN", own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    assert cores.cores() == expected
