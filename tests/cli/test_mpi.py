"""`ffnn-gpu train` through a real mpiexec. Few launches: each takes seconds."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest

from ffnn_gpu import load
from ffnn_gpu.checkpoints import checkpoint
from tests.distributed.test_mpi import END, MISSING, MPIEXEC, ROOT, output_of
from tests.every_case import some_of

pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=f"{MISSING} is not installed: pip install mpi4py mpich")
]
ENVIRONMENT = {
    **os.environ, "FFNN_GPU_DEVICE": "numpy", "OPENBLAS_NUM_THREADS": "1", "FFNN_GPU_THREADS": "1",
}  # fmt: skip
PYTHON, RANKS = [sys.executable, "-m", "ffnn_gpu"], [sys.executable, "-m", "mpi4py", "-m", "ffnn_gpu"]
SETTINGS = [
    "rows.npy", "--task", "multiclass", "--hidden", "9,7", "--normalization", "batch", "--dropout", "0.2",
    "--ema", "0.9", "--dtype", "float64", "--batch-size", "13", "--epochs", "4", "--early-stopping", "9",
]  # fmt: skip
TIMES = ("seconds", "samples_per_second")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a working directory with rows.npy (last column: 3 classes); skip the plots: they take a second."""
    place, rng = tmp_path_factory.mktemp("ranks"), np.random.default_rng(5)
    (place / "blind").mkdir()
    (place / "blind/matplotlib.py").write_text("raise ImportError('hidden from this test')")
    x = rng.normal(size=(90, 4))
    np.save(place / "rows.npy", np.column_stack([x, (x[:, :3] + x[:, 1:]).argmax(axis=1)]))
    return place


def start(folder, n, *arguments, **environment):
    """Start the command on n ranks; one rank without mpiexec."""
    words = [*PYTHON, *arguments] if n == 1 else [MPIEXEC, "-n", str(n), *RANKS, *arguments]
    return subprocess.Popen(
        words,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**ENVIRONMENT, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder / 'blind'}", **environment},
    )


def done(folder, n, *arguments, **environment):
    """Run the command; return (exit status, printed text)."""
    process = start(folder, n, *arguments, **environment)
    text = output_of(process, 120)
    return process.returncode, text


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def result(folder):
    return json.loads((folder / "result.json").read_text())


def assert_same_run(found, wanted, n):
    """Compare parameters, moments, history and result.json, except times and the number of ranks."""
    arrays, reference = (
        checkpoint.read(folder / "checkpoint/last", "numpy", ())[2] for folder in (found, wanted)
    )
    numbers = [load(folder / "model", "numpy").params.to_host() for folder in (found, wanted)]
    assert arrays.keys() == reference.keys() and len(arrays) > 2
    for mine, theirs in ((arrays, reference), numbers):
        for name, value in theirs.items():
            most = 1e-12 * np.abs(value).max(initial=1e-300)
            np.testing.assert_allclose(mine[name], value, rtol=0, atol=most, err_msg=name)
    assert len(rows(found)) == len(rows(wanted))
    for row, expected in zip(rows(found), rows(wanted), strict=True):
        for name in expected.keys() - {*TIMES}:
            assert row[name] == pytest.approx(expected[name], rel=1e-11), name
    mine, theirs = result(found), result(wanted)
    assert (mine.pop("ranks"), theirs.pop("ranks")) == (n, 1)
    for name, value in theirs.pop("test").items():
        assert mine["test"][name] == pytest.approx(value, rel=1e-12), name
    for name in theirs.keys() - {"seconds", "reason", "peak_bytes"}:
        assert mine[name] == theirs[name], name


def train_until(folder, out, epochs, n, *more):
    """Start a training run on n ranks; return its process after at least `epochs` epochs."""
    process, file = (
        start(folder, n, "train", *SETTINGS[:-4], *more, "--out", out),
        folder / out / "metrics.jsonl",
    )
    end = time.monotonic() + 60
    while not file.is_file() or len(file.read_text().splitlines()) < epochs:
        assert process.poll() is None and time.monotonic() < end, output_of(process, 5)
        time.sleep(0.01)
    return process


