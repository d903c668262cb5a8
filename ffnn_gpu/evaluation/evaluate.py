"""Compute the loss and metrics of a network on data."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends import Backend
from ffnn_gpu.checks import require_positive_int
from ffnn_gpu.distributed.communicator import Communicator, piece_bounds
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.evaluation.metrics import (
    LOWER_IS_BETTER,
    METRICS,
    READ_SCORES,
    Metric,
    Metrics,
    get_metrics,
    log_loss,
    roc_auc,
)
from ffnn_gpu.evaluation.samples import Samples, samples
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.losses.standard import get_loss
from ffnn_gpu.nn.network import Network

# columns of a history that are no metrics
READERS_OF_SCORES = [METRICS[name] for name in READ_SCORES]
OTHER_COLUMNS = ("epoch", "loss", "val_loss", "lr", "seconds", "samples_per_second")


def evaluate(
    network: Network, loss: Loss | str, data: Any, *, metrics: Metrics = (), batch_size: int | None = None
) -> dict[str, Any]:
    """Compute {"loss": …, metric name: …} over (x, y) or (x, y, sample_weight), in inference mode.

    Of a pack, each value is the vector (R,) of the members' values.

    Args: loss: an object, or a name such as "softmax_cross_entropy". metrics: a name from `ffnn_gpu.metrics`
        or a function (y, prediction) → number, or several of them. A prediction is the loss's decision: a
        class index, 0 or 1, a number; top_k_accuracy and roc_auc get the outputs themselves, log_loss and
        roc_auc of more than two classes the probabilities. Where decisions are classes and y holds
        distributions, metrics get the likeliest class of each row as y. The metrics of `ffnn_gpu.metrics` use
        sample_weight; a function of the caller does not get it. batch_size: rows per pass through the
        network; None for a number that suits the device.
    """
    loss, batch_size = get_loss(loss), network.backend.rows_at_once if batch_size is None else batch_size
    require_positive_int("batch_size", batch_size)
    checked = data if isinstance(data, Samples) else samples(network, loss, data)
    outputs = outputs_of(network, loss, checked, range(len(checked)), batch_size)
    of = scores if network.members is None else scores_of_members
    return of(network, loss, checked, metrics, *outputs)


def scores(
    network: Network, loss: Loss, data: Samples, metrics: Metrics, total: float, weight: float, z: HostArray
) -> dict[str, float]:
    """The result of `evaluate`, from total = Σ N_i L_i, weight = Σ N_i and the network's outputs z (n, O).

    The metrics of this package weigh the rows as the loss does, and are NaN, as the loss is, if an output or
    probability is; a function of the user takes (y, prediction).
    """
    row = {"loss": total / weight if weight else 0.0}
    decisions = loss.decide(z)
    y = network.backend.to_host(data.y)
    if y.ndim > decisions.ndim:
        y = y.argmax(axis=1)
    weights = {} if data.weight is None else {"sample_weight": network.backend.to_host(data.weight)}
    for name, metric in by_name(get_metrics(metrics)).items():
        read = _read_by(metric, loss, y, z) if _plain(metric) in READERS_OF_SCORES else decisions
        is_ours = better(metric) is not None
        takes_them = is_ours and "sample_weight" not in getattr(metric, "keywords", ())
        undefined = is_ours and (np.isnan(z).any() or np.isnan(read).any())
        row[name] = np.nan if undefined else float(metric(y, read, **(weights if takes_them else {})))
    return row


def scores_of_members(
    network: Network,
    loss: Loss,
    data: Samples,
    metrics: Metrics,
    total: HostArray,
    weight: float,
    z: HostArray,
) -> dict[str, HostArray]:
    """Do what `scores` does for each member of a pack: vectors (R,) from total (R,) and z (R, n, O)."""
    members = zip(total.tolist(), z, strict=True)
    rows = [scores(network, loss, data, metrics, own, weight, outputs) for own, outputs in members]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _read_by(metric: Metric, loss: Loss, y: HostArray, z: HostArray) -> HostArray:
    """Return the outputs, or the probabilities for a metric that compares them between rows."""
    plain, of_classes = _plain(metric), y.ndim == 1 and z.shape[1] > 1
    return loss.probabilities(z) if plain is log_loss or (plain is roc_auc and of_classes) else z


@np.errstate(all="ignore")
def require_defined(network: Network, loss: Loss, data: Samples, metrics: Metrics) -> None:
    """Raise the error of a metric of this package that no prediction could avoid: roc_auc of one class."""
    known = [metric for metric in get_metrics(metrics) if better(metric) is not None]
    if known:
        scores(network, loss, data, known, 0.0, 1.0, np.zeros((len(data), network.widths[-1]), network.dtype))


def _plain(metric: Any) -> Any:
    return _plain(metric.func) if isinstance(metric, partial) else metric


def metric_name(metric: Any) -> str:
    """Return the name of this metric's column, without "val_"."""
    plain = _plain(metric)
    return getattr(plain, "__name__", type(plain).__name__)


