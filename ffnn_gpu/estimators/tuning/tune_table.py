"""Search for settings on a table in Python, as `ffnn-gpu tune` does."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffnn_gpu.backends import get_backend
from ffnn_gpu.checks import counted
from ffnn_gpu.estimators.arguments import config_of, given_in, left_out, read_data, warnings_in_python
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.recipe import evaluated
from ffnn_gpu.estimators.settings import TrainConfig, write_toml
from ffnn_gpu.estimators.tuning.limits import Limits
from ffnn_gpu.estimators.tuning.optuna_package import optuna
from ffnn_gpu.estimators.tuning.pictures import draw
from ffnn_gpu.estimators.tuning.problem import Problem
from ffnn_gpu.estimators.tuning.search import run_search, study_of
from ffnn_gpu.estimators.tuning.space import Space
from ffnn_gpu.estimators.tuning.study import Study
from ffnn_gpu.estimators.wording import errors_in, in_python
from ffnn_gpu.standard_error import write_line
from ffnn_gpu.training.history import History


@dataclass(frozen=True, eq=False)
class TunedTable:
    """The best model of a search and how it came about.

    Attributes:
        model, history: of the best trial.
        settings: {setting: value} of the searched settings, as `train_table` takes them.
        config: all settings of the best trial.
        metric, value: what trials were compared by, and the best value of it on the validation rows.
        test: {metric: value, …, "loss": value} of the test rows, which the search has not seen; None without.
        trials: a dict for each trial, with its number, state, value, epochs, seconds, reason and settings.
        rows, rows_without_target, left_out, warnings: as in the result of `train_table`.
        interrupted: the signal that ended the search early, or None.
        study: with `study.study`, the optuna.Study.
    """

    model: Model
    history: History
    settings: dict[str, Any]
    config: TrainConfig
    metric: str
    value: float
    test: dict[str, float] | None
    trials: list[dict[str, Any]]
    rows: dict[str, int]
    rows_without_target: int
    left_out: dict[str, str]
    warnings: list[str]
    interrupted: int | None
    study: Study

    def __repr__(self) -> str:
        trials = counted(len(self.trials), "trial")
        return f"<TunedTable: {trials}, best {self.metric} {self.value:.4g}; {self.model!r}>"

    def save_config(self, path: str | Path) -> None:
        """Write all settings as TOML, for `ffnn-gpu train --config`."""
        write_toml(self.config, path)

    def save_pictures(self, folder: str | Path) -> list[Path]:
        """Draw the study as PNG files in an existing folder; return their paths. Needs the extra `plot`."""
        return draw(self.study, Path(folder), self.metric)


def tune_table(
    data: Any,
    target: str | int | None = None,
    *,
    trials: int | None = None,
    time: float | str | None = None,
    metric: str | None = None,
    search: Iterable[str] | None = None,
    space: Space = Space(),
    storage: str | Path | None = None,
    verbose: int = 1,
    **settings: Any,
) -> TunedTable:
    """Search for settings whose network is best on the validation rows of a table.

    The first trial has the settings that `train_table` would have with model="mlp", so the best is at least
    as good as those. The test rows are evaluated once, at the end. Ctrl-C ends the search with the best so
    far.

    Args:
        data, target, settings: as in `train_table`. A given setting is kept, unless `search` names it.
        trials: the number of trials of the whole study, also of those in `storage`.
        time: seconds of this search, or a text such as "90s", "10m" or "1h30m". One of the two is needed.
        metric: "loss" or a metric of the task; None for the first of `metrics`, or else accuracy or rmse.
        search: the names of the settings to search; None for all of the space that are not given.
        space: the range of each.
        storage: an SQLite file of Optuna, which is made or continued; None keeps the study in memory.
        verbose: 0 silent, 1 a line for each trial.

    Raises:
        DataError, ConfigurationError: before anything is written. DivergedError: no trial could be completed.
        KeyboardInterrupt: Ctrl-C, before a trial was complete.
    """
    optuna(), (limits := Limits.of(trials, time))
    config = config_of(data, target, settings)
    backend = get_backend(config.device)
    with errors_in(in_python):
        problem = Problem.of(read_data(data, config), config, metric, backend)
        names = (search,) if isinstance(search, str) else search
        given = given_in(settings)
        study = study_of(problem, space, names, given, None if storage is None else Path(storage))
    found = run_search(
        problem, study, limits, write_line if verbose else lambda line: None, lambda best: None
    )
    best, training, split = found.best, problem.training, problem.split
    return TunedTable(
        model=best.model,
        history=best.history,
        settings=best.settings,
        config=best.config,
        metric=problem.metric,
        value=best.value,
        test=evaluated(best.model, split.test) if split.test else None,
        trials=study.table(),
        rows=split.counts(),
        rows_without_target=training.lacking,
        left_out=left_out(training),
        warnings=[*warnings_in_python(training, split, config)],
        interrupted=found.interrupted,
        study=study,
    )
