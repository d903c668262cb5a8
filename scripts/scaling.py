"""`python scripts/scaling.py`: measure a training step as width, depth, batch and number of rows grow.

    --largest N     rows of the largest data set, default 10,000,000 (2.6 GB in a temporary folder)
    --json FILE     write the numbers, the machine and the date to FILE

A step is the gather of a minibatch and one Adam step of a ReLU network with softmax cross-entropy in float32
on this CPU. Each figure is the median of many steps. GFLOP/s counts the matrix products only.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

try:
    from benchmarks import launcher
    from benchmarks.jobs import Job
    from ffnn_gpu import Adam, Dense, Network, relu, softmax_cross_entropy, train_step
    from ffnn_gpu.data.minibatches import Minibatches, Order
except ImportError:  # a fresh clone: make .venv first, then start again in it
    from bootstrap import restart

    sys.exit(restart(__file__))

CLASSES, SECONDS, FEWEST = 10, 1.0, 5
WIDTHS, DEPTHS, BATCHES = (32, 128, 512, 2048), (1, 2, 4, 8, 16, 64), (1, 8, 32, 128, 512, 2048)
ROWS = (10_000, 100_000, 1_000_000)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--largest", type=int, default=10_000_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    found = []
    with tempfile.TemporaryDirectory(prefix="ffnn-gpu-") as folder:
        few = rows_of(Path(folder), 20_000, 256)
        found += [measured("width", width, (256, width, width, CLASSES), 128, *few) for width in WIDTHS]
        found += [measured("hidden layers", L, (256, *(256,) * L, CLASSES), 128, *few) for L in DEPTHS]
        found += [measured("batch", B, (256, 256, 256, CLASSES), B, *few) for B in BATCHES]
        for n in (*(rows for rows in ROWS if rows < options.largest), options.largest):
            found.append(
                measured("rows in a file", n, (64, 128, 128, CLASSES), 256, *rows_of(Path(folder), n, 64))
            )
    if options.json:
        date, machine = (
            datetime.now(UTC).isoformat(timespec="seconds"),
            launcher.machine(Job("limits", (1, 1), 1)),
        )
        result = {"schema": 1, "date": date, "machine": machine, "lines": found}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def rows_of(folder, n, width):
    """Return x (n, width), random float32 in a memory-mapped file, and class indices (n,)."""
    rng, path = np.random.default_rng(0), folder / "x.npy"
    path.unlink(missing_ok=True)
    x = np.lib.format.open_memmap(path, "w+", np.float32, (n, width))
    for start in range(0, n, 1 << 16):
        x[start : start + (1 << 16)] = rng.random((min(1 << 16, n - start), width), np.float32)
    x.flush()
    return np.load(path, mmap_mode="r"), rng.integers(0, CLASSES, n)


def measured(what, size, widths, B, x, y):
    """Measure one size, print its line and return it."""
    *hidden, outputs = widths[1:]
    network = Network(widths[0], [*(Dense(width, relu) for width in hidden), Dense(outputs)], "numpy")
    data = Minibatches(network.backend, x, y, None, network.dtype, Order(B))
    ws, adam, times = network.workspace(B), Adam(), []
    began = time.perf_counter()
    while len(times) < FEWEST or (time.perf_counter() - began < SECONDS and len(times) < data.steps):
        step = time.perf_counter()
        _, n = data.choose(0, len(times) % data.steps)
        data.gather(0, n)
        x, y = data.x[:n], data.y[:n]
        train_step(network, softmax_cross_entropy, adam, x, y, ws.first(n), checked=True)
        times.append(time.perf_counter() - step)
    seconds = statistics.median(times[1:])
    line = {"what": what, "size": size, "widths": widths, "B": B, "us": 1e6 * seconds,
            "gflops": Job("train", widths, B).flop / seconds / 1e9}  # fmt: skip
    print(f"{what:>15} {size:>10,}  {line['us']:>12,.0f} µs  {line['gflops']:>6.0f} GFLOP/s", flush=True)
    return line


if __name__ == "__main__":
    sys.exit(main())