def by_name(metrics: Iterable[Metric]) -> dict[str, Metric]:
    """Return {name: metric}. Raises ConfigurationError if a name is used twice or is a column of its own."""
    named: dict[str, Metric] = {}
    for metric in metrics:
        name = metric_name(metric)
        if name in named or name in OTHER_COLUMNS:
            taken = "two metrics are" if name in named else "a metric is"
            raise ConfigurationError(f"{taken} called {name!r}; give the function another __name__")
        named[name] = metric
    return named


def better(metric: Any) -> str | None:
    """Return "min" or "max", the better values of a metric of this package; None for any other function."""
    plain = _plain(metric)
    measured = getattr(plain, "measured", plain)
    name = next((name for name, known in METRICS.items() if known is measured), None)
    return None if name is None else "min" if name in LOWER_IS_BETTER else "max"


def outputs_of(
    network: Network, loss: Loss, data: Samples, rows: range, batch_size: int
) -> tuple[Any, float, HostArray]:
    """Compute (Σ N_i L_i, Σ N_i, outputs) of these rows in inference mode, in batches of `batch_size`.

    The sum and the outputs of a pack have an axis of members in front.
    """
    backend: Backend = network.backend
    ws = network.workspace(min(batch_size, len(rows)), training=False)
    outputs = np.empty((*network.leading, len(rows), network.widths[-1]), network.dtype)
    total: Any = 0.0
    weight = 0.0
    for start in range(rows.start, rows.stop, batch_size):
        some = slice(start, min(start + batch_size, rows.stop))
        x, y = data.x.matrix(backend, some, network.compute_dtype), backend.asarray(data.y[some])
        w = None if data.weight is None else backend.asarray(data.weight[some])
        z = network.forward(x, ws.first(len(x)))
        part = float(loss.total_weight(backend, y, w))
        value = loss(backend, z, y, None, w, checked=True)
        total = total + part * (float(value) if z.ndim == 2 else backend.to_host(value).astype(np.float64))
        weight += part
        outputs[..., start - rows.start : some.stop - rows.start, :] = backend.to_host(z)
    ws.release()
    return total, weight, outputs


def evaluate_together(
    communicator: Communicator, network: Network, loss: Loss, data: Samples, metrics: Sequence[Metric]
) -> dict[str, Any]:
    """Evaluate the whole data; each rank computes a part of the outputs. Every rank must call this."""
    rows, width = piece_bounds(len(data), communicator.size), network.widths[-1]
    mine = range(rows[communicator.rank], rows[communicator.rank + 1])
    total, weight, outputs = outputs_of(network, loss, data, mine, network.backend.rows_at_once)
    if network.members is not None:
        return scores_of_members(network, loss, data, metrics, total, weight, outputs)
    sums = np.array([total, weight])
    communicator.all_reduce(sums)
    whole = outputs
    if communicator.size > 1:
        whole = np.empty((len(data), width), outputs.dtype)
        whole[mine.start : mine.stop] = outputs
        communicator.all_gather(whole.reshape(-1), [width * bound for bound in rows])
    return scores(network, loss, data, metrics, float(sums[0]), float(sums[1]), whole)
