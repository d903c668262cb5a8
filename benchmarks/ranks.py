"""The program of every rank: mpiexec -n N python -m benchmarks.ranks quick|whole FILE.

Rank 0 writes {"sums": [[bytes, seconds], …], "steps": [[widths, B, seconds], …]} to FILE.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.jobs import MNIST, Job, batch
from ffnn_gpu import Adam, Callback, Dense, Network, fit, relu, softmax_cross_entropy
from ffnn_gpu.distributed import communicator
from ffnn_gpu.training.data_parallel import DataParallel

NETWORKS = ((64, 128, 128, 10), MNIST, (1024, 2048, 2048, 2048, 10))
BATCHES = (64, 256, 1024)
SIZES = tuple(4**k for k in range(5, 14))  # bytes: 1 KiB to 64 MiB
BLOCKS, WARM = 5, 3


class Clock(Callback):
    """Record the time at the end of each step."""

    def start(self, run):
        self.times = []

    def after_step(self, run):
        self.times.append(time.perf_counter())


def seconds_of_sum(ranks, size):
    """Return the slowest rank's median time of one all_reduce of `size` bytes."""
    vector, repeats = np.zeros(size // 4, np.float32), max(3, min(200, 2**24 // size))
    blocks = []
    for _ in range(BLOCKS + 1):
        ranks.barrier()
        began = time.perf_counter()
        for _ in range(repeats):
            ranks.all_reduce(vector)
        blocks.append((time.perf_counter() - began) / repeats)
    slowest = np.array([statistics.median(blocks[1:])])
    ranks.all_reduce(slowest, "max")
    return float(slowest[0])


def seconds_of_step(ranks, widths, B, quick):
    """Return the slowest rank's median time of a step of `fit` with a global batch of B rows."""
    steps = 6 if quick else int(max(12, min(300, 4e10 / Job("train", widths, B).flop)))
    x, y = batch(Job("train", widths, 2 * B))
    network = Network(
        widths[0], [*(Dense(width, relu) for width in widths[1:-1]), Dense(widths[-1])], ranks.device
    )
    clock = Clock()
    team = DataParallel(ranks, check_every=10**9)
    options = {
        "epochs": steps // 2,
        "batch_size": B,
        "verbose": 0,
        "callbacks": [clock],
        "communicator": team,
    }
    fit(network, softmax_cross_entropy, Adam(1e-7), (x, y), **options)
    inside = np.diff(clock.times)[::2][WARM // 2 :]  # both ends in one epoch
    slowest = np.array([statistics.median(inside)])
    ranks.all_reduce(slowest, "max")
    return float(slowest[0])


def main(quick, path):
    ranks = communicator("numpy")
    networks, batches, sizes = (
        (NETWORKS[:1], BATCHES[:2], SIZES[:7:3]) if quick else (NETWORKS, BATCHES, SIZES)
    )
    sums = [[size, seconds_of_sum(ranks, size)] for size in sizes] if ranks.size > 1 else []
    steps = [[widths, B, seconds_of_step(ranks, widths, B, quick)] for widths in networks for B in batches]
    if ranks.rank == 0:
        Path(path).write_text(json.dumps({"sums": sums, "steps": steps}), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1] == "quick", sys.argv[2])
