"""A trained network with its feature scaling, column names, task and labels, saved together.

Why: a network alone reads standardized columns in one order and returns logits. The checkpoint's extras hold
everything that was fitted on the training set, so `evaluate` and `predict` need only the checkpoint.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.arrays.rows import blocks
from ffnn_gpu.arrays.standardized import Standardized
from ffnn_gpu.checkpoints import checkpoint
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.distributed import Communicator, Single
from ffnn_gpu.errors import CheckpointError, DataError
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.evaluation.evaluate import evaluate_together
from ffnn_gpu.evaluation.samples import samples
from ffnn_gpu.nn.network import Network
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.rows import TableRows

# where a folder may hold the network; the first place that exists is used
PLACES = (".", "model", "best", "last", "checkpoint/best", "checkpoint/last")
DESCRIPTION = ("feature_names", "target_name", "target", "data", "metrics", "limit")  # JSON values of a Model
MAX_LISTED_NAMES = 10


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

    def features(self, x: Any, names: Sequence[str] | None = None) -> HostArray:
        """Select, order and standardize the columns of raw rows for the network.

        Columns are found by name if `names` holds all feature names, and taken in order if it holds none.

        Raises:
            ShapeError: the number of columns differs.
            DataError: x is not finite, or only some of the feature names are present.
        """
        if self.encoding is not None:
            return self._encoded(self.encoding, x, names)
        rows = rows_of(x)
        if names is None and rows.stays_in_files and not isinstance(rows, Standardized):
            return cast(HostArray, self._in_files(x))
        x = self._standardized(x, names)
        return x if self.limit is None else np.clip(x, -self.limit, self.limit)

    def count_cut(self, x: HostArray, names: Sequence[str] | None = None) -> int:
        """Count the standardized values outside [-limit, limit]."""
        if self.limit is None:
            return 0
        found = (self._standardized(x[part], names) for part in blocks(x))
        return sum(int((np.abs(block) > self.limit).sum()) for block in found)

    def matches(self, names: Sequence[str] | None) -> bool:
        """Return whether each feature name is among these exactly once."""
        return (
            self.feature_names is not None and names is not None and has_each_once(names, self.feature_names)
        )

    def outputs(self, x: HostArray, names: Sequence[str] | None = None) -> HostArray:
        """Return the outputs of the network for raw rows, (n, outputs), not yet decoded."""
        outputs: HostArray = self.network.predict(self.features(x, names))
        return outputs

    def predict(self, x: HostArray, names: Sequence[str] | None = None) -> HostArray:
        """Predict the target of raw rows.

        Returns:
            Labels (n,), 0/1 (n, K), or numbers in the units of the target, (n,) or (n, K).
        """
        return self.task.decode(self.outputs(x, names))

    def probabilities(self, x: HostArray, names: Sequence[str] | None = None) -> HostArray:
        """Return class probabilities (n, C), in the order of `task.columns`.

        Raises:
            ConfigurationError: the task is a regression.
        """
        return self.task.probabilities(self.outputs(x, names))

    def evaluate(
        self,
        x: HostArray,
        y: HostArray,
        names: Sequence[str] | None = None,
        metrics: str | Iterable[str] = (),
        communicator: Communicator | None = None,
        sample_weight: HostArray | None = None,
    ) -> dict[str, float]:
        """Return {metric: value, …, "loss": value} on raw rows and targets; ranks share the work.

        The metrics of a regression are in the units of the target. sample_weight (n,) weights the loss alone.
        """
        loss, chosen = self.task.loss, self.task.metrics(metrics or self.metrics)
        pair = samples(self.network, loss, (self.features(x, names), self.task.encode(y)), sample_weight)
        row = evaluate_together(communicator or Single(), self.network, loss, pair, chosen)
        row["loss"] = row.pop("loss")  # as the last
        return row

    def _encoded(self, encoding: Encoding, x: Any, names: Sequence[str] | None) -> HostArray:
        if isinstance(x, TableRows):
            return x.encoded(encoding, self.network.dtype)
        x = np.asarray(x)
        if self.matches(names):
            place = {name: k for k, name in enumerate(names or ())}
            x = x[:, [place[name] for name in encoding.names]]
        else:
            require_none_or_all(names or (), encoding.names)
        return encoding.encode_numbers(x, self.network.dtype)

    def _in_files(self, x: Any) -> Any:
        """Wrap rows in files without reading them: they are standardized when the network reads them."""
        if self.standardizer is None:
            return x
        scale = self.standardizer.scale.copy()
        scale[[*self.standardizer.constant]] = np.finfo(scale.dtype).max  # zeros, as in `_standardized`
        return replace(self.standardizer, scale=scale).rows(x, self.limit)

    def _standardized(self, x: HostArray, names: Sequence[str] | None) -> HostArray:
        if self.matches(names):
            place = {name: k for k, name in enumerate(names or ())}
            order = [place[name] for name in self.feature_names or ()]
            x = np.asarray(x)
            x = x if order == [*range(x.shape[1])] else x[:, order]
        else:
            require_none_or_all(names or (), self.feature_names or ())
        rows = self.network.admit(x)
        admitted: Any = rows if isinstance(rows, Standardized) else rows.stored
        if self.standardizer is None:
            return cast(HostArray, admitted)
        scaled = self.standardizer.transform(admitted, self.network.dtype)
        scaled[:, [*self.standardizer.constant]] = 0  # the network learnt nothing from a constant column
        return scaled

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


def has_each_once(names: Iterable[str], wanted: Iterable[str]) -> bool:
    """Return whether `names` contains each wanted name exactly once."""
    counts = Counter(names)
    return all(counts[name] == 1 for name in wanted)


def require_none_or_all(names: Iterable[str], wanted: Sequence[str]) -> None:
    """Raise DataError if `names` contains some wanted names but not each of them exactly once."""
    counts = Counter(names)
    missing = [name for name in wanted if not counts[name]]
    wrong = missing or [name for name in wanted if counts[name] > 1]
    if wrong and len(missing) < len(wanted):
        listed = ", ".join(map(repr, wrong[:MAX_LISTED_NAMES])) + ", …" * (len(wrong) > MAX_LISTED_NAMES)
        problem = "lacks these columns" if missing else "contains these columns more than once"
        raise DataError(f"the header {problem}, which the model was trained on: {listed}")


def true_and_predicted(model: Model, x: HostArray, y: HostArray) -> tuple[HostArray, HostArray]:
    """Return targets and predictions in the same form, for metrics and plots.

    The form is class indices (n,), 0/1 (n, K), or numbers in the units of the target (n, K).
    """
    decisions = model.task.loss.decide(model.outputs(x))
    if model.task.units is not None:
        return np.reshape(y, (len(y), -1)), model.task.units.inverse(decisions)
    return model.task.encode(y), decisions.reshape(len(y)) if model.task.labels else decisions


def _found(path: Path) -> Path:
    for place in PLACES:
        if found := checkpoint.find(path / place):
            return found
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist; give the run folder of `ffnn-gpu train` or a checkpoint"
        )
    raise CheckpointError(f"{path} holds no model; give the run folder of `ffnn-gpu train` or a checkpoint")
