"""A command that a signal ends leaves no temporary folder, and its exit code says which signal it was."""

import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from ffnn_gpu.cli import train
from ffnn_gpu.cli.commands import main
from ffnn_gpu.cli.ending import SIGNALS, Ended, Signals

pytest.importorskip("duckdb")
pytestmark = [pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")]
NOHUP = "import signal, runpy; signal.signal(signal.SIGHUP, signal.SIG_IGN); runpy.run_module('ffnn_gpu')"


def reading(folder, *program):
    """Start `train` on standard input; return its process once it has a temporary folder."""
    (folder / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, *program, "train", "-"],
        env={**os.environ, "TMPDIR": str(folder / "tmp"), "FFNN_GPU_DEVICE": "numpy"},
        cwd=folder,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not os.listdir(folder / "tmp"):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_while_a_table_is_read_leaves_no_temporary_folder(tmp_path, number):
    process = reading(tmp_path, "-m", "ffnn_gpu")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, "")
    assert os.listdir(tmp_path / "tmp") == [] and os.listdir(tmp_path) == ["tmp"]


def test_ignored_signal_stays_ignored(tmp_path):
    process = reading(tmp_path, "-c", NOHUP.replace("'ffnn_gpu'", "'ffnn_gpu', run_name='__main__'"))
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate("a,b\n", timeout=60)
    assert process.returncode == 3 and err.startswith("error: ")
    assert os.listdir(tmp_path / "tmp") == []


def test_error_of_a_library_that_a_signal_interrupts_counts_as_the_signal(monkeypatch):
    def interrupted(*arguments, **settings):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except Ended:
            raise RuntimeError("Query interrupted") from None

    monkeypatch.setattr(train, "train", interrupted)
    done = CliRunner().invoke(main, ["train", "digits", "--device", "numpy"])
    assert (done.exit_code, done.stderr) == (143, "")


def test_signals_are_handled_inside_only():
    before = [signal.getsignal(number) for number in SIGNALS]
    signals = Signals()
    with pytest.raises(Ended), signals:
        os.kill(os.getpid(), signal.SIGTERM)
    assert signals.received == signal.SIGTERM
    assert [signal.getsignal(number) for number in SIGNALS] == before