def test_run_of_two_ranks_writes_the_same_results_as_one_process(folder):
    code, text = done(folder, 1, "train", *SETTINGS, "--out", "one")
    assert code == 0, text
    more = ["--shard-optimizer", "--rank-logs", "logs"]
    code, text = done(folder, 2, "train", *SETTINGS, *more, "--out", "two", PYTHONPATH=str(ROOT))
    assert code == 0, text
    if find_spec("matplotlib"):
        assert (folder / "two/learning_curve.png").is_file()
    assert_same_run(folder / "two", folder / "one", 2)
    for once in ("2 ranks, MPI between 2 processes", "epoch 4/4", "run folder two"):
        assert text.count(once) == 1, text
    assert "each computes 6 or 7 of the 13 rows of a batch" in text and "mpiexec -n 2" in text
    assert "shard_optimizer = true" in (folder / "two/config.toml").read_text()
    for rank in range(2):
        log = (folder / f"logs/rank-{rank}.log").read_text()
        assert f"rank {rank} of 2, numpy, process " in log and log.count("epoch 4/4, step 20") == 1, log
        assert log.count("90 rows × 4 features") == 1


def test_run_of_two_ranks_resumed_with_three_equals_the_uninterrupted_one(folder):
    # Why LayerNorm: over many steps, BatchNorm amplifies a difference in the last bit.
    more = ["--schedule", "constant", "--normalization", "layer"]
    process = train_until(folder, "cut", 2, 2, "--epochs", "100000", *more)
    process.send_signal(signal.SIGTERM)
    text = output_of(process, END)
    assert process.returncode == 143, text
    assert text.count("interrupted by SIGTERM") == 1 and "mpiexec -n 2" in text
    assert "Traceback" not in text and "Abort" not in text
    assert result(folder / "cut")["interrupted"] == "SIGTERM"
    epochs = str(len(rows(folder / "cut")) + 2)
    code, text = done(folder, 3, "train", "--resume", "--out", "cut", "--epochs", epochs)
    assert code == 0 and f"epoch {epochs}/{epochs}" in text and "epoch 1/" not in text, text
    code, text = done(folder, 1, "train", *SETTINGS[:-4], *more, "--epochs", epochs, "--out", "whole")
    assert code == 0, text
    assert_same_run(folder / "cut", folder / "whole", 3)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    some_of(
        [
            pytest.param(["nothing.csv"], 3, "error: there is no file nothing.csv", id="data"),
            pytest.param(
                ["rows.npy", "--epochs", "many"], 2, "error: epochs = 'many' is not accepted", id="flag"
            ),
            pytest.param(
                ["rows.npy", "--out", "taken"], 2, "error: taken exists and is not a run folder", id="folder"
            ),
            pytest.param(
                ["rows.npy", "--optimizer", "magic"], 2, "error: no optimizer is called 'magic'", id="name"
            ),
        ],
        2,
    ),
)
def test_error_of_all_ranks_is_printed_once_with_its_exit_code(folder, arguments, code, message):
    (folder / "taken").mkdir(exist_ok=True)
    (folder / "taken/precious").touch()
    found, text = done(folder, 2, "train", *arguments)
    assert (found, text.count("error: "), text.count(message)) == (code, 1, 1), text
    assert "Traceback" not in text and len(text.splitlines()) == 1


def test_error_of_one_rank_ends_all_ranks_with_its_traceback(folder):
    """The log file of rank 1 cannot be written."""
    (folder / "half/rank-1.log").mkdir(parents=True)
    code, text = done(
        folder, 2, "train", *SETTINGS, "--rank-logs", "half", "--out", "never", FFNN_GPU_PARALLEL_LIMIT="4"
    )
    assert (
        code != 0 and text.count("Traceback") == 1 and "rank 1 of 2 raised this; every rank ends" in text
    ), text
    assert not (folder / "never").exists()


