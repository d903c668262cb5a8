"""Search for settings and write a run folder with the best trial: the work of `ffnn-gpu tune`."""

import csv
import shlex
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any, NamedTuple

from ffnn_gpu import temporary
from ffnn_gpu.backends import get_backend
from ffnn_gpu.cli import messages, result, run_folder
from ffnn_gpu.cli.exit_codes import Announce
from ffnn_gpu.cli.fitting import Fitted, course_of_network
from ffnn_gpu.cli.reading import read_training
from ffnn_gpu.cli.settings import TrainConfig, write_toml
from ffnn_gpu.estimators.model_choice import NETWORK, Choice, one_network
from ffnn_gpu.estimators.recipe import evaluated
from ffnn_gpu.estimators.tuning.limits import Limits
from ffnn_gpu.estimators.tuning.optuna_package import optuna
from ffnn_gpu.estimators.tuning.pictures import draw
from ffnn_gpu.estimators.tuning.problem import Problem
from ffnn_gpu.estimators.tuning.search import Best, Found, described, run_search, study_of
from ffnn_gpu.estimators.tuning.space import Space
from ffnn_gpu.estimators.tuning.study import Study
from ffnn_gpu.estimators.tuning.study_file import earlier

SEARCHED = Choice(NETWORK, "a search tunes the settings of one network")


class Asked(NamedTuple):
    """The metric, the settings to search, and those that are given; None where that is left open."""

    metric: str | None
    searched: Sequence[str] | None
    given: Collection[str]


@dataclass(frozen=True, eq=False)
class Tuned(result.Result):
    """The run folder of the best trial, the limits, and the signal that ended the search or None."""

    limits: Limits
    interrupted: int | None


def _require_usable(out: str | None, resume: bool, overwrite: bool) -> None:
    """Raise ConfigurationError unless a search may be written to `out`, and Optuna is installed."""
    optuna()
    if resume:
        run_folder.require_one(resume, overwrite)
        run_folder.study_to_resume(out)
    else:
        run_folder.require_usable(TrainConfig(out=out), resume, overwrite)


def start_of(out: str | None) -> Path:
    """Return the file of the settings that the search in `out` began with. Raises ConfigurationError."""
    return run_folder.study_to_resume(out) / run_folder.START


def tune(
    config: TrainConfig,
    limits: Limits,
    asked: Asked = Asked(None, None, ()),
    *,
    resume: bool = False,
    overwrite: bool = False,
    announce: Announce = lambda line: None,
) -> Tuned:
    """Search from this configuration, and write the run folder of the best trial.

    Args:
        resume: continue the search in `config.out`.
        overwrite: replace what is in `config.out`.
        announce: receives one line for each decision and each trial.

    Raises:
        ConfigurationError, DataError: before anything is written.
        DivergedError: no trial could be completed.
    """
    began = time.perf_counter()
    config = one_network(config)
    _require_usable(config.out, resume, overwrite)
    metric, wanted, given = asked
    if resume:
        before = earlier(Path(str(config.out)) / run_folder.STUDY)
        metric, wanted = metric or before.metric, wanted or before.searched
    backend, training = get_backend(config.device), read_training(config)
    problem = Problem.of(training, config, metric, backend)
    _announce_problem(problem, announce)
    searched = study_of(problem, Space(), wanted, given, None)  # in memory: what it refuses, it refuses first
    announce(f"searching {', '.join(searched.distributions)} for the best validation {problem.metric}")
    folder = Path(str(config.out)) if resume else run_folder.claim(config, training.data.name, False)
    if resume:
        run_folder.sweep(folder)
    else:
        write_toml(run_folder.located(config), folder / run_folder.START)
    study = study_of(problem, Space(), wanted, given, folder / run_folder.STUDY)
    temporary.discard(folder)  # from here on it can be resumed
    found = run_search(problem, study, limits, announce, lambda best: _keep(best, folder))
    test = problem.split.test and evaluated(found.best.model, problem.split.test)
    report = _report(problem, study, found, test, time.perf_counter() - began)
    done = Tuned(folder, found.best.model, found.best.history, report, limits, found.interrupted)
    _write(done, problem, study, found.best, announce)
    return done


