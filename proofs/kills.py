"""kill −9 at random times of a training that writes a checkpoint after every step.

After each kill the folder is copied, orphans and all; in the copy the checkpoint must load and the training go on to the end
of the one that nobody killed, bit for bit, and the next write must leave nothing beside it. The next process goes on in the
folder itself, so that trainings killed many times over are among them.

Why fork: starting Python takes longer than this training does.
"""

import os
import random
import shutil
import signal
import time
from pathlib import Path
from unittest import mock

from ffnn_gpu import atomic_folder, checkpoint
from proofs import Figure, Settings
from proofs.task import train

EPOCHS = 10


def prove(settings: Settings) -> list[Figure]:
    """One row: how many kills, how many of them in the midst of a write, and that nothing was lost."""
    rng, folder = random.Random(settings.seed), settings.scratch / "run"
    began = time.perf_counter()
    whole = train(settings.scratch / "whole", every_steps=1, epochs=EPOCHS)
    longest = time.perf_counter() - began
    killed = torn = 0
    lost: list[str] = []
    while killed < settings.kills:
        if not _killed(folder, rng.uniform(0, longest)):
            shutil.rmtree(folder)  # it came to its end first
            continue
        killed += 1
        torn += bool(_orphans(folder))
        lost += _losses(folder, settings.scratch / "copy", whole)
        if killed % 20 == 0: settings.say(f"kills: {killed} of {settings.kills}, {torn} within a write, {len(lost)} lost")
    figure = f"{killed} kills, {torn} in the midst of a write, {len(lost)} lost anything"
    return [Figure("kill −9 at any time leaves a whole checkpoint that leads to the same numbers", figure, not lost, lost)]


def _killed(folder: Path, seconds: float) -> bool:
    """Whether a training that goes on in `folder` could be killed `seconds` after it began. Raises if it failed."""
    child = os.fork()
    if child == 0:
        try:
            train(folder, every_steps=1, epochs=EPOCHS)
            os._exit(0)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code > 0: raise ChildProcessError(f"the training in {folder} failed by itself")
    return code < 0


def _orphans(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.glob(".*")) if folder.exists() else []


def _losses(folder: Path, copy: Path, whole: object) -> list[str]:
    """What is not as promised after a kill; nothing, one hopes."""
    if folder.exists(): shutil.copytree(folder, copy)
    try:
        for name in ("last", "best"):
            if atomic_folder.exists(copy / name): checkpoint.read(copy / name, "numpy")
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

