"""A trained network with its feature scaling, column names, task and labels, saved together.

Why: a network alone reads standardized columns in one order and returns logits. The checkpoint's extras hold
everything that was fitted on the training set, so `evaluate` and `predict` need only the checkpoint.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.frames import labels_of
from ffnn_gpu.checkpoints import checkpoint
from ffnn_gpu.checks import special_file
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.distributed import Communicator, Single
from ffnn_gpu.errors import CheckpointError, DataError, ShapeError
from ffnn_gpu.estimators.inputs import Inputs
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.evaluation.evaluate import evaluate_together, require_defined
from ffnn_gpu.evaluation.metrics import Metric
from ffnn_gpu.evaluation.samples import samples
from ffnn_gpu.nn.network import Network
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.spelling import as_spelled

# where a folder may hold the network; the first place that exists is used
PLACES = (".", "model", "best", "last", "checkpoint/best", "checkpoint/last")
DESCRIPTION = (
    "feature_names", "target_name", "target", "data", "metrics", "limit", "weight_name",
)  # JSON values of a Model  # fmt: skip


@dataclass(frozen=True, eq=False)
class Model:
    """A network with everything needed to go from raw rows to predictions.

    Args:
        standardizer: fitted on the training set; None if features are used unscaled.
        feature_names: column names in the network's order; None if the data had no names.
        target_name: name of the target column in the data.
        target: the target column as it was given to `readers.read`.
        data: name of the data set.
        metrics: names of the metrics to report; () for the standard metrics of the task.
        limit: standardized features are clipped to [-limit, limit]; None for no limit.
        encoding: of the columns of a table; it replaces the standardizer.
        weight_name: name of the column with the weights of the training rows; None without weights.
    """

    network: Network
    task: Task
    standardizer: Standardizer | None = None
    feature_names: tuple[str, ...] | None = None
    target_name: str | None = None
    target: str | int | None = None
    data: str = ""
    metrics: tuple[str, ...] = ()
    limit: float | None = None
    encoding: Encoding | None = None
    weight_name: str | None = None

    def __repr__(self) -> str:
        target = f" of {self.target_name!r}" if self.target_name else ""
        numbers = f"{self.network.n_in:,} numbers, {self.network.params.count:,} parameters"
        return f"<Model: {self.task.kind}{target}, {numbers}>"

    @property
    def inputs(self) -> Inputs:
        """How raw rows become the matrix that the network reads."""
        return Inputs(
            self.network, self.standardizer, self.feature_names, self.target_name, self.limit, self.encoding
        )

    def features(self, x: Any, names: Sequence[str] | None = None) -> HostArray:
        """Select, order and standardize the columns of raw rows for the network.

        Args:
            x: a data frame (pandas, Polars, PyArrow, …), a dict of columns, a list of dicts or a Table, whose
                columns are found by name, in any order and among others; or a matrix (rows, columns).
            names: of the columns of a matrix. They are found by name if it holds all feature names, and taken
                in order if it holds none.

        Raises:
            ShapeError: the number of columns differs.
            DataError: a column that the model reads is missing, or a cell is not what the model reads there.
        """
        return self.inputs.features(x, names)

    def count_cut(self, x: Any, names: Sequence[str] | None = None) -> int:
        """Count the standardized values outside [-limit, limit]."""
        return self.inputs.count_cut(x, names)

    def unfamiliar(self, x: Any) -> list[str]:
        """Return a sentence for each column of a table with cells such as no training row has.

        The model answers for them too: new levels count as one of the others, missing numbers as the median.
        """
        return self.inputs.unfamiliar(x)

    def matches(self, names: Sequence[str] | None) -> bool:
        """Return whether each feature name is among these exactly once."""
        return self.inputs.matches(names)

    def outputs(self, x: Any, names: Sequence[str] | None = None) -> HostArray:
        """Return the outputs of the network for raw rows x, (n, outputs), not yet decoded."""
        outputs: HostArray = self.network.predict(self.features(x, names))
        return outputs

    def predict(self, x: Any, names: Sequence[str] | None = None) -> HostArray:
        """Predict the target of raw rows x, of any kind that `features` takes.

        Returns:
            Labels (n,), 0/1 (n, K), or numbers in the units of the target, (n,) or (n, K).
        """
        return self.task.decode(self.outputs(x, names))

    def probabilities(self, x: Any, names: Sequence[str] | None = None) -> HostArray:
        """Return class probabilities (n, C), in the order of `task.columns`.

        Raises:
            ConfigurationError: the task is a regression.
        """
        return self.task.probabilities(self.outputs(x, names))

    def evaluate(
        self,
        x: Any,
        y: Any,
        names: Sequence[str] | None = None,
        metrics: str | Iterable[str] = (),
        communicator: Communicator | None = None,
        sample_weight: HostArray | None = None,
    ) -> dict[str, float]:
        """Return {metric: value, …, "loss": value} on raw rows and targets; ranks share the work.

        The metrics of a regression are in the units of the target.

        Args:
            x: rows of any kind that `features` takes.
            y: (n,) or (n, outputs): an array, a list, or a series or data frame without missing cells.
            sample_weight: (n,) weights of the loss and of the metrics.
        """
        loss, chosen = self.task.loss, weighted(self.task.metrics(metrics or self.metrics), sample_weight)
        pair = samples(
            self.network, loss, (self.features(x, names), self.task.encode(self._targets(y))), sample_weight
        )
        row = evaluate_together(communicator or Single(), self.network, loss, pair, chosen)
        row["loss"] = row.pop("loss")  # as the last
        return row

    def require_evaluable(
        self, x: HostArray, y: HostArray, what: str, sample_weight: HostArray | None = None
    ) -> None:
        """Raise what `evaluate` would raise for these rows, whatever the network has learnt by then."""
        loss, chosen = self.task.loss, weighted(self.task.metrics(self.metrics), sample_weight)
        try:
            pair = samples(self.network, loss, (self.features(x), self.task.encode(y)), sample_weight)
            require_defined(self.network, loss, pair, chosen)
        except (DataError, ShapeError) as error:
            raise type(error)(f"{what}: {error}") from error

    def _targets(self, y: Any) -> Any:
        """Return targets as arrays; booleans and numbers as the classes spell them, if those are texts."""
        y = labels_of(y)
        if not np.ndim(y):
            raise DataError(f"y is {y!r}; pass a target for each row")
        classes = self.task.labels.classes if self.task.labels else ()
        if not (classes and all(isinstance(label, str) for label in classes)):
            return y
        array = np.asarray(y)
        if array.dtype.kind not in "biuf":
            return y
        values, codes = np.unique(array, return_inverse=True)
        texts = as_spelled([*map(str, values.tolist())], [*map(str, classes)])
        return np.array(texts)[codes].reshape(array.shape)

    def extras(self) -> dict[str, Any]:
        """Return everything but the network, for `json.dumps`."""
        fitted = {
            "task": self.task.to_json(),
            "standardizer": self.standardizer and self.standardizer.to_json(),
            "encoding": self.encoding and self.encoding.to_json(),
        }
        return fitted | {name: getattr(self, name) for name in DESCRIPTION}

    def save(self, path: str | Path) -> None:
        """Write the model to one file, as `ffnn_gpu.save` does. Raises CheckpointError."""
        checkpoint.save(self.network, path, extras=self.extras())

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "Model":
        """Load the model of a run folder, or of a checkpoint that `ffnn-gpu train` wrote.

        Raises:
            CheckpointError: there is none, it is damaged, or it holds only a network.
        """
        file = _found(Path(path))
        network, state, _ = checkpoint.read(file, device)
        saved = state.get("extras", {})
        if "task" not in saved:
            raise CheckpointError(
                f"{file} holds only a network, without the scaling, task and labels that "
                "`ffnn-gpu train` saves; load it with ffnn_gpu.load"
            )
        standardizer = saved.get("standardizer")
        described: dict[str, Any] = {
            name: tuple(saved[name]) if isinstance(saved[name], list) else saved[name]
            for name in DESCRIPTION
            if name in saved
        }
        scaling = standardizer and Standardizer.from_json(standardizer)
        encoding = saved.get("encoding") and Encoding.from_json(saved["encoding"])
        return cls(network, Task.from_json(saved["task"]), scaling, encoding=encoding, **described)


def weighted(metrics: list[Metric], sample_weight: HostArray | None) -> list[Metric]:
    """Return metrics that use these weights, which the network's type would round; or none."""
    if sample_weight is None:
        return metrics
    return [partial(metric, sample_weight=sample_weight) for metric in metrics]


def true_and_predicted(model: Model, x: HostArray, y: HostArray) -> tuple[HostArray, HostArray]:
    """Return targets and predictions in the same form, for metrics and plots.

    The form is class indices (n,), 0/1 (n, K), or numbers in the units of the target (n, K).
    """
    decisions = model.task.loss.decide(model.outputs(x))
    if model.task.units is not None:
        return np.reshape(y, (len(y), -1)), model.task.in_units(decisions)
    return model.task.encode(y), decisions.reshape(len(y)) if model.task.labels else decisions


def _found(path: Path) -> Path:
    for place in PLACES:
        if found := checkpoint.find(path / place):
            return found
    if kind := special_file(path):
        raise CheckpointError(f"{path} is {kind}; a model is read from a file only, so copy it to one")
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist; give the run folder of `ffnn-gpu train` or a checkpoint"
        )
    raise CheckpointError(f"{path} holds no model; give the run folder of `ffnn-gpu train` or a checkpoint")
