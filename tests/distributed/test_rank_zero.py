"""Work on rank 0 for all ranks, and errors of the command line with several ranks."""

import threading
import time

import click
import pytest

from ffnn_gpu.cli import exit_codes
from ffnn_gpu.cli.messages import ranks_line, result_lines
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.distributed import Single, communicator_for, rank_zero
from ffnn_gpu.distributed.rank_zero import on_rank_zero
from ffnn_gpu.errors import ConfigurationError, DataError
from tests.distributed.threads import on_ranks


def test_result_of_rank_zero_is_returned_on_every_rank():
    worked = []

    def work(ranks):
        return on_rank_zero(ranks, lambda: worked.append(ranks.rank) or "runs/größe-1")

    assert on_ranks(3, work)[0] == ["runs/größe-1"] * 3 and worked == [0]
    assert on_ranks(2, lambda ranks: on_rank_zero(ranks, lambda: None))[0] == [None, None]
    assert on_rank_zero(Single(), lambda: "here") == "here"


def test_error_of_rank_zero_is_raised_on_every_rank():
    def fail():
        raise ConfigurationError("runs/a exists")

    def work(ranks):
        with pytest.raises(ConfigurationError) as caught:
            on_rank_zero(ranks, fail)
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
            "FfnnGpuError: rank 0 failed in work for all ranks; its own error gives the reason",
        ),
    ],
)
def test_file_error_is_raised_on_every_rank_and_a_bug_on_rank_zero_only(error, elsewhere):
    def fail():
        raise error

    def work(ranks):
        with pytest.raises(Exception) as caught:
            on_rank_zero(ranks, fail)
        return f"{caught.type.__name__}: {caught.value}"

    here = f"{type(error).__name__}: {error}"
    assert on_ranks(3, work)[0] == [here, elsewhere or here, elsewhere or here]


def test_error_after_the_limit_does_not_replace_the_one_already_sent(monkeypatch):
    monkeypatch.setattr(rank_zero, "BEAT", 0.01)
    gone = threading.Event()

    def fail_late():
        gone.wait()
        raise OSError("the disk is gone")

    running = rank_zero.Work(fail_late, limit=0.02)
    while running.state() == rank_zero.BUSY:
        pass
    kind, _ = running.outcome()
    gone.set()
    running._thread.join()
    assert kind == type(running.error).__name__ == "CheckpointError"


def test_rank_zero_begins_once_all_ranks_have_arrived():
    here = []

    def work(ranks):
        if ranks.rank:
            time.sleep(0.05)
        here.append(ranks.rank)
        return on_rank_zero(ranks, lambda: str(len(here)))

    assert on_ranks(3, work)[0] == ["3"] * 3


class Ranks(Single):
    """Rank `rank` of 3 with errors `everyone` (None: this rank's); `ended` lists calls of close and abort."""

    size = 3

    def __init__(self, rank, everyone):
        super().__init__()
        self.rank, self.everyone, self.ended = rank, everyone, []

    def gather_errors(self, error, limit):
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
def test_error_is_printed_by_the_first_rank_that_has_it(capsys, rank, everyone, lines):
    ranks = Ranks(rank, everyone)
    assert exit_codes.report_error(DataError("row 3 is empty"), ranks) == 3
    assert capsys.readouterr().err == "error: row 3 is empty\n" * lines and ranks.ended == ["closed"]


def test_error_of_some_ranks_ends_all_with_its_traceback(capsys):
    ranks = Ranks(1, None)
    with pytest.raises(SystemExit):
        exit_codes.report_error(DataError("row 3 is empty"), ranks)
    assert (
        "DataError: row 3 is empty\nrank 1 of 3 raised this" in capsys.readouterr().err
        and ranks.ended == ["aborted"]
    )


def test_usage_error_of_click_keeps_its_exit_code(capsys):
    assert exit_codes.report_error(click.UsageError("no such option"), Ranks(0, [None] * 3)) == 2
    assert capsys.readouterr().err == "error: no such option\n"


def test_only_rank_zero_prints_announcements(capsys):
    for rank in range(3):
        exit_codes.announcer(Ranks(rank, None), quiet=False)(f"from rank {rank}")
    exit_codes.announcer(Ranks(0, None), quiet=True)("quiet")
    assert capsys.readouterr().err == "from rank 0\n"


def test_device_of_one_process_is_unchanged(monkeypatch):
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert [communicator_for(name).device for name in ("cuda:1", "auto", "tpu")] == ["cuda:1", "auto", "tpu"]


def test_messages_contain_the_number_of_ranks_and_the_command_to_start_them(tmp_path):
    config = TrainConfig(data="digits", batch_size=64)
    assert (
        ranks_line(Ranks(0, None), config)
        == "3 ranks, one process; each computes 21 or 22 of the 64 rows of a batch"
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
