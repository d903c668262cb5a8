"""The history of a run for TensorBoard."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.training.callbacks.callback import Callback, Run


@dataclass
class TensorBoard(Callback):
    """Write each column of the history as a curve over the epochs, by tensorboardX.

        fit(…, callbacks=[TensorBoard("runs/first")])        tensorboard --logdir runs

    A resumed run continues the curves: points after the checkpoint are replaced.

    Args:
        path: the folder of the event files.

    Raises:
        ConfigurationError: when the run starts, if tensorboardX is not installed.
    """

    first_rank_only = True

    path: str | Path

    def start(self, run: Run) -> None:
        _library()  # a missing package is an error before the first step
        self.writer: Any = None

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        if self.writer is None:  # after a checkpoint has restored the epoch
            # tensorboardX names a file by the second, and a run resumed in the same one would replace it
            self.writer = _library().SummaryWriter(
                str(self.path), purge_step=run.epoch, filename_suffix=f".{time.time_ns()}"
            )
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, run.epoch)
        self.writer.flush()

    def finish(self, run: Run) -> None:
        if self.writer is not None:
            self.writer.close()


def _library() -> Any:
    try:
        import tensorboardX
    except ImportError as error:
        raise ConfigurationError(
            f'TensorBoard needs tensorboardX: pip install "ffnn_gpu[tensorboard]" ({error})'
        ) from error
    return tensorboardX
