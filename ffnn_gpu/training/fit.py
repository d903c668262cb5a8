"""`fit` checks its arguments and makes a `TrainingRun`; `drive` is the loop around its steps.

Everything besides the step is a callback or a matter of the data.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ffnn_gpu.checks import require_positive_int, seed_number
from ffnn_gpu.data.minibatches import Minibatches, Order
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.evaluation.evaluate import require_defined
from ffnn_gpu.evaluation.metrics import Metric, get_metrics
from ffnn_gpu.evaluation.samples import balanced, samples, split
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.losses.standard import get_loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.schedules import Schedule, constant, get_schedule
from ffnn_gpu.optim.choice import get_optimizer
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.training.callbacks import BestWeights, Callback, Checkpoints, EarlyStopping, Monitor
from ffnn_gpu.training.data_parallel.team import DataParallel, Team
from ffnn_gpu.training.history import History
from ffnn_gpu.training.interrupt import Interrupt
from ffnn_gpu.training.progress import progress
from ffnn_gpu.training.resume import restore_run, settings
from ffnn_gpu.training.run import TrainingRun
from ffnn_gpu.training.step import require_rows_for_statistics
from ffnn_gpu.training.step import train_step as train_step  # a public name of this module


def fit(
    network: Network,
    loss: Loss | str,
    optimizer: Optimizer | str,
    data: Any,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    validation: Any = None,
    sample_weight: Any = None,
    class_weight: Mapping[Any, float] | str | None = None,
    metrics: str | Metric | Iterable[str | Metric] = (),
    schedule: Schedule | Callback | str = constant,
    early_stopping: int | EarlyStopping | None = None,
    accumulate: int = 1,
    shuffle: bool = True,
    drop_last: bool = False,
    seed: int = 0,
    checkpoint: str | Path | Checkpoints | None = None,
    resume: bool = False,
    callbacks: Callback | Sequence[Callback] = (),
    verbose: int = 1,
    communicator: Any = None,
    shard_optimizer: bool = False,
) -> History:
    """Train the network on data: (X, y) or (X, y, sample_weight), in memory or in files, X (n, n_in).

    Args:
        loss, optimizer: objects, or names such as "softmax_cross_entropy" and "adam" for default settings.
            The moments belong to the optimizer's object: a second `fit` with it goes on with them.
        validation: (Xv, yv), (Xv, yv, sample_weight), or the fraction of the rows to hold out: shuffled, and
            stratified by class, also where a loss decides between two classes by one output.
        sample_weight: (n,); class_weight: {class index: weight} or "balanced". Both multiply. The loss of a
            minibatch is Σ w ℓ / Σ w, so only weights within it are compared; `MeanOverRows` divides by rows.
        metrics: one or several names or functions (y, prediction) for the validation rows, or the training
            rows if there are none. A prediction is the loss's decision, such as a class index. The metrics of
            this package use the sample weights of these rows; class weights count in the training loss only.
        schedule: factor on the optimizer's lr per step: an object of ffnn_gpu.schedules or its name, or a
            ReduceOnPlateau(…).
        early_stopping: the number of epochs in a row without a better val_loss (loss without validation) at
            which the run stops, or an EarlyStopping; on every exit the best weights are restored.
        accumulate: the number of micro-batches per batch: the same gradient in less memory.
        seed: of shuffling, splitting and dropout.
        checkpoint: a folder for last.safetensors and best.safetensors, which are overwritten.
        resume: continue from last.safetensors if it exists.
        verbose: 0 silent, 1 a bar on a terminal, 2 one line per epoch.
        communicator: ffnn_gpu.distributed.communicator(), or a DataParallel with more settings, if several
            ranks train this network. Each rank calls fit with the same arguments; batch_size is global.
        shard_optimizer: each of n ranks stores and updates 1/n of the moments. A later run with shards
            continues with them; one without shards starts new moments.

    Returns:
        One row per epoch; no loss in it has the penalties (l1, l2) of the optimizer. After Ctrl-C, SIGTERM or
        SIGHUP, the rows so far, with `interrupted` set. With `ema`, validation columns are those of the
        average, and θ is the average when fit returns.

    Raises:
        ShapeError, DataError, ConfigurationError: before anything is changed.
        DivergedError: the loss is not finite. DivergedRanksError: the ranks do not run the same training.
    """
    if not isinstance(network, Network):
        raise ConfigurationError(
            f"network must be an object such as ffnn_gpu.Network(64, [Dense(10)]), not {network!r}"
        )
    loss, optimizer, metrics = get_loss(loss), get_optimizer(optimizer), get_metrics(metrics)
    factor = constant if isinstance(schedule, Callback) else get_schedule(schedule)
    for name, value in {"epochs": epochs, "batch_size": batch_size, "accumulate": accumulate}.items():
        require_positive_int(name, value)
    seed = seed_number(seed)
    ranks = DataParallel.of(communicator)
    admit = functools.partial(ranks.admit, network)  # each rank checks its share of rows in files
    train, held_out = ranks.together(
        lambda: split(
            network, loss, samples(network, loss, data, sample_weight, admit=admit), validation, seed, admit
        )
    )
    require_defined(network, loss, train if held_out is None else held_out, metrics)
    sample_weight = train.weight
    if class_weight is not None:
        train = balanced(train, class_weight, network.widths[-1], network.dtype)
    team = Team(ranks, network, optimizer, shard_optimizer)
    order = Order(batch_size, shuffle, drop_last, seed)
    apart = 1 if team.batch_statistics is not None else team.size
    require_rows_for_statistics(network, len(train), order, accumulate, apart)
    minibatches = Minibatches(
        network.backend, train.x, train.y, train.weight, network.compute_dtype, order, team.size
    )
    used = [callbacks] if isinstance(callbacks, Callback) else [*callbacks]
    if isinstance(schedule, Callback):
        used.append(schedule)
    if early_stopping is not None:
        if not isinstance(early_stopping, EarlyStopping):
            early_stopping = EarlyStopping(early_stopping)
        used += [early_stopping, BestWeights(early_stopping.monitor, early_stopping.mode)]
    if checkpoint is not None:
        used.append(checkpoint if isinstance(checkpoint, Checkpoints) else Checkpoints(checkpoint))
    elif resume:
        raise ConfigurationError("resume=True needs checkpoint=…, the folder to resume from")
    used += progress(verbose)
    run = TrainingRun(
        network, loss, optimizer, minibatches, held_out, team, metrics, factor, used,
        epochs=epochs, accumulate=accumulate, sample_weight=sample_weight,
    )  # fmt: skip
    require_callbacks(run)
    if team.rank:
        run.elsewhere = [callback for callback in run.callbacks if callback.first_rank_only]
        run.callbacks = [callback for callback in run.callbacks if not callback.first_rank_only]
    return drive(run, resume)


def require_callbacks(run: TrainingRun) -> None:
    """Raise ConfigurationError unless all callbacks are callbacks, and monitor columns that exist."""
    columns = run.columns  # raises if two metrics have one name
    for callback in run.callbacks:
        if not isinstance(callback, Callback):
            raise ConfigurationError(
                f"callbacks must be objects of classes derived from Callback, not {callback!r}"
            )
        if isinstance(callback, Monitor):
            callback.watched(columns)


def drive(run: TrainingRun, resume: bool = False) -> History:
    """Run the steps of each epoch, then add its row to the history; call the callbacks after both."""
    quiet = np.errstate(over="ignore", invalid="ignore")  # the meter raises if a loss is not finite
    with Interrupt() as interrupt, ExitStack() as at_the_end, quiet:
        run.team.own_signal = lambda: interrupt.signal
        run.require_agreement(settings(run))
        for callback in run.callbacks:
            callback.start(run)
            at_the_end.callback(callback.finish, run)  # each one, even if another raises
        if resume:
            _resume(run)
        at_the_end.push(functools.partial(_conclude, run))
        while run.epoch < run.epochs and not run.stop and not run.team.signal:
            while run.position < run.data.steps and not run.team.signal:
                run.step()
                for callback in run.callbacks:
                    callback.after_step(run)
            if run.position == run.data.steps:
                row = run.finish_epoch()
                for callback in run.callbacks:
                    callback.after_epoch(run, row)
        if run.team.signal:
            for callback in run.callbacks:
                callback.after_interrupt(run)
    return run.history


def _resume(run: TrainingRun) -> None:
    """Load the last checkpoint if rank 0 has one."""
    for callback in run.callbacks:
        if isinstance(callback, Checkpoints) and run.team.maximum(run.team.rank == 0 and callback.has_last):
            restore_run(run, callback.last)
            run.require_agreement(settings(run))


def _conclude(run: TrainingRun, kind: type[BaseException] | None, *of_error: object) -> None:
    """Load the average into θ, after the last step or after an exception.

    After an exception, other ranks may be gone: an average whose pieces lie on them stays where it is.
    """
    run.history.interrupted = run.team.signal
    run.end_schedules()
    if run.optimizer.ema is not None and run.steps_done and (kind is None or run.team.shard is None):
        run.optimizer.load_average(run.team.params)
