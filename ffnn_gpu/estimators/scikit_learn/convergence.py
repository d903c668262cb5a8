"""When a training run stops, how its learning rate falls, and the attributes that record it."""

from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.training.callbacks import Callback, Run

SMALLEST_RATE, DIVISOR = 1e-6, 5.0  # of learning_rate="adaptive"


class Convergence(Callback):
    """Records each epoch in the attributes of an estimator, and ends the run when it no longer improves.

    Args:
        estimator: gets loss_, loss_curve_, best_loss_, validation_scores_, validation_loss_curve_, …
        rate: "constant", "invscaling", "adaptive", or anything else for no changes after an epoch.
        stops_by_score: True if the validation score decides, and the best weights are restored.

    Attributes:
        stopped: True if the run ended before its last epoch was due, or with it.
    """

    def __init__(self, estimator: Any, rate: Any, stops_by_score: bool) -> None:
        self.estimator, self.rate, self.stops_by_score = estimator, rate, stops_by_score
        self.best: dict[str, HostArray] = {}
        self.stopped = False

    def start(self, run: Run) -> None:
        e = self.estimator  # whose last fit may have stopped by the other quantity
        if self.stops_by_score and e.best_validation_score_ is None:
            e.best_validation_score_ = -np.inf
        if not self.stops_by_score and e.best_loss_ is None:
            e.best_loss_ = np.inf
        if self.stops_by_score:
            self.best = run.network.params.to_host()

    def needs_every_step(self) -> bool:
        return False

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        e = self.estimator
        e.n_iter_ += 1
        e.t_ += run.data.rows
        e.loss_ = row["loss"]
        e.loss_curve_.append(e.loss_)
        verbose = e.verbose and e.verbose != "bar"
        if verbose:
            print(f"Iteration {e.n_iter_}, loss = {e.loss_:.8f}")
        if "val_score" in row:
            e.validation_scores_.append(row["val_score"])
            e.validation_loss_curve_.append(row["val_loss"])
            if verbose:
                print(f"Validation score: {row['val_score']:f}")
        self._count(run, row)
        if self.rate == "invscaling":
            run.lr_factor = 1 / (e.t_ + 1) ** e.power_t
        if e._no_improvement_count > e.n_iter_no_change and not run.stop:
            self._conclude(run, verbose)

    def finish(self, run: Run) -> None:
        self.estimator._lr_factor, self.stopped = run.lr_factor, run.stop
        if self.best:
            run.network.params.assign(self.best)

    def _count(self, run: Run, row: dict[str, float]) -> None:
        """Count the epochs without an improvement, and keep the best weights."""
        e = self.estimator
        if self.stops_by_score:
            score, best = row["val_score"], e.best_validation_score_
            improves, is_best = not score < best + e.tol, score > best
            if is_best:
                e.best_validation_score_ = score
                with run.averaged():
                    self.best = run.network.params.to_host()
        else:
            improves, is_best = not e.loss_ > e.best_loss_ - e.tol, e.loss_ < e.best_loss_
            e.best_loss_ = e.loss_ if is_best else e.best_loss_
        e._no_improvement_count = 0 if improves else e._no_improvement_count + 1

    def _conclude(self, run: Run, verbose: bool) -> None:
        """Stop, or lower the learning rate if it is adaptive and not small yet."""
        e = self.estimator
        what = "Validation score" if self.stops_by_score else "Training loss"
        said = f"{what} did not improve more than tol={e.tol:f} for {e.n_iter_no_change} consecutive epochs."
        rate = run.optimizer.lr * run.lr_factor
        if self.rate == "adaptive" and rate > SMALLEST_RATE:
            run.lr_factor /= DIVISOR
            e._no_improvement_count = 0
            said += f" Setting learning rate to {rate / DIVISOR:f}"
        else:
            run.stop = True
            said += " Learning rate too small." * (self.rate == "adaptive") + " Stopping."
        if verbose:
            print(said)


def begin(estimator: Any, early_stopping: bool) -> None:
    """Set the attributes of an estimator that has not been trained."""
    estimator.loss_curve_, estimator.validation_loss_curve_ = [], None
    estimator._no_improvement_count = 0
    estimator.validation_scores_ = [] if early_stopping else None
    estimator.best_validation_score_ = -np.inf if early_stopping else None
    estimator.best_loss_ = None if early_stopping else np.inf
