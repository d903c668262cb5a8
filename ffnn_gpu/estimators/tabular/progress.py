"""Progress of an ensemble on standard error: its expected time, and a bar or a line per member."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

from ffnn_gpu.checks import counted
from ffnn_gpu.estimators.tabular.members import Member, Plan
from ffnn_gpu.standard_error import is_terminal, write_line
from ffnn_gpu.training.callbacks import Callback, Run

LONG = 10.0  # seconds from which the expected time is printed


class _Epochs(Callback):
    """Tells the bar about each epoch of a member, in the thread that trains it."""

    def __init__(self, bar: Any, task: Any, share: float) -> None:
        self.bar, self.task, self.share, self.done = bar, task, share, 0.0

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        self.done += self.share / run.epochs
        self.bar.advance(self.task, self.share / run.epochs)

    def finish(self, run: Run) -> None:
        self.bar.advance(self.task, self.share - self.done)


class _Expected(Callback):
    """Passes on how long a member will take, as soon as its second epoch is over; the first one compiles."""

    def __init__(self, known: Callable[[float], None]) -> None:
        self.known, self.spent = known, 0.0

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        if run.epoch <= 2:
            self.spent += row["seconds"]
        if run.epoch == min(2, run.epochs):
            self.known(self.spent + (run.epochs - run.epoch) * row["seconds"])


class Progress:
    """Context manager: prints while the members of an ensemble are trained.

    Args:
        recipes: their names. folds: each recipe has a member for each.
        verbose: 0 for silence, "auto" for the expected time alone.
        at_once: members that are trained at a time.
    """

    def __init__(self, recipes: Sequence[str], folds: int, verbose: int | str, at_once: int = 1) -> None:
        self.members, self.verbose = len(recipes) * folds, 0 if verbose == "auto" else int(verbose)
        self.unknown = {*recipes} if verbose else set()  # recipes of which no member has made two epochs
        self.share, self.expected = folds / max(1, min(at_once, self.members)), 0.0
        self.lock = threading.Lock()
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
        found: list[Callback] = [] if self.bar is None else [_Epochs(self.bar, self.task, 1.0)]
        name = plan.recipe.name
        if name in self.unknown:
            found.append(_Expected(lambda seconds: self.known(name, seconds)))
        return found

    def known(self, recipe: str, seconds: float) -> None:
        """Add what a member of a recipe takes. Print the time of all when each recipe is known."""
        with self.lock:
            if recipe not in self.unknown:
                return
            self.unknown.remove(recipe)
            self.expected += self.share * seconds
            if self.unknown or self.expected < LONG or self.bar is not None:
                return
        members = counted(self.members, "member")
        write_line(
            f"training {members} to the end takes about {self.expected:.0f} s; a time limit or a smaller "
            "preset shortens it"
        )

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
