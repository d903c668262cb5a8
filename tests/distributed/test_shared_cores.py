"""Number of cores of a rank if the environment does not set it."""

import importlib
import os
import subprocess
import sys

import pytest

from ffnn_gpu.backends.cpu.recording import cores
from ffnn_gpu.distributed import shared_cores
from tests.distributed.fake_gpu import FakeComm


class Machine(FakeComm):
    """Ranks that may each run on the given cores."""

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
def test_ranks_of_a_machine_share_its_cores(monkeypatch, ranks, granted, expected):
    monkeypatch.setattr(cores, "allowed", lambda: {*ranks[0]})
    monkeypatch.setattr(cores, "cpu_quota", lambda *places: granted)
    assert shared_cores.cores_of_rank(Machine(*ranks), None) == expected


CODE = """
import os, sys
if sys.argv[1] == "without": sys.modules["threadpoolctl"] = None
import numpy
from ffnn_gpu.backends.cpu.recording import cores
from ffnn_gpu.distributed.shared_cores import limit_threads
cores.cores = lambda: 4
print(limit_threads(int(sys.argv[2])), os.environ.get("FFNN_GPU_THREADS"))
if sys.argv[1] == "with":
    from threadpoolctl import threadpool_info
    threads = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    print(threads <= {1, int(sys.argv[2])})
"""


def output(library, threads, **environment):
    """Return the output of a process that limits itself to `threads` of 4 cores."""
    clean = {
        name: value for name, value in os.environ.items() if name not in (cores.THREADS, *cores.LIBRARIES)
    }
    return subprocess.run(
        [sys.executable, "-c", CODE, library, str(threads)],
        env=clean | environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_process_uses_its_share_of_cores_unless_the_environment_sets_threads():
    pytest.importorskip("threadpoolctl")
    text = output("with", 1)
    assert text.startswith("each rank computes with 1 of 4 cores") and text.endswith(
        "to change this 1\nTrue\n"
    )
    assert output("without", 2).endswith("pip install threadpoolctl, or set OPENBLAS_NUM_THREADS=2 2\n")
    assert (
        output("with", 4).splitlines()[0] == " None"
        and output("with", 1, OMP_NUM_THREADS="3").splitlines()[0] == " None"
    )


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"])
@pytest.mark.parametrize(("text", "threads"), [("3", 3), (" 3,2 ", 3), ("", 4), ("0", 4), ("many", 4)])
def test_variables_that_disable_sharing_set_the_number_of_threads(monkeypatch, name, text, threads):
    pytest.importorskip("llvmlite"), pytest.importorskip("threadpoolctl")
    team = importlib.import_module("ffnn_gpu.backends.cpu.recording.threads")
    monkeypatch.setattr(team, "cores", lambda: 4)
    for other in (cores.THREADS, *cores.LIBRARIES):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, text)
    assert team.threads() == threads
    assert output("with", 1, **{name: text}).startswith("each rank" if threads == 4 else " None")
