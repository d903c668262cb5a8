"""Train what was decided, one network or an ensemble, into a run folder."""

from pathlib import Path
from typing import Any, NamedTuple

from ffnn_gpu.cli import run_folder
from ffnn_gpu.cli.ensemble import course_of_members, train_members
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.distributed import Communicator
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.model_choice import ENSEMBLE
from ffnn_gpu.estimators.recipe import encode, fit_model
from ffnn_gpu.estimators.split import Split
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.training.callbacks import Checkpoints
from ffnn_gpu.training.history import History
from ffnn_gpu.training.rank_logs import EpochLog


class Fitting(NamedTuple):
    """An untrained model, the rows, and the run folder; the other fields are arguments of `fit`."""

    config: TrainConfig
    model: Model
    split: Split
    rule: Optimizer
    ranks: Communicator
    folder: Path
    verbose: int
    resume: bool


class Fitted(NamedTuple):
    """A trained model, its history, and the entries of result.json about the course of the training."""

    model: Model
    history: History
    course: dict[str, Any]


def fitted(job: Fitting) -> Fitted:
    """Train the model of the settings."""
    return _members(job) if job.config.model == ENSEMBLE else _network(job)


def course_of_network(config: TrainConfig, history: History) -> dict[str, Any]:
    """Return the entries of result.json about the epochs of one network."""
    return {
        "epochs": len(history),
        "epochs_asked": config.epochs,
        "best_epoch": history.best_epoch() if config.early_stopping else None,
        "schedule": config.schedule,
    }


def _network(job: Fitting) -> Fitted:
    config, model = job.config, job.model
    checkpoint = Checkpoints(job.folder / run_folder.CHECKPOINT, extras=model.extras())
    callbacks, rows = [run_folder.HistoryFiles(job.folder), EpochLog()], encode(model, job.split)
    history = fit_model(
        config, model, rows, job.rule, job.ranks, job.verbose, checkpoint, callbacks, job.resume
    )
    return Fitted(model, history, course_of_network(config, history))


def _members(job: Fitting) -> Fitted:
    config, rows = job.config, job.split.train
    model, history, found = train_members(config, job.model, rows, job.folder, job.verbose)
    return Fitted(model, history, course_of_members(config, model, rows, found))
