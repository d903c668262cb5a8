"""A log file for each rank: its decisions, a line per epoch, and what ended the run, with the time of day."""

import logging
import os
from pathlib import Path

from ffnn_gpu.distributed.communicator import Communicator
from ffnn_gpu.training.callbacks import Callback, Run
from ffnn_gpu.training.progress import describe

log = logging.getLogger("ffnn_gpu")


def open_log(folder: str | Path, communicator: Communicator) -> Path:
    """Append this rank's log lines to FOLDER/rank-R.log from now on; return the path."""
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
    """Log a line per epoch on every rank. Nothing appears where no log file is open."""

    def start(self, run: Run) -> None:
        log.info("training run of %d epochs, %d steps each", run.epochs, run.data.steps)

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        log.info("epoch %d/%d, step %d  %s", run.epoch, run.epochs, run.steps_done, describe(row))

    def after_interrupt(self, run: Run) -> None:
        log.info("signal %d ends the run after step %d", run.team.signal, run.steps_done)
