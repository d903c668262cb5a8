"""Progress on standard error: a bar on a terminal, one line per epoch elsewhere.

Why rich is imported by the bar: importing it takes a sixth of the time that `import ffnn_gpu` took.
"""

from typing import TextIO

from ffnn_gpu.standard_error import is_terminal, write_line
from ffnn_gpu.training.callbacks import Callback, Run


def describe(row: dict[str, float]) -> str:
    """Return "loss 0.1234  val_loss 0.2345  …"."""
    shown = (name for name in row if name not in ("epoch", "seconds", "samples_per_second"))
    return "  ".join(f"{name} {row[name]:.4g}" for name in shown)


class ProgressLines(Callback):
    """One line per epoch."""

    first_rank_only = True

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        line = f"epoch {run.epoch}/{run.epochs}  {describe(row)}  {row['seconds']:.1f} s"
        write_line(line) if self.file is None else print(line, file=self.file)


class ProgressBar(Callback):
    """A bar over all steps with the latest losses beside it."""

    first_rank_only = True

    def start(self, run: Run) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        epoch, losses = TextColumn("epoch {task.fields[epoch]}"), TextColumn("{task.fields[row]}")
        columns = epoch, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), losses
        self.progress = Progress(*columns, console=Console(stderr=True), refresh_per_second=5)
        total, done = run.epochs * run.data.steps, run.steps_done
        self.task = self.progress.add_task("", total=total, completed=done, epoch=run.epoch, row="")
        self.progress.start()

    def needs_every_step(self) -> bool:
        return False

    def after_step(self, run: Run) -> None:
        self.progress.update(self.task, completed=run.steps_done, epoch=f"{run.epoch + 1}/{run.epochs}")

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        self.progress.update(self.task, completed=run.steps_done, row=describe(row))

    def finish(self, run: Run) -> None:
        self.progress.stop()


def progress(verbose: int) -> list[Callback]:
    """Return no callback for verbose=0, a bar for 1 on a terminal, else lines."""
    if not verbose:
        return []
    return [ProgressBar() if verbose == 1 and is_terminal() else ProgressLines()]