def test_killed_rank_ends_all_ranks_and_leaves_a_whole_checkpoint(folder):
    process = train_until(folder, "killed", 3, 3, "--epochs", "1000000", "--rank-logs", "pids")
    victim = int((folder / "pids/rank-1.log").read_text().split("process ")[1].split(",")[0])
    os.kill(victim, signal.SIGKILL)
    text = output_of(process, END)
    assert process.returncode != 0, text
    load(folder / "killed/checkpoint/last", "numpy")
    before = len(rows(folder / "killed"))
    code, text = done(folder, 1, "train", "--resume", "--out", "killed", "--epochs", str(before + 1))
    assert code == 0 and f"epoch {before + 1}/{before + 1}" in text, text


DATABASE = """
from ffnn_gpu.distributed import communicator
from ffnn_gpu.tables.embedded_database import connect
communicator("numpy")
print(*connect().execute("SELECT current_setting('memory_limit'), current_setting('threads')").fetchone())
"""


def test_databases_of_ranks_share_the_memory_of_the_machine(folder):
    pytest.importorskip("duckdb")
    said = []
    for n in (1, 2):
        words = [*([MPIEXEC, "-n", "2"] if n == 2 else []), sys.executable, "-c", DATABASE]
        settings = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
        said += subprocess.run(
            words, cwd=folder, env=settings, capture_output=True, text=True, check=True, timeout=60
        ).stdout.splitlines()
    (whole, unit, threads), *halves = [line.split() for line in said]
    assert len(halves) == 2 and threads == "1" and {line[1] for line in halves} == {unit}
    for half, _, threads in halves:
        assert float(half) == pytest.approx(float(whole) / 2, rel=0.02) and threads == "1"


ENCODED_ONCE = """
from ffnn_gpu.arrays import file_rows
from ffnn_gpu.cli import shared_table, train
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.distributed import communicator
from ffnn_gpu.tables import encoded
from ffnn_gpu.tables.encoding import Encoding

encoded.MAPPED = file_rows.MAPPED = 0
encode, calls = Encoding.encode, []
Encoding.encode = lambda *arguments: calls.append(1) or encode(*arguments)
read, read_calls = shared_table.read_training, []
shared_table.read_training = lambda config: read_calls.append(1) or read(config)
ranks = communicator("numpy")
query = "SELECT * FROM (FROM 't.csv') ORDER BY random()"  # every reading returns the rows in another order
config = TrainConfig(data="", query=query, out="large", hidden=(4,), epochs=1, test=0, validation=0)
train.train(config, communicator=ranks)
print(f"rank {ranks.rank}: {len(read_calls)} tables, {len(calls)} blocks")
"""


def test_one_rank_reads_and_encodes_a_large_table_for_all(folder):
    pytest.importorskip("duckdb")
    lines = [f"{k % 7},{'abc'[k % 3]},{k % 2}" for k in range(120)]
    (folder / "t.csv").write_text("\n".join(["x,level,y", *lines]) + "\n")
    (folder / "tmp").mkdir()
    words = [MPIEXEC, "-n", "2", sys.executable, "-c", ENCODED_ONCE]
    settings = {
        **ENVIRONMENT,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder / 'blind'}",
        "TMPDIR": str(folder / "tmp"),
    }
    found = subprocess.run(
        words, cwd=folder, env=settings, capture_output=True, text=True, check=True, timeout=60
    )
    printed = sorted(re.findall(r"rank \d: \d tables, \d blocks", found.stdout))  # lines may mix
    assert printed == ["rank 0: 1 tables, 1 blocks", "rank 1: 0 tables, 0 blocks"]
    assert (folder / "large/encoded.npy").is_file() and os.listdir(folder / "tmp") == []
