"""Compare N steps with k steps, a stop, and N − k steps in a new object or process, bit for bit.

Every optimizer × every schedule × every k of two epochs is tried: mid-epoch, before and after the partial
batch. The run uses dropout, batch and layer normalization, averaging, clipping, early stopping, validation
and best weights. All of them resume in this process, from the files alone. Some also
resume in a new process; not all, because starting a process is slow.
"""

import json
import random
import subprocess
import sys
from itertools import product
from pathlib import Path
from unittest import mock

from ffnn_gpu.checkpoints import atomic_file
from ffnn_gpu.optim.choice import OPTIMIZERS
from proofs import ROOT, Figure, Settings
from proofs.task import SCHEDULED, STEPS, train

PROMISE = "N steps = k steps, a stop and N − k steps, bit for bit, for every optimizer × schedule"
PROCESSES = 14


def prove(settings: Settings) -> list[Figure]:
    """Return one row for this process and every k, and one for new processes."""
    pairs = [*product(OPTIMIZERS, SCHEDULED)]
    with mock.patch.object(atomic_file.os, "fsync"):  # atomicity is proved in kills.py
        wholes = {pair: train(settings.scratch / "whole" / "-".join(pair), *pair) for pair in pairs}
        differing = []
        for number, pair in enumerate(pairs, 1):
            ends = {k: _parts(settings.scratch, pair, k) for k in range(1, STEPS + 1)}
            differing += [f"{pair} after step {k}" for k, end in ends.items() if end != wholes[pair]]
            if number % 14 == 0:
                settings.say(f"resume: {number} of {len(pairs)} pairs, {len(differing)} differ")
    rng = random.Random(settings.seed)
    others: list[tuple[tuple[str, str], int, bool]] = []
    for optimizer in list(OPTIMIZERS) * (PROCESSES // len(OPTIMIZERS)):
        pair, k = (optimizer, rng.choice(SCHEDULED)), rng.randint(1, STEPS - 1)
        folder = settings.scratch / f"processes {len(others)}"
        in_a_process(folder, pair, k)
        others.append((pair, k, in_a_process(folder, pair) == wholes[pair]))
    wrong = [f"{pair} after step {k}" for pair, k, same in others if not same]
    stops = len(pairs) * STEPS
    return [
        Figure(
            PROMISE,
            f"{stops - len(differing)} of {stops} stops equal, in one process",
            not differing,
            differing,
        ),
        Figure(
            PROMISE,
            f"{len(others) - len(wrong)} of {len(others)} equal, in new processes (a sample)",
            not wrong,
            wrong,
        ),
    ]


def _parts(scratch: Path, pair: tuple[str, str], k: int) -> object:
    folder = scratch / "parts" / "-".join(pair) / str(k)
    train(folder, *pair, stop=k)
    return train(folder, *pair)


def in_a_process(folder: Path, pair: tuple[str, str], stop: int | None = None) -> object:
    """Return the result of `train` in a new process."""
    command = [sys.executable, "-m", "proofs.resume", str(folder), *pair, json.dumps(stop)]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=True).stdout)


if __name__ == "__main__":
    print(json.dumps(train(Path(sys.argv[1]), *sys.argv[2:4], stop=json.loads(sys.argv[4]))))
