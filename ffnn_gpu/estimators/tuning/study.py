"""Optuna's study of one search: its next trial, its best one, its table of trials.

Why a sampler per trial: Optuna does not store the state of its sampler. Here the seed of the sampler depends
on the seed of the search and the number of finished trials, so a study that is continued draws what an
uninterrupted one would have drawn.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.estimators.tuning.optuna_package import optuna
from ffnn_gpu.estimators.tuning.space import settings_of

RANDOM_TRIALS = 10  # drawn before the sampler models the others
REASON, CUT, SECONDS, EPOCHS = "reason", "cut_off", "seconds", "epochs"  # attributes of a trial


@dataclass(frozen=True, eq=False)
class Study:
    """A study of Optuna with what its trials are drawn from.

    Why in memory, and stored trial by trial: SQLite took 60 ms for each report of an epoch on 2 busy cores,
    more than an epoch of a small table.

    Attributes:
        study: the optuna.Study, in memory.
        stored: the optuna.Study in a file that receives each trial when it has ended; None without a file.
        distributions: of each parameter.
        begin: the parameters of the first trial.
        seed: of the search.
    """

    study: Any
    stored: Any | None
    distributions: Mapping[str, Any]
    begin: Mapping[str, Any]
    seed: int

    @property
    def finished(self) -> list[Any]:
        """The trials that count: complete, pruned or failed by themselves, but not cut off."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if is_finished(trial)]

    @property
    def best(self) -> Any | None:
        """The complete trial with the best value, of equal ones the first; None if no trial is complete."""
        complete = [trial for trial in self.finished if trial.state.name == "COMPLETE"]
        sign = -1 if self.study.direction.name == "MAXIMIZE" else 1
        return min(complete, key=lambda trial: sign * trial.value, default=None)

    @staticmethod
    def value_of(trial: Any) -> float | None:
        """Return the value of a complete trial; None of another. A pruned one has that of its last epoch."""
        return trial.value if trial.state.name == "COMPLETE" else None

    def counts(self) -> Counter[str]:
        """Return the number of trials by how they ended: complete, pruned, failed."""
        return Counter(_state(trial) for trial in self.finished)

    def table(self) -> list[dict[str, Any]]:
        """Return a dict for each trial: number, state, value, epochs, seconds, reason and settings."""
        return [_row(trial) for trial in self.study.get_trials(deepcopy=False)]

    def ask(self) -> Any:
        """Draw the next trial: at first the parameters that the search begins with."""
        k, library = len(self.finished), optuna()
        if not k:
            self.study.enqueue_trial(dict(self.begin))
        (seed,) = np.random.SeedSequence([self.seed, k]).generate_state(1)
        self.study.sampler = library.samplers.TPESampler(seed=int(seed), n_startup_trials=RANDOM_TRIALS)
        return self.study.ask(dict(self.distributions))

    def tell(self, trial: Any, **how: Any) -> None:
        """Store how a trial ended, as optuna.Study.tell takes it."""
        ended = self.study.tell(trial, **how)
        if self.stored is not None:
            self.stored.add_trial(ended)


def _state(trial: Any) -> str:
    if not is_finished(trial):
        return "cut off"
    return {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}[trial.state.name]


def _row(trial: Any) -> dict[str, Any]:
    known = trial.user_attrs
    found = {
        "number": trial.number,
        "state": _state(trial),
        "value": Study.value_of(trial),
        "epochs": known.get(EPOCHS),
        "seconds": known.get(SECONDS),
        "reason": known.get(REASON, known.get(CUT, "")),
    }
    return found | settings_of(trial.params)


def is_finished(trial: Any) -> bool:
    """Return whether a trial counts: one that was cut off by a signal or the time does not."""
    state = trial.state.name
    return state in ("COMPLETE", "PRUNED") or (state == "FAIL" and REASON in trial.user_attrs)


@contextmanager
def quiet() -> Iterator[None]:
    """While entered, Optuna logs errors only and does not warn that something is experimental."""
    library = optuna()
    before = library.logging.get_verbosity()
    library.logging.set_verbosity(library.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", library.exceptions.ExperimentalWarning)
            yield
    finally:
        library.logging.set_verbosity(before)
