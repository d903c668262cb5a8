"""One trial: a training run that reports every epoch to the study, and how it ended."""

import math
import time
from dataclasses import dataclass, field
from typing import Any, cast

from ffnn_gpu.errors import FfnnGpuError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.settings import TrainConfig
from ffnn_gpu.estimators.tuning.optuna_package import optuna
from ffnn_gpu.estimators.tuning.problem import Problem
from ffnn_gpu.estimators.tuning.space import settings_of
from ffnn_gpu.estimators.tuning.study import CUT, EPOCHS, REASON, SECONDS, Study
from ffnn_gpu.training.callbacks import Callback, Run
from ffnn_gpu.training.history import History
from ffnn_gpu.training.run import TrainingRun


class TimeIsUp(Exception):  # noqa: N818
    """The search ends while this trial runs."""


@dataclass
class Reports(Callback):
    """Report a column of each epoch to a trial; stop a run that the study prunes, or whose time is up.

    Attributes:
        epochs: the number of finished epochs.
        pruned: True if the study ended the run.
    """

    first_rank_only = True

    trial: Any
    column: str
    deadline: float = math.inf
    epochs: int = field(default=0, init=False)
    pruned: bool = field(default=False, init=False)

    def needs_every_step(self) -> bool:
        return False

    def after_step(self, run: Run) -> None:
        if time.perf_counter() > self.deadline:
            raise TimeIsUp

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        self.epochs, value = run.epoch, row[self.column]
        if math.isfinite(value):
            self.trial.report(value, run.epoch)
        if run.epoch < run.epochs and self.trial.should_prune():
            self.pruned = run.stop = True

    def finish(self, run: Run) -> None:
        """Free the steps and the network, which would otherwise wait for Python's garbage collector."""
        cast(TrainingRun, run).release()


@dataclass(frozen=True, eq=False)
class Trial:
    """A finished or cut off trial.

    Attributes:
        state: "complete", "pruned", "failed" or "cut off".
        value: the metric on the validation rows, of a complete trial.
        reason: why it failed or was cut off.
        interrupted: the signal that ended it, or None.
        trained: the model and its history, of a complete trial.
    """

    number: int
    state: str
    config: TrainConfig
    seconds: float
    epochs: int
    value: float = math.nan
    reason: str = ""
    interrupted: int | None = None
    trained: tuple[Model, History] | tuple[()] = ()


def run_trial(problem: Problem, study: Study, deadline: float) -> Trial:
    """Draw a trial, train its network, and tell the study how it ended."""
    asked, states = study.ask(), optuna().trial.TrialState
    config = problem.settings(settings_of(asked.params))
    reports, began = Reports(asked, f"val_{problem.metric}", deadline), time.perf_counter()

    def ended(state: str, **more: Any) -> Trial:
        seconds = time.perf_counter() - began
        asked.set_user_attr(SECONDS, round(seconds, 3))
        asked.set_user_attr(EPOCHS, reports.epochs)
        done = Trial(asked.number, state, config, seconds, reports.epochs, **more)
        if state == "complete":
            study.tell(asked, values=done.value)
        elif state == "pruned":
            study.tell(asked, state=states.PRUNED)
        else:
            asked.set_user_attr(REASON if state == "failed" else CUT, done.reason)
            study.tell(asked, state=states.FAIL)
        return done

    try:
        model, history = problem.train(config, [reports])
    except TimeIsUp:
        return ended("cut off", reason="the time is up")
    except (FfnnGpuError, MemoryError) as error:
        return ended("failed", reason=" ".join(str(error).split()) or type(error).__name__)
    except BaseException as error:
        ended("cut off", reason=type(error).__name__)
        raise
    if history.interrupted:
        return ended("cut off", reason="interrupted", interrupted=history.interrupted)
    if reports.pruned:
        return ended("pruned")
    value = problem.score(model)
    if not math.isfinite(value):
        return ended("failed", reason=f"the validation {problem.metric} is {value}")
    return ended("complete", value=value, trained=(model, history))
