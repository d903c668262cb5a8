"""How many cores a rank computes with, where nobody says it."""

import importlib
import os
import subprocess
import sys

import pytest

from ffnn_gpu.backends.cpu.recording import cores
from ffnn_gpu.distributed import shared_cores
from tests.distributed.fake_gpu import FakeComm


class Machine(FakeComm):
    """Ranks that may each run on the cores given."""

    def __init__(self, *allowed):
        super().__init__(size=len(allowed))
        self.allowed = allowed

    def Allreduce(self, place, ranks):  # noqa: N802
        ranks[:] = 0
        for rank in self.allowed:
            ranks[list(rank)] += 1


@pytest.mark.parametrize(
    ("ranks", "granted", "expected"),
    [
        ([range(8)] * 4, 64, 2),
        ([range(2)] * 4, 64, 1),
        ([range(8)] * 3, 64, 2),
        ([range(4), range(4, 8)], 64, 4),
        ([range(4), range(8)], 64, 2),
        ([range(64)] * 4, 8, 2),
        ([range(6)], 64, 6),
        ([range(7)] * 7, 64, 1),
    ],
    ids=[
        "shared",
        "more ranks than cores",
        "uneven",
        "bound",
        "partly bound",
        "container",
        "one",
        "rounding",
    ],
)
def test_cores_of_a_machine_are_shared_out(monkeypatch, ranks, granted, expected):
    monkeypatch.setattr(cores, "allowed", lambda: {*ranks[0]})
    monkeypatch.setattr(cores, "granted", lambda *places: granted)
    assert shared_cores.cores_of_rank(Machine(*ranks), None) == expected


CODE = """
import os, sys
if sys.argv[1] == "without": sys.modules["threadpoolctl"] = None
import numpy
from ffnn_gpu.backends.cpu.recording import cores
from ffnn_gpu.distributed.shared_cores import compute_with
cores.cores = lambda: 4
print(compute_with(int(sys.argv[2])), os.environ.get("FFNN_GPU_THREADS"))
if sys.argv[1] == "with":
    from threadpoolctl import threadpool_info
    print({pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} <= {1, int(sys.argv[2])})
"""


def said(library, threads, **environment):
    """What a process says that is to compute with so many of 4 cores."""
    clean = {name: value for name, value in os.environ.items() if name not in (cores.OURS, *cores.TOLD)}
    return subprocess.run(
        [sys.executable, "-c", CODE, library, str(threads)],
        env=clean | environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_process_computes_with_its_part_unless_the_environment_says_otherwise():
    pytest.importorskip("threadpoolctl")
    text = said("with", 1)
    assert text.startswith("each rank computes with 1 of 4 cores") and text.endswith("otherwise 1\nTrue\n")
    assert said("without", 2).endswith("pip install threadpoolctl, or set OPENBLAS_NUM_THREADS=2 2\n")
    assert (
        said("with", 4).splitlines()[0] == " None"
        and said("with", 1, OMP_NUM_THREADS="3").splitlines()[0] == " None"
    )


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"])
@pytest.mark.parametrize(("text", "threads"), [("3", 3), (" 3,2 ", 3), ("", 4), ("0", 4), ("many", 4)])
def test_what_leaves_the_cores_alone_is_what_threads_follow(monkeypatch, name, text, threads):
    pytest.importorskip("numba"), pytest.importorskip("threadpoolctl")
    team = importlib.import_module("ffnn_gpu.backends.cpu.recording.threads")
    monkeypatch.setattr(team, "cores", lambda: 4)
    for other in (cores.OURS, *cores.TOLD):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, text)
    assert team.threads() == threads
    assert said("with", 1, **{name: text}).startswith("each rank" if threads == 4 else " None")
