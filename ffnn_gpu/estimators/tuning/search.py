"""Trial after trial until a limit or a signal, and the best of them."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffnn_gpu.checks import counted
from ffnn_gpu.errors import ConfigurationError, DivergedError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.settings import TrainConfig
from ffnn_gpu.estimators.tuning.limits import Limits
from ffnn_gpu.estimators.tuning.problem import Problem
from ffnn_gpu.estimators.tuning.space import Space, distributions_of, parameters_of, searched, settings_of
from ffnn_gpu.estimators.tuning.study import Study, quiet
from ffnn_gpu.estimators.tuning.study_file import open_study
from ffnn_gpu.estimators.tuning.trial import Trial, run_trial
from ffnn_gpu.training.history import History
from ffnn_gpu.training.interrupt import Interrupt, Interrupted

Announce = Callable[[str], None]  # receives a line for each trial
MOST_REASONS = 3


@dataclass(frozen=True, eq=False)
class Best:
    """The best trial so far and its network, as `train` with its settings would make it."""

    number: int
    value: float
    settings: dict[str, Any]
    config: TrainConfig
    model: Model
    history: History


NO_TRIAL = "the search before a trial was complete"
Keep = Callable[[Best], None]  # receives each trial that is better than all before


@dataclass(frozen=True, eq=False)
class Found:
    """The best trial, and the signal that ended the search or None."""

    best: Best
    interrupted: int | None


def study_of(
    problem: Problem, space: Space, wanted: Iterable[str] | None, given: Iterable[str], file: Path | None
) -> Study:
    """Make or continue the study of a problem.

    wanted: the settings to search; None for those of the space that are not given.
    file: an SQLite file; None for a study in memory.

    Raises ConfigurationError: nothing can be searched, or the study in the file is another one.
    """
    begin = parameters_of(problem.start, searched(space, wanted, given))
    distributions = distributions_of(space, begin)
    if not distributions:
        raise ConfigurationError(
            f"search: {', '.join(begin)} cannot be varied, because the optimizer has none"
        )
    begin = {name: value for name, value in begin.items() if name in distributions}
    return open_study(file, problem.identity, distributions, begin, problem.direction)


def run_search(problem: Problem, study: Study, limits: Limits, announce: Announce, keep: Keep) -> Found:
    """Run trials until a limit is reached or a signal arrives.

    The first trial of a study runs to its end whatever the time, so that there is a best one.

    Raises:
        ConfigurationError: the study has more trials than the limit.
        DivergedError: no trial could be completed.
        Interrupted: a signal ended the search, and no trial is complete.
    """
    if limits.trials is not None and limits.trials < len(study.finished):
        raise ConfigurationError(
            f"trials = {limits.trials} is fewer than the {len(study.finished)} that the study already has"
        )
    began = time.perf_counter()
    ends = began + limits.seconds if limits.seconds is not None else math.inf
    with quiet(), Interrupt() as interrupt:
        best, signal = _trained_again(problem, study, announce), None
        while not (signal := signal or interrupt.signal) and not _is_over(study, limits, ends):
            done = run_trial(problem, study, ends if study.finished else math.inf)
            signal = done.interrupted
            leader = study.best
            if leader is not None and leader.number == done.number:
                best = Best(done.number, done.value, settings_of(leader.params), done.config, *done.trained)
                keep(best)
            announce(trial_line(done, problem, study, limits))
    if best is not None:
        return Found(best, signal)
    if signal:
        raise Interrupted(signal, NO_TRIAL)
    raise DivergedError(_why_none(study))


def trial_line(done: Trial, problem: Problem, study: Study, limits: Limits) -> str:
    """8/50  trial 7: accuracy 0.8612 in 4.1 s; best 0.8645 (trial 3)"""
    of, leader = f"/{limits.trials}" if limits.trials else "", study.best
    said = {
        "complete": f"{problem.metric} {done.value:.5g}",
        "pruned": f"pruned after epoch {done.epochs}",
        "failed": f"failed: {done.reason}",
        "cut off": f"cut off: {done.reason}",
    }[done.state]
    line = f"{len(study.finished)}{of}  trial {done.number}: {said} in {done.seconds:.1f} s"
    if leader is None:
        return line
    if leader.number == done.number:
        return f"{line}; the best so far: {described(settings_of(leader.params))}"
    return f"{line}; best {leader.value:.5g} (trial {leader.number})"


def described(settings: Mapping[str, Any]) -> str:
    """hidden 512,256, lr 0.003, …"""

    def text(value: Any) -> str:
        if isinstance(value, tuple):
            return ",".join(map(str, value))
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{name} {text(value)}" for name, value in settings.items())


def _trained_again(problem: Problem, study: Study, announce: Announce) -> Best | None:
    """Return the best trial of a study that is continued, with its network; None if there is none yet."""
    leader = study.best
    if leader is None:
        return None
    done = counted(len(study.finished), "trial")
    announce(f"{done} done; training trial {leader.number}, the best so far, again")
    settings = settings_of(leader.params)
    config = problem.settings(settings)
    model, history = problem.train(config)
    if history.interrupted:
        raise Interrupted(history.interrupted, NO_TRIAL)
    if (value := problem.score(model)) != leader.value:
        announce(
            f"trial {leader.number} had {problem.metric} {leader.value:.7g} then and has {value:.7g} now: "
            "another device, number of threads or version rounds differently"
        )
    return Best(leader.number, leader.value, settings, config, model, history)


def _is_over(study: Study, limits: Limits, ends: float) -> bool:
    done = len(study.finished)
    if limits.trials is not None and done >= limits.trials:
        return True
    return done > 0 and time.perf_counter() > ends


def _why_none(study: Study) -> str:
    reasons = Counter(trial.user_attrs.get("reason", "") for trial in study.finished)
    listed = "; ".join(f"{reason} ({n} ×)" for reason, n in reasons.most_common(MOST_REASONS))
    return (
        f"no trial could be completed, of {len(study.finished)}: {listed}. Check the settings that are given"
    )
