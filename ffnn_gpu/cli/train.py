"""Train on a data set and write a run folder: the work of `ffnn-gpu train`."""

import functools
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from ffnn_gpu import temporary
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.backends import get_backend
from ffnn_gpu.cli import messages, result, run_folder
from ffnn_gpu.cli.exit_codes import Announce
from ffnn_gpu.cli.fitting import Fitting, fitted
from ffnn_gpu.cli.reading import read_training, reads_table
from ffnn_gpu.cli.saved_result import saved_report
from ffnn_gpu.cli.settings import TrainConfig, resolve
from ffnn_gpu.cli.shared_table import encode_for_all, read_for_all
from ffnn_gpu.distributed import Communicator, Single
from ffnn_gpu.distributed.rank_zero import on_rank_zero
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.model_choice import AUTO, decided, require_fitting, split_as_decided, with_model
from ffnn_gpu.estimators.recipe import evaluated, optimizer_of, prepare, require_trainable
from ffnn_gpu.estimators.split import Part, Split, require_known_labels, split_rows
from ffnn_gpu.estimators.tabular.from_settings import folds_for
from ffnn_gpu.estimators.task import Task, doubt
from ffnn_gpu.estimators.training_data import Training

Names = tuple[str, ...] | None


def train(
    config: TrainConfig,
    *,
    given: Collection[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    announce: Announce = lambda line: None,
    verbose: int = 0,
    communicator: Communicator | None = None,
    started: Callable[[Path], None] = lambda folder: None,
) -> result.Result:
    """Train with this configuration and write the run folder.

    Args:
        given: names of settings that count as given, with model = 'auto', although they have their default.
        resume: continue the run in `config.out` exactly where it was interrupted.
        overwrite: replace the run in `config.out`.
        announce: receives one line for each decision.
        verbose: passed to `fit`.
        communicator: connects the ranks that train together; all call this function with the same arguments.
            Rank 0 reads a table for all; of arrays every rank reads its rows. Only rank 0 uses the run
            folder; the others wait until it is written.
        started: receives the run folder on rank 0 when the training begins.

    Raises:
        ConfigurationError, DataError: before anything is written.
        DivergedError: the loss is not finite.
        Interrupted: a signal came before any member of an ensemble was trained.
    """
    began, ranks = time.perf_counter(), communicator or Single(config.device)
    if resume and config.model == AUTO:
        held = on_rank_zero(ranks, lambda: run_folder.model_to_resume(config))
        config = msgspec.structs.replace(config, model=held)
    choose = functools.partial(decided, config, given, reads_table(config), ranks.size)
    is_open, config = config.model == AUTO, with_model(config, choose())
    require_fitting(config, ranks.size)
    on_rank_zero(ranks, lambda: run_folder.require_usable(config, resume, overwrite))
    reason = on_rank_zero(ranks, lambda: run_folder.reason_to_resume(config)) if resume else None
    rule, backend = optimizer_of(config), get_backend(ranks.device)
    training = read_for_all(ranks, config)
    data, columns, roles, table = training
    if ranks.size > 1:
        backend.reason = f"rank {ranks.rank} of {ranks.size}"
    rows: Any = data.x
    if table is not None and resume and ranks.rank == 0:
        rows.keep_in(Path(str(config.out)))
    if ranks.size > 1 and not columns:
        data = replace(data, x=rows_of(data.x).unmapped().stored)  # mapped pages count for every rank
    task = Task.of(data.y, config.task, config.loss, config.label_smoothing)
    announce(messages.data_line(data, task, config, columns))
    if table is not None and (said := doubt(data.y, config.task)):
        announce(said)
    config, choice, split = split_as_decided(config, choose, data, task, roles)
    if is_open:
        announce(str(choice))
    choice = choice if reason is None else choice._replace(reason=reason)
    require_known_labels(task, split)
    if table is not None and ranks.rank == 0:
        for line in messages.table_lines(table, columns, split.train, config):
            announce(line)
    if training.lacking:
        announce(messages.lacking_line(training.lacking))
    if table is not None and ranks.size > 1:
        encode_for_all(ranks, rows, split.train.x, columns, config)
    model = prepare(config, data, columns, split.train, task, backend)
    require_trainable(config, model, split, ranks)
    folds = folds_for(config, split.train)
    announce(messages.split_line(split.counts(), backend, folds))
    if ranks.size > 1:
        announce(messages.ranks_line(ranks, config))
    if constant := messages.constant_line(model):
        announce(constant)
    if config.early_stopping and split.validation is None:
        announce("no validation set: early stopping uses the training loss")
    folder = Path(on_rank_zero(ranks, lambda: str(run_folder.claim(config, data.name, resume, str(choice)))))
    try:
        if table is not None and ranks.rank == 0:
            rows.keep_in(folder)
        if ranks.rank == 0:
            started(folder)
        found = fitted(Fitting(config, model, split, rule, ranks, folder, verbose, resume))
    except BaseException:
        if ranks.rank == 0:
            temporary.remove(folder)
        raise
    backend.synchronize()  # the thread that saves does not wait for the streams of this thread
    on_rank_zero(ranks, lambda: found.model.save(folder / run_folder.MODEL))
    test = split.test and evaluated(found.model, split.test, communicator=ranks)
    seconds = time.perf_counter() - began
    report = result.build_report(config, choice, found, split, training, test, seconds, ranks.size)
    done = result.Result(folder, found.model, found.history, report, training=training, split=split)
    on_rank_zero(ranks, lambda: result.write_report(done, split.test, announce))
    return done


def held_out(folder: str | Path, model: Model) -> tuple[Part, Names]:
    """Return the test set that the run in `folder` held out, and its column names.

    Raises:
        ConfigurationError: not a run folder, or a run without a test set.
        DataError: the data has changed since the training run.
    """
    file = Path(folder) / run_folder.CONFIG
    if not file.is_file():
        raise ConfigurationError(
            f"{folder} is not a run folder, so it has no test set; give the DATA to evaluate on"
        )
    config = resolve({}, file=file, environment={})
    training, split = read_again(folder, config, model, ". Give the DATA to evaluate on")
    if split.test is None:
        raise ConfigurationError(f"the run {folder} held out no test set; give the DATA to evaluate on")
    return split.test, training.data.feature_names


def read_again(
    folder: str | Path, config: TrainConfig, model: Model, remedy: str = ""
) -> tuple[Training, Split]:
    """Return the data of the run in `folder` and its parts.

    Raises DataError if other cells have been read since; the message ends with the remedy.
    """
    training = read_training(config)
    split = split_rows(training.data, model.task, config, training.roles)
    saved = saved_report(Path(folder))
    if (then := saved.get("rows", split.counts())) != split.counts():
        raise DataError(f"{config.data} has changed since the training run: rows {then} → {split.counts()}")
    then, now = saved.get("table"), result.checksum_of(training.table)
    if then and now and then["duckdb"] == now["duckdb"] and then != now:
        raise DataError(
            f"{config.data or 'the query'} has other cells, or rows in another order, than in the training "
            f"run; its test set cannot be found{remedy}"
        )
    return training, split
