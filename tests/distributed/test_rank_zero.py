import threading
import time

import click
import pytest

from ffnn_gpu.cli import exit_codes
from ffnn_gpu.cli.messages import ranks_line, result_lines
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.distributed import Single, communicator_for
from ffnn_gpu.distributed import rank_zero as first
from ffnn_gpu.distributed.rank_zero import from_first
from ffnn_gpu.errors import ConfigurationError, DataError
from tests.distributed.threads import on_ranks


def test_every_rank_hears_what_the_first_found():
    worked = []

    def work(ranks):
        return from_first(ranks, lambda: worked.append(ranks.rank) or "runs/größe-1")

    assert on_ranks(3, work)[0] == ["runs/größe-1"] * 3 and worked == [0]
    assert on_ranks(2, lambda ranks: from_first(ranks, lambda: None))[0] == [None, None]
    assert from_first(Single(), lambda: "here") == "here"


def test_error_of_the_first_is_raised_alike_on_every_rank():
    def fail():
        raise ConfigurationError("runs/a exists")

    def work(ranks):
        with pytest.raises(ConfigurationError) as caught:
            from_first(ranks, fail)
        return str(caught.value)

    assert on_ranks(3, work)[0] == ["runs/a exists"] * 3


@pytest.mark.parametrize(
    ("error", "elsewhere"),
    [
        (PermissionError(13, "Permission denied", "runs/a"), None),
        (OSError("the disk is gone"), None),
        (FileNotFoundError(2, "No such file", "a", None, "b"), None),
        (DataError("row 3"), None),
        (OSError(5, b"gone"), "OSError: [Errno 5] b'gone'"),
        (ConfigurationError("width", 3), None),
        (
            ZeroDivisionError("only there"),
            "FfnnGpuError: rank 0 failed in what it does for all; its own error says why",
        ),
    ],
)
def test_files_that_cannot_be_written_are_everybodys_error_and_a_bug_is_the_firsts(error, elsewhere):
    def fail():
        raise error

    def work(ranks):
        with pytest.raises(Exception) as caught:
            from_first(ranks, fail)
        return f"{caught.type.__name__}: {caught.value}"

    here = f"{type(error).__name__}: {error}"
    assert on_ranks(3, work)[0] == [here, elsewhere or here, elsewhere or here]


def test_error_that_comes_after_the_limit_does_not_replace_what_the_others_were_told(monkeypatch):
    monkeypatch.setattr(first, "BEAT", 0.01)
    gone = threading.Event()

    def fail_late():
        gone.wait()
        raise OSError("the disk is gone")

    task = first.Task(fail_late, limit=0.02)
    while task.state() == first.BUSY:
        pass
    kind, _ = task.said()
    gone.set()
    task._thread.join()
    assert kind == type(task.error).__name__ == "CheckpointError"


def test_first_does_not_begin_before_all_are_there():
    here = []

    def work(ranks):
        if ranks.rank:
            time.sleep(0.05)
        here.append(ranks.rank)
        return from_first(ranks, lambda: str(len(here)))

    assert on_ranks(3, work)[0] == ["3"] * 3


class Ranks(Single):
    """Rank `rank` of 3 that all raise what `raised` says; notes whether it was closed and aborted."""

    size = 3

    def __init__(self, rank, everyone):
        super().__init__()
        self.rank, self.everyone, self.ended = rank, everyone, []

    def raised(self, error, limit):
        return self.everyone and [error if other is None else other for other in self.everyone]

    def abort(self, status=1):
        self.ended.append("aborted")
        raise SystemExit(status)

    def close(self):
        self.ended.append("closed")


@pytest.mark.parametrize(
    ("rank", "everyone", "lines"),
    [(0, [None] * 3, 1), (1, [None] * 3, 0), (1, [7, None, None], 1), (2, [7, None, None], 0)],
)
def test_error_is_said_by_the_first_rank_that_has_it(capsys, rank, everyone, lines):
    ranks = Ranks(rank, everyone)
    assert exit_codes.report_error(DataError("row 3 is empty"), ranks) == 3
    assert capsys.readouterr().err == "error: row 3 is empty\n" * lines and ranks.ended == ["closed"]


def test_error_that_not_all_have_ends_all_with_its_traceback(capsys):
    ranks = Ranks(1, None)
    with pytest.raises(SystemExit):
        exit_codes.report_error(DataError("row 3 is empty"), ranks)
    assert (
        "DataError: row 3 is empty\nrank 1 of 3 raised this" in capsys.readouterr().err
        and ranks.ended == ["aborted"]
    )


def test_what_click_refuses_keeps_its_exit_code(capsys):
    assert exit_codes.report_error(click.UsageError("no such option"), Ranks(0, [None] * 3)) == 2
    assert capsys.readouterr().err == "error: no such option\n"


def test_only_the_first_rank_notes_aloud(capsys):
    for rank in range(3):
        exit_codes.announcer(Ranks(rank, None), quiet=False)(f"from rank {rank}")
    exit_codes.announcer(Ranks(0, None), quiet=True)("quiet")
    assert capsys.readouterr().err == "from rank 0\n"


def test_device_of_one_process_stays_as_it_was_given(monkeypatch):
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert [communicator_for(name).device for name in ("cuda:1", "auto", "tpu")] == ["cuda:1", "auto", "tpu"]


def test_messages_say_how_many_ranks_and_how_to_start_them(tmp_path):
    config = TrainConfig(data="digits", batch_size=64)
    assert (
        ranks_line(Ranks(0, None), config)
        == "3 ranks, one process; of each batch of 64 rows a rank has 21 or 22"
    )
    report = {
        "test": None,
        "epochs": 3,
        "epochs_asked": 9,
        "interrupted": "SIGINT",
        "best_epoch": None,
        "seconds": 1.0,
    }
    last = result_lines(tmp_path, report | {"ranks": 3})[-1]
    assert (
        last.strip().startswith("mpiexec -n 3 ")
        and f"-m mpi4py -m ffnn_gpu train --resume --out {tmp_path}" in last
    )
    assert "mpiexec" not in "".join(result_lines(tmp_path, report | {"ranks": 1}))
