"""How much the predictions out of fold get worse when the cells of a column change places.

A column is permuted among the rows of a fold, which the members of that fold were not trained on; all columns
of the matrix that it is encoded as move together. Cost: columns · REPEATS · rows predictions by each chosen
recipe. At most MOST_ROWS rows are used, fewer if that would take more than SHARE of the operations of the
training, but at least LEAST_ROWS.

Reference: Breiman: Random Forests (2001), section 10.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.tabular.criterion import predictions_of
from ffnn_gpu.estimators.tabular.fit_ensemble import Ensemble
from ffnn_gpu.estimators.tabular.held_out_rows import HeldOutRows
from ffnn_gpu.evaluation.importance import mean_and_deviation
from ffnn_gpu.nn.network import Network

REPEATS = 5
SHARE = 0.1  # of the operations of the training
ALWAYS = 1e10  # operations that take about a second
TOGETHER = 1 << 22  # numbers that are permuted or predicted at a time


@dataclass(frozen=True)
class Importances:
    """How much the error out of fold rises when a column is permuted: mean and deviation of REPEATS times.

    The error is that of the ensemble; a metric of which higher values are better falls by it.

    Attributes:
        names: of the columns.
        mean, deviation: a number for each column; 0 for a column that the networks do not read.
        rows: the number of rows that were permuted.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    rows: int

    @property
    def by_size(self) -> list[tuple[str, float, float]]:
        """The columns with mean and deviation, the most important first."""
        columns = zip(self.names, self.mean, self.deviation, strict=True)
        return sorted(columns, key=lambda column: -column[1])


def importances_of(model: Model, found: Ensemble, names: Sequence[str] = ()) -> Importances:
    """Return the importance of each column of the table that an ensemble was trained on.

    Args:
        model: with the joined network; its encoding says which columns of the matrix belong to a column.
        names: of the columns; () for those that are read.
    """
    read = _places(model)
    names, rows = tuple(names) or tuple(read), found.sample.first(_rows(model, found))
    base, x = _errors(found, rows, (), 0)[0], rows.rows.x
    varied = x.min(axis=0) < x.max(axis=0)

    def rise(number: int) -> HostArray:
        columns = [k for k in read.get(names[number], ()) if varied[k]]
        return np.asarray(_errors(found, rows, columns, number)) - base if columns else np.zeros(1)

    with ThreadPoolExecutor(max(1, model.network.backend.runs_at_once)) as threads:
        rises = [*threads.map(rise, range(len(names)))]
    pairs = [mean_and_deviation(each) for each in rises]
    mean, deviation = (tuple(map(float, each)) for each in zip(*pairs, strict=True))
    return Importances(names, mean, deviation, len(rows))


def are_cheap(model: Model, found: Ensemble) -> bool:
    """Return whether importances take at most SHARE of the operations of the training, or about a second."""
    return _rows(model, found) * _of_a_row(model, found) <= max(ALWAYS, SHARE * _of_training(found))


def _rows(model: Model, found: Ensemble) -> int:
    """Return the number of rows to permute."""
    affordable = int(max(ALWAYS, SHARE * _of_training(found)) / _of_a_row(model, found))
    return min(len(found.sample), max(found.sample.least, affordable))


def _of_training(found: Ensemble) -> float:
    """Return about how many operations the training took."""
    epochs = sum(len(member.history) * _flops(member.network) for member in found.members)
    return 3.0 * len(found.index) * epochs


def _of_a_row(model: Model, found: Ensemble) -> int:
    """Return about how many operations a row takes."""
    of_recipes = {m.plan.recipe.name: _flops(m.network) for m in found.members}
    return REPEATS * len(_places(model)) * sum(of_recipes[name] for name in found.weights)


def _flops(network: Network) -> int:
    return sum(layer.flops(I) for layer, I in zip(network.layers, network.widths, strict=False))


def _errors(found: Ensemble, held: HeldOutRows, columns: Sequence[int], number: int) -> list[float]:
    """Return the error of the weighted mean, REPEATS times with these columns permuted; once without any."""
    repeats, rng, n = REPEATS if columns else 1, np.random.default_rng(number), len(held)
    places = [np.flatnonzero(held.fold == fold) for fold in np.unique(held.fold)]
    orders = [[rng.permutation(at) if columns else at for _ in range(repeats)] for at in places]
    (x, y, weight), C, errors = held.rows, found.out_of_fold.shape[1], list[float]()
    together = max(1, TOGETHER // (n * max(x.shape[1], C)))
    for start in range(0, repeats, together):
        some = [of_fold[start : start + together] for of_fold in orders]
        p = np.empty((len(some[0]), n, C))
        for at, of_fold in zip(places, some, strict=True):
            changed = np.concatenate([x[at]] * len(of_fold))
            changed[:, [*columns]] = x[np.concatenate(of_fold)][:, [*columns]]
            p[:, at] = np.split(_mean(found, int(held.fold[at[0]]), changed), len(of_fold))
        errors += [found.objective.error(y, each, weight) for each in p]
    return errors


def _mean(found: Ensemble, fold: int, x: HostArray) -> HostArray:
    """Return the weighted mean of the predictions for rows x of the members that held out a fold."""
    total: HostArray | float = 0.0
    for plan, network, *_ in found.members:
        if plan.fold == fold and (weight := found.weights.get(plan.recipe.name)):
            z = np.asarray(network.predict(x), np.float64)
            z /= found.temperatures[plan.recipe.name]
            total = total + weight * predictions_of(found.objective.task, z)
    return np.asarray(total)


def _places(model: Model) -> dict[str, Sequence[int]]:
    """Return {name of a column of the table: its columns of the matrix}, in the order of the table."""
    if model.encoding is None:
        n = model.network.n_in
        return {name: (k,) for k, name in enumerate(model.feature_names or map(str, range(n)))}
    encoders = model.encoding.encoders
    stops = [0, *accumulate(len(encoder.outputs) for encoder in encoders)]
    found = {encoder.name: range(stops[k], stops[k + 1]) for k, encoder in enumerate(encoders)}
    return {name: found[name] for name in model.encoding.columns if name in found}
