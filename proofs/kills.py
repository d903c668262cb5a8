"""Send kill −9 at random times to a training run that writes a checkpoint after every step.

After each kill:

- `last` holds at least as many updates as before. The run counts its writes in shared memory.
- In a copy of the folder, with all leftovers, the checkpoint loads, and the run continues to the same end as
  a run without a kill, bit for bit.
- The run that continues leaves nothing beside the files, also if no step was left.

The next process continues in the folder itself, so some runs are killed many times. The proof fails unless
some kills fell within a write.

Why fork: starting Python takes longer than this run. Why writes are counted: a run that lost its checkpoint
begins again and reaches the same numbers.
"""

import mmap
import os
import random
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from ffnn_gpu.checkpoints import atomic_file, checkpoint
from ffnn_gpu.errors import CheckpointError
from ffnn_gpu.nn.network import Network
from proofs import Figure, Settings
from proofs.task import train

EPOCHS = 10
PROMISE = "kill −9 at any time leaves a whole checkpoint, never an older one, that leads to the same numbers"


@dataclass
class Trial:
    """Training runs in one folder, killed repeatedly; they share `written` with this process."""

    folder: Path
    killed: int = 0
    torn: int = 0
    lost: list[str] = field(default_factory=list)
    written: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 8))


def prove(settings: Settings) -> list[Figure]:
    """Return one row: the kills, those within a write, and what was lost."""
    rng, began = random.Random(settings.seed), time.perf_counter()
    whole = train(settings.scratch / "whole", every_steps=1, epochs=EPOCHS)
    longest = time.perf_counter() - began
    trial = Trial(settings.scratch / "run")
    while trial.killed < settings.kills:
        before = {*_leftovers(trial.folder)}
        if not _killed(trial, rng.uniform(0, longest)):  # it ended before the kill
            shutil.rmtree(trial.folder)
            trial.written[:] = bytes(8)
            continue
        trial.killed += 1
        trial.torn += bool({*_leftovers(trial.folder)} - before)
        trial.lost += [*_went_back(trial), *_losses(trial.folder, settings.scratch / "copy", whole)]
        if trial.killed % 20 == 0:
            settings.say(f"kills: {_figure(trial).figure}")
    return [_figure(trial)]


def _figure(trial: Trial) -> Figure:
    figure = f"{trial.killed} kills, {trial.torn} within a write, {len(trial.lost)} lost anything"
    details = trial.lost + ["too few kills: none fell within a write"] * (not trial.torn)
    return Figure(PROMISE, figure, not details, details)


def _killed(trial: Trial, seconds: float) -> bool:
    """Resume in the folder and kill after `seconds`; return False if the run ended first.

    Raises if it failed.
    """
    child = os.fork()
    if child == 0:
        try:
            checkpoint.write = _telling(checkpoint.write, trial.written)
            train(trial.folder, every_steps=1, epochs=EPOCHS)
            os._exit(0)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code > 0:
        raise ChildProcessError(f"the training run in {trial.folder} failed before the kill")
    return code < 0


def _telling(write: Any, written: mmap.mmap) -> Any:
    """Return `write` extended by storing the number of updates in `last` in shared memory."""

    def told(network: Network, path: Path, *more: Any) -> None:
        write(network, path, *more)
        if path.name == "last":
            written[:] = int(network.params.step[0]).to_bytes(8)

    return told


def _went_back(trial: Trial) -> list[str]:
    """Return a sentence if `last` is gone, or older than at this kill or at an earlier one in this folder."""
    try:
        found = checkpoint.read(trial.folder / "last", "numpy")[1]["updates"]
    except CheckpointError:
        found = 0
    most = int.from_bytes(trial.written)
    trial.written[:] = max(most, found).to_bytes(8)
    return [f"`last` held {most} updates and holds {found or 'none'} after the kill"] if found < most else []


def _leftovers(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.glob(".*")) if folder.exists() else []


def _losses(folder: Path, copy: Path, whole: object) -> list[str]:
    """Return the broken promises after a kill."""
    if folder.exists():
        shutil.copytree(folder, copy)
    try:
        for name in ("last", "best"):
            if checkpoint.find(copy / name):
                checkpoint.read(copy / name, "numpy")
        with mock.patch.object(atomic_file.os, "fsync"):  # nobody kills this one
            end = train(copy, epochs=EPOCHS)
        problems = [] if end == whole else ["the resumed training came to other numbers"]
        return problems + [f"{name} was left behind" for name in _leftovers(copy)]
    except Exception as error:  # any exception is a loss
        return [f"{type(error).__name__}: {error}"]
    finally:
        shutil.rmtree(copy, ignore_errors=True)
