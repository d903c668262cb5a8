"""Train the members of an ensemble, several at a time, and predict the rows that each has held out."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends import Backend
from ffnn_gpu.errors import DivergedError
from ffnn_gpu.estimators.tabular.best_epoch import BestEpoch
from ffnn_gpu.estimators.tabular.criterion import Objective, predictions_of
from ffnn_gpu.estimators.tabular.recipe import SAMPLE, Recipe
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.nn.network import Network
from ffnn_gpu.training.callbacks import BestWeights, Callback, Run
from ffnn_gpu.training.fit import fit
from ffnn_gpu.training.history import History
from ffnn_gpu.training.interrupt import Interrupt
from ffnn_gpu.training.run import TrainingRun

Result = TypeVar("Result")


class Rows(NamedTuple):
    """Encoded rows: x (n, d) as the networks read it, y as the loss reads it, weights (n,) or None."""

    x: HostArray
    y: HostArray
    weight: HostArray | None = None

    def at(self, index: HostArray) -> tuple[Any, ...]:
        """Return these rows as `fit` takes them."""
        found = self.x[index], self.y[index]
        return found if self.weight is None else (*found, self.weight[index])

    def weight_at(self, index: HostArray) -> HostArray | None:
        """Return the weights of these rows, None without weights."""
        return None if self.weight is None else self.weight[index]


@dataclass(frozen=True)
class Plan:
    """A member to be trained: its recipe, the fold that it holds out, and its seed."""

    recipe: Recipe
    fold: int
    seed: int

    def __str__(self) -> str:
        return f"{self.recipe.name}, fold {self.fold + 1}"


class Member(NamedTuple):
    """A trained member: its network, its history, and its outputs for the rows of its fold.

    Attributes:
        history: a row per epoch; val_loss is the loss that was trained, with label smoothing.
        is_whole: every epoch of its recipe was trained.
        loss: of the rows of its fold, without label smoothing: the log loss, or the mean squared error in
            standard deviations of the target.
        score: of the rows of its fold, by the metric of the ensemble.
    """

    plan: Plan
    network: Network
    history: History
    held_out: HostArray
    is_whole: bool
    loss: float
    score: float


class Store:
    """Where trained members are kept for a later call with the same plans and rows; this one keeps none."""

    def load(self, plan: Plan, backend: Backend) -> tuple[Network, History] | None:
        """Return what was kept of the member of this plan, or None."""
        return None

    def save(self, member: Member) -> None:
        """Keep a member. Called in the thread that has trained it."""


class Until(Callback):
    """Stop after an epoch at whose end `over` is true."""

    def __init__(self, over: Callable[[], bool]) -> None:
        self.over = over

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        run.stop = run.stop or self.over()


class Released(Callback):
    """Free the member's copy of its rows at the end; else it waits for Python's garbage collector.

    It must be the first callback, because the first one finishes last.
    """

    def finish(self, run: Run) -> None:
        cast(TrainingRun, run).release()


def train_members(
    plans: Sequence[Plan],
    rows: Rows,
    folds: HostArray,
    task: Task,
    levels: Sequence[int],
    backend: Backend,
    dtype: str,
    deadline: float | None = None,
    callback: Callable[[Plan], Sequence[Callback]] = lambda plan: (),
    done: Callable[[Member], None] = lambda member: None,
    store: Store = Store(),
    objective: Objective | None = None,
) -> tuple[list[Member], int | None]:
    """Train one network for each plan on the rows of other folds; keep the weights of its best epoch.

    No member reads rows of the fold −1.

    As many are trained at a time as the backend is faster with; each computes on one thread, so its numbers
    do not depend on the others. A member whose loss becomes infinite is left out. After any other error,
    members stop after their epoch, and no other begins.

    Args:
        deadline: in seconds of `time.monotonic`. Then members stop after their epoch, and no other begins.
            The first member is trained for one epoch in every case.
        callback: gives each member its callbacks.
        done: called in this thread with each member when it and those before it are trained.
        store: members that it has are not trained again. Those that were stopped early are not kept.
        objective: with a metric, it decides which epoch is the best one; else the validation loss does.

    Returns:
        The trained members in the order of the plans, and the signal (Ctrl-C …) that ended the training.

    Raises:
        DivergedError: the loss of every member became infinite.
    """
    alone, members, failure, failed = backend.alone(), [], None, threading.Event()
    goal = Objective(task) if objective is None else objective
    with Interrupt() as interrupt, ThreadPoolExecutor(max(1, backend.runs_at_once)) as threads:

        def over() -> bool:
            late = deadline is not None and time.monotonic() > deadline
            return late or interrupt.signal is not None or failed.is_set()

        def train(plan: Plan) -> Member | DivergedError | None:
            if (kept := store.load(plan, alone)) is not None:
                return _member(plan, *kept, True, rows, folds, goal)
            if over() and (plan is not plans[0] or interrupt.signal is not None or failed.is_set()):
                return None
            try:
                callbacks = [Released(), _best(plan, rows, folds, goal), Until(over), *callback(plan)]
                found = _trained(plan, rows, folds, goal, levels, alone, dtype, callbacks)
                if isinstance(found, Member) and found.is_whole:
                    store.save(found)
                return found
            except BaseException:
                failed.set()
                raise

        try:
            for found in _results([threads.submit(train, plan) for plan in plans]):
                if isinstance(found, Member):
                    members.append(found)
                    done(found)
                failure = found if isinstance(found, DivergedError) else failure
        except BaseException:  # of a member, of done(), or a second Ctrl-C
            failed.set()
            raise
    if failure is not None and not members:
        raise failure
    return members, interrupt.signal


def _results(futures: Sequence[Future[Result]]) -> Iterator[Result]:
    """Yield the result of each future in their order; at an error, cancel those that have not begun.

    Why with a timeout: Python runs the handler of a signal in the main thread. If the system delivers the
    signal to another thread, the handler runs only after the main thread stops waiting.
    """
    try:
        for future in futures:
            while wait([future], timeout=0.1).not_done:
                pass
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def _trained(
    plan: Plan,
    rows: Rows,
    folds: HostArray,
    objective: Objective,
    levels: Sequence[int],
    backend: Backend,
    dtype: str,
    callbacks: list[Callback],
) -> Member | DivergedError:
    recipe, given = plan.recipe, rows
    task, is_held = recipe.task(objective.task), folds == plan.fold
    held_out, inside = np.flatnonzero(is_held), np.flatnonzero(~is_held & (folds >= 0))
    some = rows.x[np.sort(np.random.default_rng(plan.seed).permutation(inside)[:SAMPLE])]
    network = Network(some.shape[1], recipe.layers(levels, some, task), backend, dtype, plan.seed)
    recipe.initialize(network, some, plan.seed)
    rows, epochs = rows._replace(y=recipe.targets(rows.y, task)), recipe.passes(len(inside))
    try:
        history = fit(
            network,
            task.loss,
            recipe.optimizer(task.kind == "regression"),
            rows.at(inside),
            epochs=epochs,
            batch_size=recipe.batch(len(inside)),
            validation=rows.at(held_out),
            schedule=recipe.schedule,
            seed=plan.seed,
            callbacks=callbacks,
            verbose=0,
        )
        return _member(plan, network, history, len(history) == epochs, given, folds, objective)
    except DivergedError as error:
        return error


def _best(plan: Plan, rows: Rows, folds: HostArray, objective: Objective) -> Callback:
    """Return what keeps the weights of the best epoch of a member."""
    if objective.criterion is None:
        return BestWeights()
    held = np.flatnonzero(folds == plan.fold)
    return BestEpoch(objective, rows.x[held], rows.y[held], rows.weight_at(held))


def _member(
    plan: Plan,
    network: Network,
    history: History,
    is_whole: bool,
    rows: Rows,
    folds: HostArray,
    objective: Objective,
) -> Member:
    """Return a trained network as a member, with its outputs for its fold and what they are worth."""
    held = np.flatnonzero(folds == plan.fold)
    z, y, weight = network.predict(rows.x[held]), rows.y[held], rows.weight_at(held)
    p = predictions_of(objective.task, np.asarray(z, np.float64))
    with np.errstate(over="ignore", invalid="ignore"):  # of a member that is almost infinite
        loss, score = objective.loss(y, p, weight), objective.score(y, p, weight)
    return Member(plan, network, history, z, is_whole, loss, score)