def result_lines(done: Tuned, brief: bool) -> list[str]:
    """Format the metrics of the best trial, its settings and, unless brief, the commands to continue with."""
    report, found = done.report, done.report["search"]
    counts = ", ".join(f"{n} {state}" for state, n in found["trials"].items())
    first = "; the first settings failed"
    if found["first"]["value"] is not None:
        first = f"; the first settings, trial {found['first']['trial']}: {found['first']['value']:.5g}"
    lines = messages.metric_lines(report["test"] or {}, "test ") or ["no test set: test is 0"]
    if report.get("baseline") and not brief:
        lines.append(messages.baseline_line(report["baseline"]))
    lines += [
        f"best of {sum(found['trials'].values())} trials ({counts}): trial {found['best']}, validation "
        f"{found['metric']} {found['value']:.5g}{first}",
        f"its settings: {described(found['settings'])}",
        f"searched for {report['seconds']:.1f} s; run folder {done.folder}",
    ]
    run, program = shlex.quote(str(done.folder)), messages.program()
    if done.interrupted:
        name = Signals(done.interrupted).name
        again = f"  {program} tune --resume --out {run}{_flags(done.limits)}"
        return [*lines, f"interrupted by {name}; to continue:", again]
    if brief:
        return lines
    return [
        *lines,
        "next:",
        f"  {program} predict {run} NEW_ROWS.csv --output predictions.csv",
        f"  {program} train --config {run}/config.toml --seed {report['seed'] + 1}",
        f"  {program} tune --resume --out {run} --trials {2 * sum(found['trials'].values())}",
    ]


def _announce_problem(problem: Problem, announce: Announce) -> None:
    config, training, split = problem.config, problem.training, problem.split
    announce(messages.data_line(training.data, problem.model.task, config, training.columns))
    if training.table is not None:
        for line in messages.table_lines(training.table, training.columns, split.train, config):
            announce(line)
    if training.lacking:
        announce(messages.lacking_line(training.lacking))
    announce(messages.split_line(split.counts(), problem.model.network.backend))
    if constant := messages.constant_line(problem.model):
        announce(constant)


def _keep(best: Best, folder: Path) -> None:
    """Write the run of the best trial so far, in place of the one before."""
    best.model.save(folder / run_folder.MODEL)
    write_toml(run_folder.located(best.config), folder / run_folder.CONFIG)
    best.history.to_jsonl(folder / run_folder.METRICS_FILE)
    best.history.to_csv(folder / run_folder.HISTORY_FILE)


def _flags(limits: Limits) -> str:
    trials = "" if limits.trials is None else f" --trials {limits.trials}"
    return trials + ("" if limits.seconds is None else f" --time {limits.seconds:g}s")


def _report(
    problem: Problem, study: Study, found: Found, test: dict[str, float] | None, seconds: float
) -> dict[str, Any]:
    """Return the content of result.json: that of the best run, and what the search found."""
    best, split, training = found.best, problem.split, problem.training
    fitted = Fitted(best.model, best.history, course_of_network(best.config, best.history))
    report = result.build_report(best.config, SEARCHED, fitted, split, training, test, seconds, ranks=1)
    first = study.finished[0]  # with the settings that the search began with
    searched = {
        "metric": problem.metric,
        "value": best.value,
        "best": best.number,
        "settings": best.settings,
        "first": {"trial": first.number, "value": study.value_of(first)},
        "trials": dict(study.counts()),
        "interrupted": found.interrupted and Signals(found.interrupted).name,
    }
    return {**report, "search": searched}


def _write(done: Tuned, problem: Problem, study: Study, best: Best, announce: Announce) -> None:
    """Write the best run, result.json, the table of trials and the pictures."""
    _keep(best, done.folder)
    _write_trials(study.table(), done.folder / run_folder.TRIALS)
    result.write_report(done, problem.split.test, announce)
    with suppress(ImportError):  # `write_report` has announced it
        draw(study, done.folder, problem.metric)


def _write_trials(rows: Sequence[dict[str, Any]], path: Path) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            text = {k: ",".join(map(str, v)) if isinstance(v, tuple) else v for k, v in row.items()}
            writer.writerow(text)
