"""A task: the number of outputs, the loss, and how targets and outputs are encoded and decoded.

multiclass   C logits            softmax_cross_entropy             the class with the largest output
binary       1 logit             binary_cross_entropy_with_logits  the second class if the output is positive
multilabel   K logits            binary_cross_entropy_with_logits  each label whose output is positive
regression   K numbers           mean_squared_error                the outputs, in the units of the target
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.precision import underflow_is_zero
from ffnn_gpu.arrays.whole_numbers import are_codes
from ffnn_gpu.data.labels import LabelMap, infer_task
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.errors import CheckpointError, ConfigurationError
from ffnn_gpu.evaluation.evaluate import metric_name
from ffnn_gpu.evaluation.metrics import Metric, get_metric
from ffnn_gpu.nn.activations import sigmoid
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import Dense, Softmax
from ffnn_gpu.nn.losses import Loss, SoftmaxCrossEntropy
from ffnn_gpu.nn.losses.standard import SHORT_NAMES, get_loss

TASK_LOSSES = {                             # the first is the default
    "multiclass": ("softmax_cross_entropy", "cross_entropy"),
    "binary": ("binary_cross_entropy_with_logits", "binary_cross_entropy"),
    "multilabel": ("binary_cross_entropy_with_logits", "binary_cross_entropy"),
    "regression": ("mean_squared_error", "mean_absolute_error", "huber"),
}  # fmt: skip
CLASS_METRICS = ("accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "f1_macro")
TASK_METRICS = {
    "multiclass": (*CLASS_METRICS, "top_k_accuracy", "roc_auc", "log_loss"),
    "binary": (*CLASS_METRICS, "roc_auc", "log_loss"),
    "multilabel": ("accuracy", "precision_macro", "recall_macro", "f1_macro", "roc_auc", "log_loss"),
    "regression": ("rmse", "mae", "r2", "mse"),
}
DEFAULT_METRICS = {
    "multiclass": ("accuracy",), "binary": ("accuracy",), "multilabel": ("accuracy", "f1_macro"),
    "regression": ("rmse", "mae", "r2"),
}  # fmt: skip
ON_PROBABILITIES = ("cross_entropy", "binary_cross_entropy")


@dataclass(frozen=True)
class Task:
    """The kind of prediction that a network is trained for. Saved with the model.

    Args:
        kind: "binary", "multiclass", "multilabel" or "regression".
        outputs: width of the network's last layer.
        loss_name: one of TASK_LOSSES[kind].
        labels: the classes; None for multilabel and regression.
        units: standardizes the target of a regression; None for no scaling.
        limits: of a regression, the lowest and the highest answer for each output, in the units of the
            target; None for no limits.
    """

    kind: str
    outputs: int
    loss_name: str
    label_smoothing: float = 0.0
    labels: LabelMap | None = None
    units: Standardizer | None = None
    limits: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @classmethod
    def of(cls, y: HostArray, kind: str = "auto", loss: str = "auto", label_smoothing: float = 0.0) -> "Task":
        """Return the task of predicting y (n,) or (n, K).

        Raises:
            ConfigurationError: y, kind and loss do not fit together.
        """
        kind = infer_task(y) if kind == "auto" else kind
        loss = TASK_LOSSES[kind][0] if loss == "auto" else SHORT_NAMES.get(loss.lower(), loss.lower())
        get_loss(loss)
        if loss not in TASK_LOSSES[kind]:
            raise ConfigurationError(
                f"loss {loss!r} does not fit a {kind} task; choose {' or '.join(TASK_LOSSES[kind])}"
            )
        if label_smoothing and loss != "softmax_cross_entropy":
            raise ConfigurationError(
                f"label_smoothing needs the loss softmax_cross_entropy; this task has {loss}"
            )
        _require_fit(kind, y)
        labels = LabelMap.fit(_column(y)) if kind in ("binary", "multiclass") else None
        if kind == "binary" and labels is not None and len(labels.classes) != 2:
            raise ConfigurationError(f"a binary task needs 2 classes; the target has {len(labels.classes)}")
        outputs = len(labels.classes) if kind == "multiclass" and labels is not None else _matrix(y).shape[1]
        return cls(kind, outputs, loss, label_smoothing, labels)

    def with_units_of(self, y: HostArray) -> "Task":
        """Return the same task; a regression also fits the scaling of its target to y, the training set."""
        return replace(self, units=Standardizer.fit(_matrix(y))) if self.kind == "regression" else self

    def with_limits_of(self, y: HostArray) -> "Task":
        """Return the same task; the answers of a regression stay within the range of y, the training set."""
        if self.kind != "regression":
            return self
        low, high = (tuple(map(float, ends)) for ends in (_matrix(y).min(axis=0), _matrix(y).max(axis=0)))
        return replace(self, limits=(low, high))

    def __str__(self) -> str:
        outputs = f"{self.outputs} output{'s' if self.outputs > 1 else ''}"
        kind = self.kind if self.kind == "regression" else f"{self.kind} classification"
        return f"{kind}, {self.loss_name} on {outputs}"

    @property
    def loss(self) -> Loss:
        """The loss function."""
        return SoftmaxCrossEntropy(self.label_smoothing) if self.label_smoothing else get_loss(self.loss_name)

    @property
    def head(self) -> list[Layer]:
        """The last layers: they return logits, or probabilities for the losses that read those."""
        if self.loss_name == "binary_cross_entropy":
            return [Dense(self.outputs, sigmoid)]
        return [Dense(self.outputs), *([Softmax()] if self.loss_name == "cross_entropy" else [])]

    def encode(self, y: HostArray) -> HostArray:
        """Encode targets for the loss. Raises DataError for a label that is not a class."""
        if self.labels is not None:
            return self.labels.encode(_column(y))
        return _matrix(y) if self.units is None else self.units.transform(_matrix(y), np.float64)

    def decode(self, outputs: HostArray) -> HostArray:
        """Decode outputs to the form of the targets.

        Returns:
            Labels (n,), 0/1 (n, K), or numbers in the units of the target, (n,) or (n, K).
        """
        decisions = self.loss.decide(outputs)
        if self.labels is not None:
            return np.asarray(self.labels.decode(decisions.reshape(len(outputs))))
        answers = self.in_units(decisions)
        return answers[:, 0] if self.kind == "regression" and self.outputs == 1 else answers

    def in_units(self, decisions: HostArray) -> HostArray:
        """Return the numbers (n, K) of a regression in the units of the target, within the limits."""
        answers = decisions if self.units is None else self.units.inverse(decisions)
        return answers if self.limits is None else np.clip(answers, *self.limits)

    @property
    def outputs_are_probabilities(self) -> bool:
        """True if the network itself ends with a softmax or a sigmoid."""
        return self.loss_name in ON_PROBABILITIES

    @underflow_is_zero
    def probabilities(self, outputs: HostArray) -> HostArray:
        """Return float64 probabilities, (n, C), for multilabel (n, K).

        Raises:
            ConfigurationError: the task is a regression.
        """
        if self.kind == "regression":
            raise ConfigurationError("a regression predicts numbers; it has no probabilities")
        p = self.loss.probabilities(outputs).astype(np.float64)
        return np.hstack([1 - p, p]) if self.kind == "binary" else p

    @property
    def columns(self) -> list[str]:
        """The names of the columns of `probabilities`."""
        return [str(label) for label in (self.labels.classes if self.labels else range(self.outputs))]

    def metrics(self, names: str | Iterable[str] = ()) -> list[Metric]:
        """Return the named metrics, or the standard ones, in the units of the target.

        Raises:
            ConfigurationError: a metric does not exist or does not fit the task.
        """
        asked = ((names,) if isinstance(names, str) else tuple(names)) or DEFAULT_METRICS[self.kind]
        chosen = [get_metric(name) for name in asked]
        for name, metric in zip(asked, chosen, strict=True):
            if metric_name(metric) not in TASK_METRICS[self.kind]:
                raise ConfigurationError(
                    f"metric {name!r} does not fit a {self.kind} task; "
                    f"choose from {', '.join(TASK_METRICS[self.kind])}"
                )
        return [_in_units(metric, self) for metric in chosen]

    def to_json(self) -> dict[str, Any]:
        """Return an object for `json.dumps`."""
        plain = {name: getattr(self, name) for name in ("kind", "outputs", "loss_name", "label_smoothing")}
        parts = {"labels": self.labels, "units": self.units}
        plain |= {name: part and part.to_json() for name, part in parts.items()}
        return plain if self.limits is None else plain | {"limits": [*map(list, self.limits)]}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Task":
        """Return the task that `to_json` wrote. Raises CheckpointError or DataError."""
        try:
            plain = {name: saved[name] for name in ("kind", "outputs", "loss_name", "label_smoothing")}
            labels, units, limits = saved["labels"], saved["units"], saved.get("limits")
            known = plain["loss_name"] in TASK_LOSSES[plain["kind"]]
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"not a saved task: {type(error).__name__}: {error}") from error
        if not known:
            raise CheckpointError(f"not a saved task: {plain}")
        return cls(
            **plain,
            labels=labels and LabelMap.from_json(labels),
            units=units and Standardizer.from_json(units),
            limits=limits and (tuple(limits[0]), tuple(limits[1])),
        )


def _require_fit(kind: str, y: HostArray) -> None:
    numbers = y.dtype.kind in "biuf"
    wide = y.ndim == 2 and y.shape[1] > 1
    if kind in ("binary", "multiclass") and wide:
        raise ConfigurationError(f"a {kind} task needs one target column; the target has shape {y.shape}")
    if kind == "regression" and not numbers:
        raise ConfigurationError(
            f"a regression needs numbers; the target holds values such as '{y.flat[0]!s:.40}'"
        )
    if kind == "multilabel" and not (numbers and y.ndim == 2 and ((y == 0) | (y == 1)).all()):
        raise ConfigurationError(
            f"a multilabel task needs 0 and 1 in columns; the target is {y.dtype} of shape {y.shape}"
        )


def _column(y: HostArray) -> HostArray:
    return y[:, 0] if y.ndim == 2 else y


def _matrix(y: HostArray) -> HostArray:
    return y.reshape(-1, 1) if y.ndim == 1 else y


def doubt(y: HostArray, kind: str) -> str:
    """Say whether whole numbers (n,) are taken as classes, and why; "" if there is no choice."""
    if kind != "auto" or y.ndim != 1 or y.dtype.kind not in "iuf" or (y != np.floor(y)).any():
        return ""
    is_class, why = are_codes(y)
    taken, other = ("classes", "regression") if is_class else ("quantities", "multiclass")
    if not why:
        return ""
    return f"whole numbers in the target are taken as {taken}: {why} (--task {other} changes it)"


def _in_units(metric: Metric, task: Task) -> Metric:
    units = task.units
    if units is None:
        return metric

    @functools.wraps(metric)
    def in_units(y: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        more = {} if sample_weight is None else {"sample_weight": sample_weight}
        return metric(units.inverse(y), task.in_units(np.asarray(prediction)), **more)

    vars(in_units)["measured"] = metric
    return in_units
