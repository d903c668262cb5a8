"""Communicators without MPI and without a GPU: choice, calls and time limits."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ffnn_gpu.distributed import MPI, NCCL, Communicator, Single, choice, communicator, faults, launched
from ffnn_gpu.distributed.communicator import piece_bounds
from ffnn_gpu.distributed.roll_call import RollCall
from ffnn_gpu.errors import BackendUnavailableError, ConfigurationError
from tests.distributed.fake_gpu import FakeComm, FakeCupy, Vector, installed
from tests.distributed.threads import ThreadRank

METHODS = [name for name in vars(Communicator) if not name.startswith("_")]


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Remove the environment variables of launchers, and restore the exception hook afterwards."""
    for name in (*choice.SIZES, faults.LIMIT, "FFNN_GPU_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    # While other processes compute, each poll without a nap waits for them.
    monkeypatch.setattr(faults, "POLLS_WITHOUT_NAP", 20)


def test_pieces_cover_everything_once_and_differ_by_one_unit():
    for length in range(40):
        for size in range(1, 7):
            for unit in (1, 4):
                bounds = piece_bounds(length, size, unit)
                lengths = np.diff(bounds)
                assert len(bounds) == size + 1 and bounds[0] == 0 and bounds[-1] == length
                assert (lengths >= 0).all() and all(bound % unit == 0 or bound == length for bound in bounds)
                assert max(lengths) - min(lengths) <= (unit if length % unit == 0 else 2 * unit)
                assert max(lengths) <= -(-length // size) or unit > 1


@pytest.mark.parametrize("kind", [Single, MPI, NCCL, ThreadRank])
def test_every_communicator_has_every_call(kind):
    assert [name for name in METHODS if not callable(getattr(kind, name, None))] == []


def test_single_process_leaves_vectors_unchanged():
    single, vector = Single(), np.arange(4.0)
    for op in ("sum", "min", "max"):
        single.all_reduce(vector, op)
    single.reduce_scatter(vector, [0, 4]), single.all_gather(vector, [0, 4]), single.broadcast(vector)
    single.barrier(), single.wait()
    assert vector.tolist() == [0, 1, 2, 3] and (single.rank, single.size) == (0, 1)
    with pytest.raises(SystemExit):
        single.abort(3)


# ---------------------------------------------------------------------- choice


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, (1, "")),
        ({"PMI_SIZE": "3", "PMI_RANK": "1"}, (3, "PMI_SIZE")),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, (4, "OMPI_COMM_WORLD_SIZE")),
        ({"SLURM_STEP_NUM_TASKS": "8"}, (8, "SLURM_STEP_NUM_TASKS")),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, (1, "")),
    ],
    ids=["plain", "mpich", "openmpi", "srun", "sbatch"],
)
def test_launcher_is_recognized_by_its_environment_variable(monkeypatch, environment, found):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == found


