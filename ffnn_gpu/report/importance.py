"""Which columns the predictions of test rows depend on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.errors import DataError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.split import Part, part_of
from ffnn_gpu.estimators.tabular.criterion import Objective, predictions_of
from ffnn_gpu.estimators.task import DEFAULT_METRICS
from ffnn_gpu.evaluation.importance import mean_and_deviation, permutation_importance
from ffnn_gpu.evaluation.metrics import LOWER_IS_BETTER, METRICS, READ_SCORES
from ffnn_gpu.report.findings import ColumnImportance, Importance
from ffnn_gpu.report.worst import column_names
from ffnn_gpu.tables.rows import TableRows

MOST_ROWS, LEAST_ROWS = 1000, 100
REPEATS = (3, 1)  # the first with which at least LEAST_ROWS can be predicted is used
WORK = 2e11  # parameters times predicted rows at most: some seconds on a CPU


class Read(NamedTuple):
    """A column of the data, and its places in the matrix that the network reads."""

    name: str
    places: Sequence[int]


def importance_of(model: Model, test: Part, result: Mapping[str, Any]) -> Importance | None:
    """Return how much the first metric of the run becomes worse when a column is shuffled.

    Return None if there are too few rows, or so many columns that it would take too long.
    """
    columns = read_columns(model)
    repeats, most = _affordable(len(test.x), len(columns), model.network.params.count)
    if most < 2:
        return None
    chosen = np.sort(np.random.default_rng(0).choice(len(test.x), most, replace=False))
    some = part_of(test, chosen)
    x = np.asarray(
        model.features(some.x if isinstance(some.x, TableRows) else np.asarray(rows_of(some.x)[:]))
    )
    name = metric_of(model, some, result)
    found = permutation_importance(error_of(model, some, name), x, [each.places for each in columns], repeats)
    means, deviations = mean_and_deviation(found)
    rows = zip(columns, means.tolist(), deviations.tolist(), strict=True)
    importances = [ColumnImportance(column.name, mean, deviation) for column, mean, deviation in rows]
    importances.sort(key=lambda column: -column.mean)
    return Importance(name, most, repeats, tuple(importances))


def _affordable(rows: int, columns: int, parameters: int) -> tuple[int, int]:
    """Return the number of repeats and of rows, 0 rows if even one repeat would take too long."""
    for repeats in REPEATS:
        most = min(rows, MOST_ROWS, int(WORK / (repeats * columns * parameters)))
        if most >= min(rows, LEAST_ROWS):
            return repeats, most
    return 1, 0


def read_columns(model: Model) -> list[Read]:
    """Return the columns of the data that the network reads."""
    if model.encoding is None:
        names = model.feature_names or column_names(model.network.n_in)
        return [Read(name, (k,)) for k, name in enumerate(names)]
    found, start = [], 0
    for encoder in model.encoding.encoders:
        stop = start + len(encoder.outputs)
        found.append(Read(encoder.name, range(start, stop)))
        start = stop
    return found


def metric_of(model: Model, part: Part, result: Mapping[str, Any]) -> str:
    """Return the first metric of the run that these rows define, or else the standard one."""
    names = [name for name in (result.get("test") or {}) if name in METRICS]
    defined = (name for name in names if name not in READ_SCORES or _is_defined(model, part, name))
    return next(defined, DEFAULT_METRICS[model.task.kind][0])


def _is_defined(model: Model, part: Part, name: str) -> bool:
    """Return False for a metric that needs rows which are not there, such as the AUC of one class."""
    y = model.task.encode(part.y)
    try:
        Objective.of(name, model.task).require_defined(y, np.zeros(len(y), int), part.weight)
    except DataError:
        return False
    return True


def error_of(model: Model, part: Part, name: str) -> Callable[[HostArray], float]:
    """Return a function from a matrix of these rows to an error: the metric, or 1 − the metric."""
    if name in READ_SCORES:
        return _error_of_probabilities(model, part, name)
    task, metric = model.task, METRICS[name]
    is_regression = task.kind == "regression"
    y = np.reshape(part.y, (len(part.y), -1)) if is_regression else task.encode(part.y)

    def error(x: HostArray) -> float:
        decided = task.loss.decide(model.network.predict(x))
        decided = task.in_units(decided) if is_regression else decided.reshape(y.shape)
        value = metric(y, decided, sample_weight=part.weight)
        return value if name in LOWER_IS_BETTER else 1 - value

    return error


def _error_of_probabilities(model: Model, part: Part, name: str) -> Callable[[HostArray], float]:
    """Return the same for a metric that reads probabilities."""
    task, objective, y = model.task, Objective.of(name, model.task), model.task.encode(part.y)

    def error(x: HostArray) -> float:
        return objective.error(y, predictions_of(task, model.network.predict(x)), part.weight)

    return error
