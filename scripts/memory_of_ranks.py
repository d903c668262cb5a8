"""`python scripts/memory_of_ranks.py`: measure the peak memory of ranks that train on rows in files.

    --rows N        rows of 64 float32, default 10,000,000: 2.6 GB in a temporary folder
    --files N       number of files that hold the rows, default 1
    --ranks N       processes that mpiexec starts, default 2
    --limit MIB     exit with status 1 if a rank's peak exceeds this, default 1024

The run is one epoch of a network 64-128-10. The peak is VmHWM of Linux: all resident pages, mapped files
included.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

try:
    from ffnn_gpu import Adam, Dense, Network, fit, npy_rows, relu, softmax_cross_entropy
    from ffnn_gpu.distributed import communicator
except ImportError:  # a fresh clone: make .venv first, then start again in it
    from bootstrap import restart

    sys.exit(restart(__file__))

FEATURES, CLASSES, BATCH, STATUS = 64, 10, 1 << 16, Path("/proc/self/status")


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--limit", type=float, default=1024)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.train:
        return train(options.train, options.limit)
    mpiexec = shutil.which(
        "mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    if not STATUS.exists() or mpiexec is None:
        print("error: this needs Linux and mpiexec (pip install mpi4py mpich)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="ffnn-gpu-") as folder:
        write(Path(folder), options.rows, options.files)
        command = [sys.executable, __file__, "--train", folder, "--limit", str(options.limit)]
        one_thread = {"OPENBLAS_NUM_THREADS": "1", "FFNN_GPU_THREADS": "1"}
        ranks = [mpiexec, "-n", str(options.ranks), *command]
        return min(1, subprocess.run(ranks, env={**os.environ, **one_thread}, check=False).returncode)


def write(folder, n, files):
    """Write n rows of random numbers to x-0.npy, x-1.npy, …, and their classes to y.npy."""
    rng = np.random.default_rng(0)
    np.save(folder / "y.npy", rng.integers(0, CLASSES, n))
    for k in range(files):
        rows = (k + 1) * n // files - k * n // files
        x = np.lib.format.open_memmap(folder / f"x-{k}.npy", "w+", np.float32, (rows, FEATURES))
        for start in range(0, rows, 1 << 16):
            x[start : start + (1 << 16)] = rng.random((min(1 << 16, rows - start), FEATURES), np.float32)
        x.flush()


def train(folder, limit):
    """What each rank runs.

    A single file is mapped by the caller, as many do; several are one array of rows.
    """
    ranks, files = communicator("numpy"), [*folder.glob("x-*.npy")]
    x = np.load(files[0], mmap_mode="r") if len(files) == 1 else npy_rows(files)
    before, began = resident("VmHWM"), time.perf_counter()
    network = Network(FEATURES, [Dense(128, relu), Dense(CLASSES)], ranks.device)
    data = x, np.load(folder / "y.npy", mmap_mode="r")
    options = {"epochs": 1, "batch_size": BATCH, "verbose": 0, "communicator": ranks}
    fit(network, softmax_cross_entropy, Adam(), data, **options)
    peak, seconds = resident("VmHWM"), time.perf_counter() - began
    sys.stdout.write(
        f"rank {ranks.rank} of {ranks.size}: {len(x):,} rows of {FEATURES} numbers in {len(files)} files, "
        f"{len(x) * FEATURES * 4 / 2**20:,.0f} MiB; peak {peak:.0f} MiB, {before:.0f} before training, "
        f"of files {resident('RssFile'):.0f} at the end; {seconds:.1f} s\n"
    )
    sys.stdout.flush()
    most = np.array([peak])
    ranks.all_reduce(most, "max")
    if most[0] > limit and ranks.rank == 0:
        print(f"error: more than {limit:g} MiB", file=sys.stderr)
    return int(most[0] > limit)


def resident(name):
    """Return a figure of /proc/self/status in MiB."""
    line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
