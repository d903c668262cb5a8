"""Train the network of an estimator: by minibatches, with validation rows if there are some, or by L-BFGS."""

import signal
import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.scikit_learn import lbfgs, stochastic
from ffnn_gpu.estimators.scikit_learn.convergence import Convergence
from ffnn_gpu.estimators.scikit_learn.parameters import batch_size
from ffnn_gpu.estimators.scikit_learn.problem import Problem
from ffnn_gpu.estimators.scikit_learn.solvers import optimizer_of, schedule_of
from ffnn_gpu.estimators.scikit_learn.trained import Trained
from ffnn_gpu.evaluation.samples import Samples
from ffnn_gpu.nn import schedules
from ffnn_gpu.training.callbacks import Callback
from ffnn_gpu.training.progress import ProgressBar

TO_CALLER = 5  # stack levels from here to the line that calls `fit`, through scikit-learn's decorator


class Labelled(NamedTuple):
    """Rows that fit a network, and their targets as `Problem.score` reads them."""

    samples: Samples
    y: HostArray


def by_minibatches(
    estimator: Any,
    trained: Trained,
    problem: Problem,
    data: Labelled,
    held_out: Labelled | None,
    random: np.random.RandomState,
    incremental: bool,
) -> None:
    """Train for max_iter epochs or until the estimator no longer improves; incremental: for one epoch.

    Warns as scikit-learn does: not converged, batch_size too large, interrupted.
    """
    e = estimator
    if e.early_stopping and held_out is None:
        data, held_out = _split(e, problem, trained, data, random)
    rows = len(data.samples)
    if e.batch_size != "auto" and e.batch_size > rows:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=TO_CALLER,
        )
    if held_out is not None:
        e.validation_loss_curve_ = e.validation_loss_curve_ or []
        e.validation_scores_ = e.validation_scores_ or []
    schedule = schedule_of(e)
    if incremental and schedule != schedules.constant:
        raise ConfigurationError(
            f"partial_fit does not know how many steps follow, so learning_rate={e.learning_rate!r} means "
            "nothing there; use 'constant', or 'invscaling' with solver='sgd'"
        )
    optimizer = optimizer_of(e)
    trained.continue_with(optimizer)
    e.n_iter_ = 0
    rate = "constant" if e.solver == "adam" else e.learning_rate  # as in scikit-learn
    watch = Convergence(e, rate, bool(e.early_stopping))
    history = stochastic.train(
        trained.network,
        problem,
        optimizer,
        data.samples,
        *(held_out or (None, None)),
        alpha=float(e.alpha),
        epochs=1 if incremental else e.max_iter,
        batch_size=batch_size(e, rows),
        shuffle=e.shuffle,
        random=random,
        schedule=schedule,
        lr_factor=e._lr_factor if incremental else 1.0,
        callbacks=[watch, *_callbacks(e)],
    )
    if history.interrupted == signal.SIGINT:
        warnings.warn("Training interrupted by user.", stacklevel=TO_CALLER)
    elif history.interrupted is not None:
        signal.raise_signal(history.interrupted)
    elif not incremental and not watch.stopped:
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({e.max_iter}) reached and the optimization hasn't "
            "converged yet.",
            ConvergenceWarning,
            stacklevel=TO_CALLER,
        )


def by_lbfgs(
    estimator: Any, trained: Trained, problem: Problem, data: Labelled, held_out: Labelled | None
) -> None:
    """Minimize the loss of all rows. Raises ConfigurationError for parameters that need epochs."""
    e = estimator
    if np.any(e.dropout):
        raise ConfigurationError(
            "solver='lbfgs' needs the same loss at each call, and dropout changes it; set dropout=0 or use "
            "solver='adam'"
        )
    if _callbacks(e) or held_out is not None:
        raise ConfigurationError(
            "solver='lbfgs' has no epochs, so it takes no callbacks and no X_val; use solver='adam'"
        )
    e.n_iter_, e.loss_ = lbfgs.minimize(
        trained.network,
        problem,
        data.samples,
        alpha=float(e.alpha),
        max_iter=e.max_iter,
        max_fun=e.max_fun,
        tol=e.tol,
        verbose=bool(e.verbose),
    )


def _callbacks(estimator: Any) -> list[Callback]:
    given = estimator.callbacks
    listed = [] if given is None else [given] if isinstance(given, Callback) else [*given]
    return [*listed, ProgressBar()] if estimator.verbose == "bar" else listed


def _split(
    estimator: Any, problem: Problem, trained: Trained, data: Labelled, random: np.random.RandomState
) -> tuple[Labelled, Labelled]:
    """Hold out `validation_fraction` of the rows: the rows that scikit-learn holds out."""
    backend = trained.network.backend
    stratify = data.y.astype(bool).reshape(-1, 1) if problem.kind == "binary" else None
    parts = train_test_split(
        np.arange(len(data.samples)),
        random_state=random,
        test_size=estimator.validation_fraction,
        stratify=stratify,
    )
    if len(parts[1]) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
        )
    train, test = (Labelled(data.samples.select(backend, index), data.y[index]) for index in parts)
    if test.samples.weight is not None and not np.any(test.samples.weight):
        raise ValueError(
            f"the weights of all {len(test.samples)} rows held out for early_stopping are 0; give X_val, or "
            "leave out rows of weight 0"
        )
    return train, test
