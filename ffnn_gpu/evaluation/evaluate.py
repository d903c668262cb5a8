"""The loss and metrics of a network on data it is not trained on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.checks import require_positive_int
from ffnn_gpu.data.minibatches import resident, some_rows
from ffnn_gpu.data.standardizer import train_test_split
from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError
from ffnn_gpu.evaluation.metrics import METRICS, READ_SCORES, Metric, get_metrics
from ffnn_gpu.nn.losses.loss import weights
from ffnn_gpu.nn.losses.standard import Loss, get_loss
from ffnn_gpu.nn.network import Network


@dataclass(frozen=True)
class Samples:
    """Rows x (n, d), targets y and weights, checked for one network and loss; arrays of the host or of the device."""

    x: Any
    y: Any
    weight: Any | None

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, backend: Backend, index: np.ndarray) -> "Samples":
        """The rows `index`."""
        return Samples(
            some_rows(backend, self.x, index),
            self.y[index],
            None if self.weight is None else self.weight[index],
        )

    def on(self, backend: Backend, dtype: Any) -> "Samples":
        """The same rows on the device, for a set that is looked at again and again."""
        weight = None if self.weight is None else backend.asarray(self.weight)
        return Samples(resident(backend, self.x, dtype), backend.asarray(self.y), weight)


def samples(
    network: Network,
    loss: Loss,
    data: Any,
    sample_weight: Any = None,
    what: str = "data",
    rank: int = 0,
    size: int = 1,
) -> Samples:
    """(x, y) or (x, y, weight) checked: shapes, finite values, labels.

    Of x in a file only part `rank` of `size` is looked at, because each of so many ranks looks at one.

    Raises:
        ShapeError, DataError: with the numbers that do not fit; nothing is changed.
    """
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise DataError(
            f"{what} must be a pair (x, y) or a triple (x, y, sample_weight), not {type(data).__name__}"
        )
    backend = network.backend
    x = network.admit(data[0], rank, size)
    y = loss.targets(backend.to_host(backend.admit(data[1])), network.widths[-1], network.dtype)
    if not len(x):
        raise DataError(f"{what} is empty: x has shape {x.shape}")
    if len(y) != len(x):
        raise ShapeError(f"x has {len(x)} rows and y has {len(y)}")
    if sample_weight is not None and len(data) == 3:
        raise ConfigurationError(
            "sample_weight twice: as an argument and as the third of (x, y, sample_weight)"
        )
    weight = sample_weight if len(data) == 2 else data[2]
    if weight is not None:
        weight = np.asarray(weights(backend.to_host(backend.admit(weight)), len(x), network.dtype)).astype(
            network.dtype
        )
        if not weight.any():
            raise DataError(f"every one of the {len(x)} sample weights of {what} is 0")
    return Samples(x, y, weight)


def split(
    network: Network, loss: Loss, whole: Samples, validation: Any, seed: int, rank: int = 0, size: int = 1
) -> tuple[Samples, Samples | None]:
    """(training rows, validation rows): validation as given, or the fraction of `whole` it says.

    The rows held out are drawn from the seed, in the proportions of the classes where y are class indices.
    """
    if validation is None:
        return whole, None
    if not isinstance(validation, Real):
        return whole, samples(network, loss, validation, None, "validation", rank, size)
    if not 0 < float(validation) < 1:
        raise ConfigurationError(f"validation is {validation}; it is (Xv, yv), or a fraction between 0 and 1")
    y = class_per_row(whole.y)
    classes = y.ndim == 1 and y.dtype.kind == "i"
    train, held_out = train_test_split(
        y if classes else len(whole), float(validation), seed, stratify=classes
    )
    return whole.rows(network.backend, np.sort(train)), whole.rows(network.backend, np.sort(held_out))


def balanced(data: Samples, class_weight: Mapping[Any, float] | str, n_out: int, dtype: Any) -> Samples:
    """The same rows with each weight multiplied by that of its class, 1 where the mapping has none.

    "balanced" is n / (C n_c) for a class with n_c of n rows, as in scikit-learn.
    """
    y = class_per_row(data.y).reshape(len(data), -1)
    if y.shape[1] != 1 or (y != np.floor(y)).any():
        raise ConfigurationError(
            f"class_weight needs one class per row; these targets have shape {data.y.shape}"
        )
    classes, place, counts = np.unique(y.ravel(), return_inverse=True, return_counts=True)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ConfigurationError(f"class_weight is 'balanced' or a mapping, not {class_weight!r}")
        factors = len(data) / (len(classes) * counts)
    else:
        factors = _factors(class_weight, classes.tolist(), n_out)
    if not (np.isfinite(factors).all() and (factors >= 0).all() and factors.any()):
        raise ConfigurationError(
            f"class weights must be finite, at least 0 and not all 0, not {class_weight!r}"
        )
    weight = factors[place].astype(dtype)
    return replace(data, weight=weight if data.weight is None else weight * data.weight)


def class_per_row(y: Any) -> Any:
    """y (n,) as it is, one-hot rows (n, C) as class indices, everything else as it is."""
    one_hot = y.ndim == 2 and y.shape[1] > 1 and ((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all()
    return y.argmax(axis=1) if one_hot else y


def _factors(class_weight: Any, classes: list[Any], n_out: int) -> np.ndarray:
    if not isinstance(class_weight, Mapping) or not all(isinstance(v, Real) for v in class_weight.values()):
        raise ConfigurationError(
            f"class_weight is 'balanced' or a mapping from classes to numbers, not {class_weight!r}"
        )
    known = {*classes, *range(n_out)}  # a class that no training row has is still one
    stray = next((c for c in class_weight if c not in known), None)
    if stray is not None:
        raise ConfigurationError(
            f"class_weight has the class {stray!r}; the classes of these rows are {classes}"
        )
    return np.array([class_weight.get(c, 1.0) for c in classes], np.float64)


def evaluate(
    network: Network,
    loss: Loss | str,
    data: Any,
    *,
    metrics: str | Metric | Iterable[str | Metric] = (),
    batch_size: int | None = None,
) -> dict[str, float]:
    """{"loss": …, metric name: …} over (x, y) or (x, y, sample_weight), in inference mode.

    Args:
        loss: an object, or a name such as "softmax_cross_entropy".
        metrics: a name from `ffnn_gpu.metrics` or a function (y, prediction) → number, or several of them. A prediction is
            the loss's decision: a class index, 0 or 1, a number; top_k_accuracy and roc_auc get the outputs themselves. Where
            decisions are classes and y holds distributions, metrics get the likeliest class of each row as y.
        batch_size: rows that go through the network at once; None for as many as suit the device.
    """
    loss, batch_size = get_loss(loss), network.backend.rows_at_once if batch_size is None else batch_size
    require_positive_int("batch_size", batch_size)
    checked = data if isinstance(data, Samples) else samples(network, loss, data)
    return scores(
        network, loss, checked, metrics, *outputs_of(network, loss, checked, range(len(checked)), batch_size)
    )


def scores(
    network: Network,
    loss: Loss,
    data: Samples,
    metrics: str | Metric | Iterable[str | Metric],
    total: float,
    weight: float,
    outputs: np.ndarray,
) -> dict[str, float]:
    """What `evaluate` returns, from Σ N_i L_i, Σ N_i and the network's outputs (n, O)."""
    row = {"loss": total / weight if weight else 0.0}
    decisions = loss.decide(outputs)
    y = network.backend.to_host(data.y)
    if y.ndim > decisions.ndim:
        y = y.argmax(axis=1)
    for metric in get_metrics(metrics):
        row[metric_name(metric)] = float(metric(y, outputs if _reads_outputs(metric) else decisions))
    return row


