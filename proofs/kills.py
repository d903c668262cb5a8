"""kill −9 at random times of a training that writes a checkpoint after every step.

After each kill `last` must hold at least as many updates as it ever did: the training tells through memory it shares what
it has written. Then the folder is copied, orphans and all; in the copy the checkpoint must load and the training go on to
the end of the one that nobody killed, bit for bit, and the next write must leave nothing beside it. The next process goes on
in the folder itself, so that trainings killed many times over are among them. Every fifth kill is of a training that cannot
exchange two folders in one step, as on macOS and Windows. Unless some kills fell within a write, nothing was tried.

Why fork: starting Python takes longer than this training does. Why what was written must be remembered: a training that lost
its checkpoint begins again and comes to the same numbers.
"""

import mmap
import os
import random
import shutil
import signal
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from ffnn_gpu.checkpoints import atomic_folder, checkpoint, folder_swap
from ffnn_gpu.errors import CheckpointError
from proofs import Figure, Settings
from proofs.task import train

EPOCHS = 10
PROMISE = "kill −9 at any time leaves a whole checkpoint, never an older one, that leads to the same numbers"


@dataclass
class Trial:
    """Trainings in one folder, killed again and again, and what came of it; `written` is shared with them."""

    folder: Path
    exchange: bool = True
    killed: int = 0
    torn: int = 0
    lost: list[str] = field(default_factory=list)
    written: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 8))

    def file_system(self) -> Any:
        """While entered, folders can be exchanged, or cannot."""
        return (
            nullcontext()
            if self.exchange
            else mock.patch.object(folder_swap, "_exchange", return_value=False)
        )


def prove(settings: Settings) -> list[Figure]:
    """One row: how many kills, how many of them in the midst of a write, and that nothing was lost."""
    rng, began = random.Random(settings.seed), time.perf_counter()
    whole = train(settings.scratch / "whole", every_steps=1, epochs=EPOCHS)
    longest = time.perf_counter() - began
    trials = [
        Trial(settings.scratch / "run"),
        Trial(settings.scratch / "run without exchange", exchange=False),
    ]
    for number in range(settings.kills):
        trial = trials[number % 5 == 4]
        before = set(_orphans(trial.folder))
        while not _killed(trial, rng.uniform(0, longest)):
            shutil.rmtree(trial.folder)  # it came to its end first
            trial.written[:], before = bytes(8), set()
        trial.killed += 1
        trial.torn += bool({*_orphans(trial.folder)} - before)
        with trial.file_system():
            trial.lost += [*_went_back(trial), *_losses(trial.folder, settings.scratch / "copy", whole)]
        if number % 20 == 19:
            settings.say(f"kills: {_figure(trials).figure}")
    return [_figure(trials)]


def _figure(trials: list[Trial]) -> Figure:
    killed, torn = [trial.killed for trial in trials], [trial.torn for trial in trials]
    lost = [problem for trial in trials for problem in trial.lost]
    figure = (
        f"{sum(killed)} kills ({killed[1]} without RENAME_EXCHANGE), {sum(torn)} ({torn[1]}) in the midst of a write, "
        f"{len(lost)} lost anything"
    )
    details = lost + ["too few kills: none fell within a write" for number in torn if not number]
    return Figure(PROMISE, figure, not details, details)


def _killed(trial: Trial, seconds: float) -> bool:
    """Whether a training that goes on in the folder could be killed `seconds` after it began. Raises if it failed."""
    child = os.fork()
    if child == 0:
        try:
            atomic_folder.write = _telling(atomic_folder.write, trial.written)
            with trial.file_system():
                train(trial.folder, every_steps=1, epochs=EPOCHS)
            os._exit(0)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code > 0:
        raise ChildProcessError(f"the training in {trial.folder} failed by itself")
    return code < 0


def _telling(write: Any, written: mmap.mmap) -> Any:
    """`write` that afterwards puts the number of updates in `last` where another process sees it."""

    def told(path: Path, files: Any, state: dict[str, Any]) -> None:
        write(path, files, state)
        if path.name == "last":
            written[:] = state["updates"].to_bytes(8)

    return told


def _went_back(trial: Trial) -> list[str]:
    """Whether `last` is gone, or older than it was at this kill or at any before it in this folder."""
    try:
        found = atomic_folder.read(trial.folder / "last")[1]["updates"]
    except CheckpointError:
        found = 0
    most = int.from_bytes(trial.written)
    trial.written[:] = max(most, found).to_bytes(8)
    return [f"`last` held {most} updates and holds {found or 'none'} after the kill"] if found < most else []


def _orphans(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.glob(".*")) if folder.exists() else []


def _losses(folder: Path, copy: Path, whole: object) -> list[str]:
    """What is not as promised after a kill; nothing, one hopes."""
    if folder.exists():
        shutil.copytree(folder, copy)
    try:
        for name in ("last", "best"):
            if atomic_folder.exists(copy / name):
                checkpoint.read(copy / name, "numpy")
        with mock.patch.object(atomic_folder.os, "fsync"):  # nobody kills this one
            end = train(copy, epochs=EPOCHS)
            for name in ("last", "best"):  # where nothing was left to train, nothing was written either
                atomic_folder.write(copy / name, *atomic_folder.read(copy / name))
        problems = [] if end == whole else ["the resumed training came to other numbers"]
        return problems + [f"{name} was left behind" for name in _orphans(copy)]
    except Exception as error:  # whatever it is, it is a loss
        return [f"{type(error).__name__}: {error}"]
    finally:
        shutil.rmtree(copy, ignore_errors=True)
