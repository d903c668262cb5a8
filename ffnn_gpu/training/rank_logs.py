"""A log file for each rank: what was decided, each epoch, and what ended it, with the time of day."""

import logging
import os
from pathlib import Path
from typing import Any

from ffnn_gpu.distributed.communicator import Communicator
from ffnn_gpu.training.callbacks import Callback
from ffnn_gpu.training.progress import describe

log = logging.getLogger("ffnn_gpu")


def open_log(folder: str | Path, communicator: Communicator) -> Path:
    """From now on this rank's lines go to FOLDER/rank-R.log, behind what stands there. Returns the file."""
    path = Path(folder) / f"rank-{communicator.rank}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(file)
    if logging.lastResort:
        log.addHandler(logging.lastResort)  # warnings still go to standard error
    log.setLevel(logging.INFO)
    here = communicator.device, f"process {os.getpid()}", communicator.reason
    log.info("rank %d of %d, %s", communicator.rank, communicator.size, ", ".join(here))
    return path


class EpochLog(Callback):
    """Lines for such files, on every rank; nothing where there is none."""

    def start(self, run: Any) -> None:
        log.info("training of %d epochs, %d steps each", run.epochs, run.data.steps)

    def after_epoch(self, run: Any, row: dict[str, float]) -> None:
        log.info("epoch %d/%d, step %d  %s", run.epoch, run.epochs, run.steps_done, describe(row))

    def after_interrupt(self, run: Any) -> None:
        log.info("signal %d ends the training after step %d", run.team.signal, run.steps_done)