def _plain(metric: Any) -> Any:
    return _plain(metric.func) if isinstance(metric, partial) else metric


def metric_name(metric: Any) -> str:
    """What the column of this metric is called, "val_" aside."""
    plain = _plain(metric)
    return getattr(plain, "__name__", type(plain).__name__)


def _reads_outputs(metric: Any) -> bool:
    return _plain(metric) in [METRICS[name] for name in READ_SCORES]


def outputs_of(
    network: Network, loss: Loss, data: Samples, rows: range, batch_size: int
) -> tuple[float, float, np.ndarray]:
    """(Σ N_i L_i, Σ N_i, outputs) of these rows in inference mode, `batch_size` of them at once."""
    backend: Backend = network.backend
    ws = network.workspace(min(batch_size, len(rows)), training=False)
    outputs = np.empty((len(rows), network.widths[-1]), network.dtype)
    total = weight = 0.0
    for start in range(rows.start, rows.stop, batch_size):
        some = slice(start, min(start + batch_size, rows.stop))
        x, y = backend.matrix(data.x[some], network.compute_dtype), backend.asarray(data.y[some])
        w = None if data.weight is None else backend.asarray(data.weight[some])
        z = network.forward(x, ws.first(len(x)))
        part = float(loss.total_weight(backend, y, w))
        total += float(loss(backend, z, y, None, w, checked=True)) * part
        weight += part
        outputs[start - rows.start : some.stop - rows.start] = backend.to_host(z)
    return total, weight, outputs
