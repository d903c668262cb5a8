"""Training by minibatches, as scikit-learn defines it: the penalty belongs to each minibatch.

    L = Σᵢ wᵢ ℓᵢ / Σᵢ wᵢ + ½ α ‖W‖² / Σᵢ wᵢ        over the rows i of the minibatch

The loop, the callbacks and the step are those of `ffnn_gpu.training`. Beside the penalty, two things differ:
the loss of an epoch weights minibatches by their rows, and a loss that is not finite raises no error.
"""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.data.minibatches import Minibatches, Order
from ffnn_gpu.distributed.communicator import Single
from ffnn_gpu.estimators.scikit_learn.problem import Problem
from ffnn_gpu.evaluation.evaluate import outputs_of
from ffnn_gpu.evaluation.samples import Samples
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.schedules import Schedule
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.training.callbacks import Callback, Run
from ffnn_gpu.training.data_parallel.team import DataParallel, Team
from ffnn_gpu.training.fit import drive, require_callbacks
from ffnn_gpu.training.history import History
from ffnn_gpu.training.loss_meter import Meter
from ffnn_gpu.training.run import TrainingRun
from ffnn_gpu.training.step import Step, gradient, require_rows_for_statistics, train_step, update


@dataclass(frozen=True)
class DrawnOrder(Order):
    """Each epoch shuffles the order of the one before, by scikit-learn's generator and in its way."""

    random: np.random.RandomState = field(default_factory=np.random.RandomState)
    current: list[HostArray] = field(default_factory=list)

    def permutation(self, rows: int, epoch: int) -> HostArray:
        if not self.shuffle:
            return np.arange(rows)
        last = self.current[0] if self.current else np.arange(rows)
        index = np.arange(rows)
        self.random.shuffle(index)
        self.current[:] = [last[index]]
        return self.current[0]


class PenalizedStep(Step):
    """The update of one minibatch with the penalty ½ α ‖W‖² / Σᵢ wᵢ."""

    def __init__(self, run: "EstimatorRun") -> None:
        super().__init__(run)
        self.alpha, self.divisor = run.alpha, run.problem.divisor
        self._optimizers: dict[int, Optimizer] = {}
        run.network.backend.write(self._share, 0, 1.0)

    def __call__(self, j: int, n: int, lr: Array) -> tuple[Array, Any]:
        """Update θ by the j-th chosen minibatch of n rows; return its loss and n."""
        network, backend, params = self.network, self.network.backend, self.network.params
        x, y, w, ws = self._rows(j, n, slice(0, n))
        if not self.alpha:
            value = train_step(network, self.loss, self.optimizer, x, y, ws, w, lr, checked=True)
            return value / self.divisor, n
        W = params.theta[: params.n_decayed]
        if w is None:
            penalty = backend.squared_norm(W) * (0.5 * self.alpha / n)
            rule = self._penalized(n)
            value = train_step(network, self.loss, rule, x, y, ws, None, lr, checked=True)
            return value / self.divisor + penalty, n
        total = backend.total(w)
        divisor = total + (total == 0)
        factor = self.alpha / divisor * (total / divisor)  # weights that are all 0: no penalty
        penalty = backend.squared_norm(W) * (0.5 * factor)
        value = gradient(network, self.loss, None, x, y, ws, w, self._share, True)
        if params.loss_scale is not None:
            factor = factor * params.loss_scale[0]
        backend.add_scaled(params.grad[: params.n_decayed], W, factor)
        update(network, None, self.optimizer, None, None, ws, None, lr, True)
        return value / self.divisor + penalty, n

    def _penalized(self, n: int) -> Optimizer:
        """Return the optimizer with the penalty of n rows; all share the moments of one optimizer."""
        if n not in self._optimizers:
            rule = replace(self.optimizer, l2=self.optimizer.l2 + self.alpha / n)
            states = self.network.params.optimizer_states
            states[rule] = self.optimizer.state(self.network.params)
            self._optimizers[n] = rule
        return self._optimizers[n]


class PatientMeter(Meter):
    """Adds up the losses of an epoch, also those that are not finite."""

    def flush(self, run: Run) -> None:
        values, weights = (self.backend.to_host(v)[: self.pending].tolist() for v in self._waiting.values())
        for value, weight in zip(values, weights, strict=True):
            run.loss_sum += value * weight
            run.weight_sum += weight
        self.pending = 0


@dataclass(eq=False, repr=False)
class EstimatorRun(TrainingRun):
    """A training run whose rows of the history have val_score too, if there are validation rows.

    Attributes:
        problem: what the network learns. alpha: of the penalty.
        y_held_out: the targets of the validation rows as `Problem.score` reads them.
    """

    problem: Problem = field(kw_only=True)
    alpha: float = field(kw_only=True)
    y_held_out: Any = None

    @cached_property
    def columns(self) -> dict[str, str | None]:
        known: dict[str, str | None] = {"val_score": "max"} if self.held_out is not None else {}
        return super().columns | known

    def make_step(self) -> Step:
        return PenalizedStep(self)

    def make_meter(self, most: int) -> Meter:
        return PatientMeter(self.network.backend, most)

    def require_finite(self) -> None:
        """Nothing: the estimator checks the parameters at the end, as scikit-learn does."""

    def validate(self) -> dict[str, float]:
        if self.validation is None:
            return {}
        rows = range(len(self.validation))
        total, weight, z = outputs_of(
            self.network, self.loss, self.validation, rows, self.network.backend.rows_at_once
        )
        w = None if self.held_out is None else self.held_out.weight
        score = self.problem.score(self.y_held_out, z, w)
        loss = total / weight / self.problem.divisor if weight else math.nan
        return {"val_loss": loss, "val_score": score}


def train(
    network: Network,
    problem: Problem,
    optimizer: Optimizer,
    data: Samples,
    held_out: Samples | None,
    y_held_out: Any,
    *,
    alpha: float,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    random: np.random.RandomState,
    schedule: Schedule,
    lr_factor: float,
    callbacks: list[Callback],
) -> History:
    """Train the network on rows that fit it and the problem. lr_factor: of the first epoch."""
    order = DrawnOrder(batch_size, shuffle, random=random)
    require_rows_for_statistics(network, len(data), order, 1, 1)
    minibatches = Minibatches(network.backend, data.x, data.y, data.weight, network.compute_dtype, order)
    team = Team(DataParallel(Single()), network, optimizer, False)
    run = EstimatorRun(
        network, problem.loss, optimizer, minibatches, held_out, team, (), schedule, callbacks,
        epochs=epochs, accumulate=1, lr_factor=lr_factor, problem=problem, alpha=alpha,
        y_held_out=y_held_out,
    )  # fmt: skip
    require_callbacks(run)
    try:
        return drive(run)
    finally:
        run.release()
        for rule in [*network.params.optimizer_states]:
            if rule is not optimizer:
                del network.params.optimizer_states[rule]