def test_plain_process_does_not_start_mpi():
    code = (
        "import sys; from ffnn_gpu.distributed import communicator; c = communicator(); "
        "print(type(c).__name__, c.reason, 'mpi4py' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in choice.SIZES}
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert shown.split() == ["Single", "one", "process", "False"]


def test_error_without_mpi4py_contains_what_to_install(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ConfigurationError, match=r"one of several.*ffnn_gpu\[mpi\]"):
        communicator()


def test_mpi_that_sees_one_process_of_several_raises(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    refused = pytest.raises(ConfigurationError, match="SLURM_STEP_NUM_TASKS is 4, but MPI sees one process")
    with installed(monkeypatch, FakeComm(size=1)), refused:
        communicator("numpy")


def test_unknown_device_raises():
    with pytest.raises(ConfigurationError, match="'auto', 'numpy' or 'cupy', not 'tpu'"):
        communicator("tpu")


def test_environment_variable_replaces_auto(monkeypatch):
    for text, meant in {"": "auto", "cpu": "numpy", "cuda:1": "cupy", "nonsense": "auto"}.items():
        monkeypatch.setenv("FFNN_GPU_DEVICE", text)
        assert choice._requested("auto") == meant and choice._requested("numpy") == "numpy"


@pytest.mark.parametrize(
    ("device", "usable", "kind", "chosen"),
    [
        ("numpy", True, MPI, "numpy"),
        ("auto", False, MPI, "numpy"),
        ("auto", True, MPI, "cupy:1"),
        ("cupy", True, MPI, "cupy:1"),
    ],
)
def test_ranks_get_gpus_in_turn_and_use_mpi_if_they_share_them(monkeypatch, device, usable, kind, chosen):
    monkeypatch.setenv("PMI_SIZE", "2")
    with installed(monkeypatch, FakeComm(rank=1), FakeCupy()) as patch:  # both ranks have the same GPU
        patch.setattr(choice, "probe", lambda index: SimpleNamespace(usable=usable, reason="there is no GPU"))
        patch.setattr(choice, "_all_different", lambda mpi, identity: False)
        found = communicator(device)
    assert type(found) is kind and found.device == chosen and "MPICH Version: 5.0.2" in found.reason


def test_ranks_with_one_gpu_each_use_nccl(monkeypatch, caplog):
    monkeypatch.setenv("PMI_SIZE", "2")
    with installed(monkeypatch, FakeComm(rank=0), FakeCupy()) as patch, caplog.at_level("INFO", "ffnn_gpu"):
        patch.setattr(choice, "probe", lambda index: SimpleNamespace(usable=True))
        patch.setattr(choice, "_all_different", lambda mpi, identity: True)
        found = communicator()
    assert type(found) is NCCL and found.device == "cupy:0" and caplog.messages == [found.reason]
    assert found.reason.startswith("NCCL 22707 between 2 GPUs, MPI between 2 processes")


@pytest.mark.parametrize("found", [True, False])
def test_nccl_is_imported_by_its_own_name_and_without_a_warning(tmp_path, found):
    """In CuPy 12 to 14 `import cupy` omits cupy.cuda.nccl, and importing it without libnccl warns."""
    cuda = tmp_path / "cupy" / "cuda"
    cuda.mkdir(parents=True)
    for folder in (cuda.parent, cuda):
        (folder / "__init__.py").touch()
    missing = "" if found else "import warnings\nwarnings.warn('nccl library could not be loaded.')\n"
    (cuda / "nccl.py").write_text(f"{missing}available = {found}\n")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import cupy.cuda\nassert not hasattr(cupy.cuda, 'nccl')\n"
        f"from ffnn_gpu.distributed.nccl import load_nccl\nassert load_nccl().available is {found}\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_requested_gpu_that_is_missing_raises(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    with installed(monkeypatch, FakeComm(), FakeCupy()) as patch:
        missing = SimpleNamespace(usable=False, reason="there is no GPU", hint="buy one")
        patch.setattr(choice, "probe", lambda index: missing)
        with pytest.raises(BackendUnavailableError, match=r"rank 0 has none; there is no GPU\. Hint: buy"):
            communicator("cupy")


# ---------------------------------------------------------------------- MPI


def test_vector_of_a_gpu_is_copied_through_cached_pinned_memory(monkeypatch):
    cupy = FakeCupy()
    with installed(monkeypatch, FakeComm(), cupy):
        mpi, vector = MPI(limit=20), Vector(cupy, [1, 2, 3, 4])
        mpi.all_reduce(vector)
        assert vector.host.tolist() == [2, 4, 6, 8]
        mpi.reduce_scatter(vector, [0, 2, 4])
        assert vector.host.tolist() == [4, 8, 6, 8]
        mpi.all_gather(vector, [0, 2, 4]), mpi.broadcast(vector)
    assert cupy.log == [
        ("device", 0),
        ("pinned", 16),
        ("get", 4),
        ("set", 4),
        *[("device", 0), ("get", 4), ("set", 4)] * 3,
    ]


def test_cuda_aware_mpi_gets_the_vector_itself_after_a_synchronization(monkeypatch):
    cupy = FakeCupy()
    with installed(monkeypatch, FakeComm(kinds="system,mpi,cuda"), cupy):
        vector = Vector(cupy, [1, 2])
        MPI(limit=20).all_reduce(vector)
    assert vector.host.tolist() == [2, 4] and cupy.log == [("device", 0), ("synchronize",)]


# ---------------------------------------------------------------------- NCCL


@pytest.fixture
def nccl(monkeypatch):
    """Yield (communicator of rank 1 of 2, fake CuPy with its log of calls)."""
    cupy = FakeCupy()
    with installed(monkeypatch, FakeComm(rank=1), cupy):
        found = NCCL(MPI(limit=20), 1)
        cupy.log.clear()
        yield found, cupy


def test_nccl_starts_with_rank_zeros_id_on_this_ranks_gpu(monkeypatch):
    for rank, start in ((0, b"\x00\x01\x02"), (1, b"\x00\x00\x00")):  # the fake broadcast changes nothing
        cupy = FakeCupy()
        with installed(monkeypatch, FakeComm(rank=rank), cupy):
            NCCL(MPI(limit=20), rank)
        assert cupy.log == [("device", rank), ("NcclCommunicator", 2, 128, start, rank)]


@pytest.mark.parametrize(("dtype", "kind"), [("float32", 7), ("float64", 8), ("int64", 4)])
@pytest.mark.parametrize(("op", "number"), [("sum", 0), ("max", 2), ("min", 3)])
def test_all_reduce_is_in_place_on_the_current_stream(nccl, dtype, kind, op, number):
    ranks, cupy = nccl
    ranks.all_reduce(Vector(cupy, [1, 2, 3], dtype), op)
    assert cupy.log == [("device", 0), ("allReduce", 4096, 4096, 3, kind, number, 77)]


def test_equal_pieces_are_one_call_and_unequal_ones_a_group(nccl):
    ranks, cupy = nccl
    vector = Vector(cupy, range(6))
    ranks.reduce_scatter(vector, [0, 3, 6]), ranks.all_gather(vector, [0, 3, 6])
    assert cupy.log[1::2] == [
        ("reduceScatter", 4096, 4096 + 12, 3, 7, 0, 77),
        ("allGather", 4096 + 12, 4096, 3, 7, 77),
    ]
    cupy.log.clear()
    ranks.reduce_scatter(vector, [0, 4, 6])
    assert cupy.log[1:] == [
        ("groupStart",),
        ("reduce", 4096, 4096, 4, 7, 0, 0, 77),
        ("reduce", 4112, 4112, 2, 7, 0, 1, 77),
        ("groupEnd",),
    ]
    cupy.log.clear()
    ranks.all_gather(vector, [0, 4, 6])
    assert cupy.log[1:] == [
        ("groupStart",),
        ("broadcast", 4096, 4096, 4, 7, 0, 77),
        ("broadcast", 4112, 4112, 2, 7, 1, 77),
        ("groupEnd",),
    ]


def test_host_vectors_never_reach_nccl(nccl):
    ranks, cupy = nccl
    vector = np.ones(4)
    ranks.all_reduce(vector), ranks.reduce_scatter(vector, [0, 2, 4]), ranks.all_gather(vector, [0, 2, 4])
    ranks.broadcast(vector)
    assert cupy.log == [] and vector.tolist() == [2, 2, 4, 4]


def test_gpu_that_never_finishes_ends_all_ranks(monkeypatch, capsys):
    comm = FakeComm()
    monkeypatch.setattr(faults, "_process_age", lambda: 0.0)
    cupy = FakeCupy(finished=False)
    with installed(monkeypatch, comm, cupy):
        NCCL(MPI(limit=0.05), 0).wait()
    assert comm.aborted == [1]
    assert " s for rank 1 in the work of cupy:0, probably an NCCL call" in capsys.readouterr().err


# ---------------------------------------------------------------------- time limits and errors


def test_waiting_ends_at_the_limit_and_no_later():
    begun = time.monotonic()
    assert not faults.completes(lambda: False, 0.2)
    assert 0.2 <= time.monotonic() - begun < 2
    assert faults.completes(lambda: time.monotonic() - begun > 0.3, 5)


def test_time_in_which_the_process_was_suspended_does_not_count(monkeypatch):
    clock = iter([0.0] * faults.POLLS_WITHOUT_NAP + [0.1, 40.0, 40.1, 40.2])  # suspended between 0.1 and 40
    polls = iter([False] * (faults.POLLS_WITHOUT_NAP + 3) + [True])
    fake = SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda seconds: None)
    monkeypatch.setattr(faults, "time", fake)
    assert faults.completes(lambda: next(polls), 25)


def test_limit_is_the_seconds_plus_the_time_since_the_last_call(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(faults, "_process_age", lambda: 3.0)
    monkeypatch.setattr(faults, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    limit = faults.CallLimit(20)
    clock[0] += 4
    assert limit.now() == 27  # 3 before its creation, 4 since
    limit.call_ended()
    assert limit.now() == 20
    clock[0] += 60
    assert limit.now() == 80


@pytest.mark.parametrize("proc", [True, False], ids=["proc", "no proc"])
def test_process_age_counts_from_its_start(monkeypatch, proc):
    if not proc:
        monkeypatch.setattr(faults, "Path", lambda name: Path("nowhere") / name)
    code = (
        "import time; time.sleep(0.5); from ffnn_gpu.distributed import faults; print(faults._process_age())"
    )
    begun = time.monotonic()
    age = float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )
    assert 0.5 <= age <= time.monotonic() - begun + 0.1 if sys.platform == "linux" else age > 0
    assert 0 < faults._process_age() < time.monotonic() + 1


def test_call_beyond_its_limit_names_the_absent_ranks_and_ends_all(monkeypatch, capsys):
    comm = FakeComm(rank=1, size=4, polls=10**9, waiting={2: 3})
    monkeypatch.setattr(faults, "_process_age", lambda: 0.0)
    with installed(monkeypatch, comm):
        mpi, begun = MPI(limit=0.05), time.monotonic()
        mpi.barrier()
        assert 0.25 <= time.monotonic() - begun < 2  # its limit and its turn
        mpi.calls, comm.waiting = 900, {2: 900, 0: 700}
        mpi.all_reduce(np.ones(5))
        comm.waiting = {0: 902, 2: 901}
        mpi.barrier()
    assert comm.aborted == [1, 1, 1] and comm.sent == [
        (rank, call) for call in (1, 901, 902) for rank in (0, 2, 3)
    ]
    first, second, third = capsys.readouterr().err.splitlines()
    assert re.match(
        r"rank 1 of 4 has waited 0\.\d+ s for ranks 0 and 3 in barrier, its call number 1; they hang or",
        first,
    )
    assert re.match(
        r"rank 1 of 4 has waited \S+ s for ranks 0 and 3 in all_reduce of 5 numbers \(float64\), its", second
    )
    assert re.match(
        r"rank 1 of 4 has waited \S+ s for rank 3 in barrier, its call number 902; it hangs or is much", third
    )


def test_late_call_succeeds_and_leaves_no_message(monkeypatch, capsys):
    comm = FakeComm(rank=0, size=3, waiting={2: 1})
    with installed(monkeypatch, comm):
        mpi, begun = MPI(limit=0.2), time.monotonic()
        mpi.wait_until(lambda: len(comm.sent) == 2, "a call")  # both others were asked, after half the limit
        now = mpi.call_limit.now()
        assert now < 0.2 + time.monotonic() - begun - 0.09  # counts from the end of the call again
        mpi.close()
    assert comm.aborted == [] and comm.sent == [(1, 1), (2, 1)] and comm.waiting == {}
    assert capsys.readouterr().err == ""


def test_many_late_calls_leave_only_the_latest_messages(monkeypatch):
    comm = FakeComm(rank=0, size=3)
    roll_call = RollCall(comm)
    for call in range(1, 101):
        comm.waiting = {1: call, 2: call - 70}
        roll_call.report(call)
        assert comm.waiting == {} and len(roll_call._sent) == 2
    assert roll_call.absent(100) == [2] and len(comm.sent) == 200  # received calls are remembered


def test_ranks_give_up_in_turn(monkeypatch):
    for rank, turn in ((0, 0), (1, 0.2), (5, 1.0), (10, 2.0), (4000, 2.0)):
        with installed(monkeypatch, FakeComm(rank, size=4001)):
            assert MPI(limit=1)._turn == pytest.approx(turn)


def test_limit_is_read_from_the_environment(monkeypatch):
    assert faults.limit_of_environment() == faults.CallLimit().seconds == 20
    monkeypatch.setenv(faults.LIMIT, "300")
    assert faults.CallLimit().seconds == 300 and faults.CallLimit(7).seconds == 7
    for text in ("soon", "0", "-1", "inf", "nan"):
        monkeypatch.setenv(faults.LIMIT, text)
        wanted = f"FFNN_GPU_PARALLEL_LIMIT must be a positive number of seconds, not '{text}'"
        with pytest.raises(ConfigurationError, match=wanted):
            faults.CallLimit()
    with pytest.raises(ConfigurationError, match="limit must be a positive number of seconds, not 0"):
        faults.CallLimit(0)


class RankWithErrors(Single):
    """Rank 1 of 3 after an error; `everyone` is the errors of all ranks (None: this rank's error)."""

    rank, size = 1, 3

    def __init__(self, everyone):
        super().__init__()
        self.everyone, self.aborted = everyone, []

    def gather_errors(self, error, limit):
        return self.everyone and [error if other is None else other for other in self.everyone]

    def abort(self, status=1):
        self.aborted.append(status)


@pytest.mark.parametrize(
    ("everyone", "shown", "aborted"),
    [
        (None, "rank 1 of 3 raised this; every rank ends", [1]),
        ([None, None, None], None, []),
        ([7, None, None], "raised by ranks 1 and 2 of 3", []),
        ([7, None, 7], "raised by rank 1 of 3", []),
    ],
)
def test_each_different_error_is_printed_by_the_first_rank_that_has_it(capsys, everyone, shown, aborted):
    ranks = RankWithErrors(everyone)
    faults.end_all(ranks, ValueError("wrong"))
    text = capsys.readouterr().err
    assert ranks.aborted == aborted
    if shown is None:
        assert text == ""
    else:
        assert text.count("ValueError: wrong") == 1 and shown in text
