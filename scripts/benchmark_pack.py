"""Train R small networks one after the other, and as one pack; compare wall and processor time.

    python scripts/benchmark_pack.py [--members 32] [--hidden 64,64] [--batch 256] [--epochs 10] [--rounds 5]

Both train with Adam on the same rows by `fit`, in turn, on the threads that FFNN_GPU_THREADS gives. Printed
are the least seconds of all rounds. A training run includes recording its step, but the machine code has been
compiled before.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from ffnn_gpu import Adam, Dense, Network, fit, mean_squared_error


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=32)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--hidden", default="64,64")
    parser.add_argument("--rows", type=int, default=5120)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(options.rounds):
        for name, train in CONTENDERS.items():
            found[name].append(seconds(lambda train=train: train(options)))
    least = {name: [min(each) for each in zip(*times, strict=True)] for name, times in found.items()}
    for name, (wall, processor) in least.items():
        print(f"{name:20} {wall:8.3f} s {processor:8.3f} s of processor time")
    ratios = [pack / singles for pack, singles in zip(least["pack"], least["one by one"], strict=True)]
    print(f"pack / one by one    {ratios[0]:8.2f}   {ratios[1]:8.2f}")


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Return the wall and processor seconds of work()."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def train(options: argparse.Namespace, seed: int, members: int | None) -> None:
    """Train one network or one pack."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(options.rows, options.columns)).astype("float32")
    y = np.tanh(x[:, :3]).sum(axis=1, keepdims=True)
    layers = [*(Dense(int(width), "relu") for width in options.hidden.split(",")), Dense(1)]
    network = Network(options.columns, layers, "cpu", seed=seed, members=members)
    settings = {"epochs": options.epochs, "batch_size": options.batch, "verbose": 0}
    fit(network, mean_squared_error, Adam(1e-3), (x, y), **settings)


def one_by_one(options: argparse.Namespace) -> None:
    for seed in range(options.members):
        train(options, seed, None)


def as_a_pack(options: argparse.Namespace) -> None:
    train(options, 0, options.members)


CONTENDERS = {"one by one": one_by_one, "pack": as_a_pack}

if __name__ == "__main__":
    main()
