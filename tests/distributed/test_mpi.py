"""Ranks started by mpiexec. There are few launches, each with many cases, because a launch takes seconds."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from ffnn_gpu import load

ROOT = Path(__file__).resolve().parents[2]
MPIEXEC = shutil.which(
    "mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
)
MISSING = next(
    (name for name, there in {"mpi4py": find_spec("mpi4py"), "mpiexec": MPIEXEC}.items() if not there), None
)
pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=f"{MISSING} is not installed: pip install mpi4py mpich")
]
END = 30  # seconds within which every rank must have ended


def start(n, task, folder, **environment):
    """Start mpiexec with n ranks that run a task of rank_tasks.py."""
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "FFNN_GPU_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [MPIEXEC, "-n", str(n), sys.executable, "-m", "tests.distributed.rank_tasks", task, str(folder)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **one_thread, **environment},
    )


def output_of(process, seconds):
    """Return the output of the ranks; fail if they do not end within `seconds`."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"not every rank ended within {seconds} s: {process.communicate()[0]}") from None


def under_way(folder, n):
    """Wait until n ranks train, and return their process ids."""
    files = [folder / f"rank-{rank}" for rank in range(n)]
    end = time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < end, "the ranks did not begin to train"
        time.sleep(0.05)
    return [int(file.read_text()) for file in files]


def test_ranks_of_mpiexec_train_to_what_one_process_does_and_others_go_on(tmp_path):
    process = start(2, "exact", tmp_path)
    text = output_of(process, 120)
    assert process.returncode == 0 and text.count("done exact") == 2, text
    process = start(3, "resume", tmp_path)
    text = output_of(process, 120)
    assert process.returncode == 0 and text.count("done resume") == 3, text


def test_three_ranks_train_to_what_one_process_does(tmp_path):
    process = start(3, "exact", tmp_path)
    text = output_of(process, 120)
    assert process.returncode == 0 and text.count("done exact") == 3, text


def test_rank_that_raises_ends_all_with_its_traceback_once(tmp_path):
    process = start(3, "one_raises", tmp_path)
    text = output_of(process, END)
    assert process.returncode != 0
    assert text.count("ZeroDivisionError: only here") == 1 and text.count("Traceback") == 1, text
    assert "rank 2 of 3 raised this; every rank ends" in text


def test_rank_that_raises_before_it_meets_the_others_ends_all(tmp_path):
    process = start(3, "absent", tmp_path, FFNN_GPU_PARALLEL_LIMIT="3")
    text = output_of(process, END)
    assert process.returncode != 0 and "ValueError: never came" in text, text
    # The limit is 3 s plus the age of the process when MPI starts.
    printed = re.search(r"Timeout \((\d+):(\d\d):(\d\d(?:\.\d+)?)\)", text)
    assert printed, text
    hours, minutes, seconds = (float(part) for part in printed.groups())
    assert 3600 * hours + 60 * minutes + seconds >= 3, text


def test_rank_that_hangs_before_the_first_step_ends_all(tmp_path):
    begun = time.monotonic()
    process = start(3, "hangs", tmp_path, FFNN_GPU_PARALLEL_LIMIT="3")
    text = output_of(process, END)
    assert process.returncode != 0 and time.monotonic() - begun < 15, text
    # Whichever rank came first.
    assert re.search(r"rank [12] of 3 has waited \S+ s for rank 0 in", text), text


def test_error_of_every_rank_is_printed_once(tmp_path):
    process = start(3, "all_raise", tmp_path)
    text = output_of(process, END)
    assert process.returncode != 0
    assert (
        text.count("batch_size must be a whole number of at least 1, not 0") == 1
        and text.count("Traceback") == 1
    ), text
    assert "raised by ranks 0, 1 and 2 of 3" in text


@pytest.mark.parametrize(
    ("number", "limit"), [(signal.SIGKILL, "25"), (signal.SIGSTOP, "3")], ids=["killed", "stopped"]
)
def test_rank_that_is_killed_or_hangs_ends_all_and_leaves_a_whole_checkpoint(tmp_path, number, limit):
    process = start(3, "forever", tmp_path, FFNN_GPU_PARALLEL_LIMIT=limit)
    pids = under_way(tmp_path, 3)
    os.kill(pids[1], number)
    text = output_of(process, END)
    assert process.returncode != 0
    if number == signal.SIGSTOP:
        assert re.findall(r"rank 0 of 3 has waited 3\S* s for rank 1 in \w+", text), text
    assert text.count("has waited") == (number == signal.SIGSTOP), text
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    load(tmp_path / "checkpoint" / "last", "numpy")
