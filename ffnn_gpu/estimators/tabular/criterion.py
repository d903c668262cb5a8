"""The number by which epochs and kinds of members are compared, and which the ensemble reports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checks import counted, is_number
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators.task import DEFAULT_METRICS, Task
from ffnn_gpu.evaluation.metrics import LOWER_IS_BETTER, METRICS, READ_SCORES, full_name, log_loss

FLOOR = 1e-7  # probability in a log loss; float32 outputs can be 0


@dataclass(frozen=True)
class Criterion:
    """A function of targets and predictions, and which of its values are better.

    Args:
        function: (y, prediction) → number. y has the labels or numbers that `fit` was given. A prediction is
            a label or a number. A function of this package gets the weights of the rows too.
        higher_is_better: True if higher values are better, False if lower ones are.
        reads_probabilities: True if a prediction is a probability instead: of two classes that of the second
            (n,), of more those of all (n, C), of several labels those of 1 (n, K).
    """

    function: Callable[..., float]
    higher_is_better: bool
    reads_probabilities: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ConfigurationError(
                f"a Criterion needs a function that is called with (y, prediction), not {self.function!r}"
            )
        if not isinstance(self.higher_is_better, bool):
            raise ConfigurationError(
                f"higher_is_better of a Criterion must be True or False, not {self.higher_is_better!r}"
            )

    @property
    def name(self) -> str:
        """The name of the function."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    @property
    def is_known(self) -> bool:
        """Whether the function is a metric of this package, which reads class indices and weights."""
        return METRICS.get(self.name) is self.function


