"""Send Ctrl-C and SIGTERM at random times to `ffnn-gpu train`: exit code 130 or 143, then exact resuming.

A signal comes at any time from the first epoch to the end of the process, also while plots are drawn. The run
is interrupted and resumed until it is complete. The model file is compared byte for byte, and every row of
the history without its times.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from proofs import ROOT, Figure, Settings

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
SETTINGS = ("--epochs=30", "--hidden=64,32", "--batch-size=16", "--seed=3", "--device=numpy", "--quiet")
SECONDS = 120


def prove(settings: Settings) -> list[Figure]:
    """Return one row per signal."""
    data, whole = settings.scratch / "data.npz", settings.scratch / "whole"
    rng = np.random.default_rng(0)
    np.savez(data, X=rng.normal(size=(600, 8)), y=rng.integers(0, 3, 600))
    began = time.perf_counter()
    _start(data, whole).communicate(timeout=SECONDS)
    longest = 0.7 * (time.perf_counter() - began)
    rows = []
    for number, code in CODES.items():
        wrong: list[str] = []
        codes: list[int] = []
        runs = 0
        while len(codes) < settings.signals:
            folder, chance = (
                settings.scratch / f"{number.name} {runs}",
                random.Random(f"{settings.seed} {number} {runs}"),
            )
            wrong += _interrupted(data, folder, number, chance, longest, codes)
            if _outcome(folder) != _outcome(whole):
                wrong.append(f"run {runs} has another result")
            runs += 1
            shutil.rmtree(folder)
            settings.say(f"signals: {len(codes)} × {number.name} in {runs} runs, {len(wrong)} wrong")
        wrong += [f"exit code {found}" for found in codes if found != code]
        figure = f"{len(codes)} interruptions of {runs} runs, {len(wrong)} wrong"
        promise = f"{number.name} at any time: exit code {code}, and the resumed run is the same"
        rows.append(Figure(promise, figure, not wrong, wrong))
    return rows


def _start(data: Path, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ffnn_gpu", "train", str(data), "--out", str(folder), *SETTINGS, *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _interrupted(
    data: Path, folder: Path, number: signal.Signals, chance: random.Random, longest: float, codes: list[int]
) -> list[str]:
    """Run and resume to the end, with a signal after a random time each; append the exit codes to `codes`."""
    while True:
        child = _start(data, folder, *(["--resume"] if folder.exists() else []))
        _await_training(child, folder)
        time.sleep(chance.uniform(0, longest))
        child.send_signal(number)
        errors = child.communicate(timeout=SECONDS)[1]
        if child.returncode == 0:
            return []
        codes.append(
            child.returncode if child.returncode > 0 else 128 - child.returncode
        )  # as a shell counts
        if codes[-1] not in CODES.values():
            return [errors.decode()[-200:]]


def _await_training(child: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until the process has installed its signal handlers, which it does when training begins."""
    handlers = Path(f"/proc/{child.pid}/status")
    ours = sum(1 << number - 1 for number in CODES)
    while child.poll() is None:
        caught = next(
            (line for line in handlers.read_text().splitlines() if line.startswith("SigCgt")), "SigCgt: 0"
        )
        if int(caught.split()[1], 16) & ours == ours:
            return
        time.sleep(0.005)


def _outcome(folder: Path) -> tuple[bytes, list[dict[str, float]]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in row.items() if k not in ("seconds", "samples_per_second")} for row in rows]
    return (folder / "model.safetensors").read_bytes(), kept
