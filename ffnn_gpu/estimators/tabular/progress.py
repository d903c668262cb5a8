"""Progress of an ensemble on standard error: a bar on a terminal, a line per member elsewhere."""

from collections.abc import Sequence
from typing import Any, Self

from ffnn_gpu.estimators.tabular.members import Member, Plan
from ffnn_gpu.standard_error import is_terminal, write_line
from ffnn_gpu.training.callbacks import Callback, Run


class _Epochs(Callback):
    """Tells the bar about each epoch of a member, in the thread that trains it."""

    def __init__(self, bar: Any, task: Any, share: float) -> None:
        self.bar, self.task, self.share, self.done = bar, task, share, 0.0

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        self.done += self.share / run.epochs
        self.bar.advance(self.task, self.share / run.epochs)

    def finish(self, run: Run) -> None:
        self.bar.advance(self.task, self.share - self.done)


class Progress:
    """Context manager: prints while the members of an ensemble are trained.

    members: their number. verbose: 0 for silence.
    """

    def __init__(self, members: int, verbose: int) -> None:
        self.members, self.verbose = members, verbose
        self.finished = 0
        self.bar: Any = None

    def __enter__(self) -> Self:
        if self.verbose and is_terminal():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            member = TextColumn("member {task.fields[member]}")
            columns = member, BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[latest]}")
            self.bar = Bar(*columns, console=Console(stderr=True), refresh_per_second=5)
            self.task = self.bar.add_task("", total=self.members, member=f"0/{self.members}", latest="")
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def callbacks(self, plan: Plan) -> Sequence[Callback]:
        """Return what a member reports its epochs to."""
        return () if self.bar is None else (_Epochs(self.bar, self.task, 1.0),)

    def done(self, member: Member) -> None:
        """Print a finished member."""
        self.finished += 1
        count, best = f"{self.finished}/{self.members}", member.loss
        if self.bar is not None:
            shown = max(self.finished, self.bar.tasks[0].completed)  # a member that was kept has no epochs
            self.bar.update(self.task, completed=shown, member=count, latest=f"{member.plan}: {best:.4g}")
        elif self.verbose:
            seconds = sum(member.history["seconds"])
            write_line(f"member {count}  {member.plan}  val_loss {best:.4g}  {seconds:.1f} s")