@dataclass(frozen=True, eq=False)
class Objective:
    """What is compared: a metric, or without one the log loss of classes and the error of numbers.

    The error of numbers is their root mean squared error in standard deviations of the target.

    Args:
        task: of the members. Targets y are encoded as its loss reads them. Predictions p are probabilities,
            (n, C) or (n, K), or standardized numbers (n, K).
        criterion: the metric, or None.
    """

    task: Task
    criterion: Criterion | None = None

    @classmethod
    def of(cls, metric: Any, task: Task) -> "Objective":
        """Return the objective for a name, a metric of this package, a Criterion or None.

        Raises ConfigurationError if there is no such metric, it does not fit the task, or its direction is
        not known.
        """
        if metric is None:
            return cls(task)
        if isinstance(metric, Criterion) and metric.is_known:
            if metric.higher_is_better == (metric.name in LOWER_IS_BETTER):
                which = "higher" if metric.higher_is_better else "lower"
                raise ConfigurationError(
                    f"{which} values of {metric.name} are not the better ones; use metric={metric.name!r}"
                )
            metric = metric.function
        if callable(metric) and metric in METRICS.values():
            metric = metric.__name__
        if isinstance(metric, Criterion):
            if metric.reads_probabilities and task.kind == "regression":
                raise ConfigurationError(
                    f"metric {metric.name!r} reads probabilities, and a regression predicts numbers; leave "
                    "reads_probabilities out"
                )
            return cls(task, metric)
        if callable(metric):
            raise ConfigurationError(
                f"metric is the function {getattr(metric, '__name__', metric)!r}; nothing says whether its "
                "lower or its higher values are better: pass Criterion(function, higher_is_better=True), or "
                "False"
            )
        name = full_name(metric)
        task.metrics([name])  # raises if it does not fit
        return cls(task, Criterion(METRICS[name], name not in LOWER_IS_BETTER, name in READ_SCORES))

    @property
    def name(self) -> str:
        """The name of the metric, "" without one."""
        return "" if self.criterion is None else self.criterion.name

    @property
    def measured(self) -> str:
        """The words for the number in a report."""
        return self.name or ("log loss", "error in standard deviations")[self.task.kind == "regression"]

    def reported(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the metrics that a model reports: these names, or the standard ones, and this one."""
        names = tuple(map(full_name, names))
        if self.criterion is None or not self.criterion.is_known:
            return names
        rest = names or DEFAULT_METRICS[self.task.kind]
        return rest if self.name in rest and names else (self.name, *(n for n in rest if n != self.name))

    def loss(self, y: HostArray, p: HostArray, weight: HostArray | None = None) -> float:
        """Return the log loss of probabilities, or the mean squared error of standardized numbers."""
        if self.task.kind == "regression":
            return float(np.average(((p - y) ** 2).mean(axis=1), weights=weight))
        if self.task.kind == "multilabel":
            return log_loss(y > 0.5, np.clip(p, FLOOR, 1 - FLOOR), weight)
        if p.shape[1] == 1:
            return 0.0  # of the only class there is
        return log_loss(_indices(y), np.maximum(p, FLOOR), weight)

    def score(self, y: HostArray, p: HostArray, weight: HostArray | None = None) -> float:
        """Return the metric, or without one the error. Raises DataError if it is undefined."""
        if self.criterion is None:
            return self.error(y, p, weight)
        known = self.criterion.is_known
        more = {"sample_weight": weight} if known and weight is not None else {}
        value = self.criterion.function(*self._read(y, p), **more)
        if not is_number(value):
            raise ConfigurationError(f"metric {self.name!r} returned {value!r}, which is no number")
        if not np.isfinite(value):
            raise DataError(f"metric {self.name!r} is {float(value)} for {counted(len(y), 'row')}")
        return float(value)

    def error(self, y: HostArray, p: HostArray, weight: HostArray | None = None) -> float:
        """Return a number that is lower for better predictions; of a score up to 1 its distance from 1."""
        if self.criterion is None:
            loss = self.loss(y, p, weight)
            return float(np.sqrt(loss)) if self.task.kind == "regression" else loss
        score = self.score(y, p, weight)
        if not self.criterion.higher_is_better:
            return score
        return 1 - score if self.criterion.is_known else -score

    def require_defined(self, y: HostArray, folds: HostArray, weight: HostArray | None = None) -> None:
        """Raise DataError if the rows of a fold do not define the metric, such as the AUC of one class."""
        if self.criterion is None or not self.criterion.is_known:
            return
        count = int(folds.max()) + 1
        for fold in range(count):
            held = folds == fold
            try:
                self.score(y[held], self._constant(y[held]), None if weight is None else weight[held])
            except DataError as error:
                rows = counted(int(held.sum()), "row")
                raise DataError(
                    f"fold {fold + 1} of {count} holds {rows}, which do not define {self.name}: {error}. "
                    "Use another metric or a preset with fewer folds"
                ) from error

    def _constant(self, y: HostArray) -> HostArray:
        """Return predictions for targets y that are the same for each row."""
        if self.task.kind == "regression":
            return np.zeros(y.shape)
        C = 2 if self.task.kind == "binary" else self.task.outputs
        return np.full((len(y), C), 0.5 if self.task.kind == "multilabel" else 1 / C)

    def _read(self, y: HostArray, p: HostArray) -> tuple[Any, Any]:
        """Return the targets and the predictions as the metric reads them."""
        task, criterion = self.task, self.criterion
        assert criterion is not None  # asked of a metric only
        if task.kind == "regression":
            pair = y if task.units is None else task.units.inverse(y), task.in_units(p)
            return (pair[0][:, 0], pair[1][:, 0]) if task.outputs == 1 else pair
        if task.kind == "multilabel":
            return (y > 0.5).astype(int), p if criterion.reads_probabilities else (p > 0.5).astype(int)
        truth, found = _indices(y), p[:, 1] if task.kind == "binary" else p
        if found.ndim == 2 and found.shape[1] == 1:  # the only class; one column would be that of a second
            found = np.hstack([p, np.zeros_like(p)])
        if not criterion.reads_probabilities:
            found = p.argmax(axis=1)
        if criterion.is_known or task.labels is None:
            return truth, found
        named = task.labels.decode
        return named(truth), found if criterion.reads_probabilities else named(found)


def predictions_of(task: Task, z: HostArray) -> HostArray:
    """Return the probabilities (n, C) or (n, K) of a member's outputs z; of a regression z itself."""
    return z if task.kind == "regression" else task.probabilities(z)


def _indices(y: HostArray) -> HostArray:
    return np.asarray(y).ravel().astype(int)
