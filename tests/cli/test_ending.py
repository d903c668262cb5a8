"""A command that a signal ends leaves no temporary folder, and its exit code says which signal it was."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ffnn_gpu.cli.ending import SIGNALS, Signals
from tests.every_case import some_of

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
    end, before = time.monotonic() + 60, set()
    # twice the same: Python's tempfile first tries a file there, which it removes at once
    while not before & (now := set(os.listdir(folder / "tmp"))):
        assert process.poll() is None and time.monotonic() < end
        before = now
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


CONNECTING = """
import os, signal, sys

class Finder:  # DuckDB imports modules from C++, where an exception would abort the process
    def find_spec(self, name, path=None, target=None):
        if os.listdir(os.environ["TMPDIR"]) and not done:
            done.append(name)
            os.kill(os.getpid(), signal.SIGTERM)

done = []
import duckdb
sys.meta_path.insert(0, Finder())
for name in [name for name in sys.modules if name.startswith(("pandas", "pyarrow", "decimal"))]:
    del sys.modules[name]
from ffnn_gpu.cli.commands import main
main(["inspect", "t.csv"])
"""


def test_signal_while_a_library_calls_python_ends_the_command(tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    done = subprocess.run(
        [sys.executable, "-c", CONNECTING],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (143, "")
    assert os.listdir(tmp_path / "tmp") == []


WRITING = """
import os, signal
from pathlib import Path
from ffnn_gpu.checkpoints import atomic_file
from ffnn_gpu.cli.ending import Signals

with Signals(), atomic_file.replacing(Path("answers.csv")) as half:
    half.write_text("1")
    if os.fork() == 0:
        os.kill(os.getpid(), signal.SIGTERM)
    os.wait()
    assert half.exists(), "a forked child has removed it"
    os.kill(os.getpid(), signal.SIGTERM)
"""


def test_signal_while_a_file_is_written_leaves_no_part_of_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WRITING],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (143, "")
    assert os.listdir(tmp_path) == []


def test_signals_are_handled_inside_only():
    before = [signal.getsignal(number) for number in SIGNALS]
    with Signals():
        assert not {signal.getsignal(number) for number in SIGNALS} & {*before}
    assert [signal.getsignal(number) for number in SIGNALS] == before


CLAIMED = """
import os, signal, sys
from ffnn_gpu.cli import ensemble, fitting
from ffnn_gpu.cli.commands import main

def fit(*arguments, **settings):
    print(*os.listdir(sys.argv[1]), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

fitting.fit_model = ensemble.fit_tabular = fit
main(["train", "t.csv", "--device", "numpy", *sys.argv[2:]])
"""


@pytest.mark.parametrize(
    ("made", "options"),
    some_of(
        [
            ("runs/t-1", []),  # an ensemble
            ("runs/t-1", ["--model", "mlp"]),
            ("old", ["--out", "old", "--overwrite", "--model", "mlp"]),
            ("a/b", ["--out", "a/b", "--model", "mlp"]),
        ],
        2,
    ),
)
def test_signal_before_the_training_begins_leaves_no_run_folder(tmp_path, made, options):
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{k % 7},{k % 2}\n" for k in range(40)))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.toml").write_text("")
    (tmp_path / "old" / "mine").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", CLAIMED, made, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 143 and "config.toml" in done.stdout, done.stderr
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} - {"old/config.toml"}
    assert left == {"t.csv", "old", "old/mine"}
    assert (tmp_path / "old" / "config.toml").exists() == (made != "old")
