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
from ffnn_gpu.arrays.boundary import host_array, require_finite, rows_of
from ffnn_gpu.arrays.frames import Frame, frame_of, labels_of
from ffnn_gpu.arrays.rows import blocks
from ffnn_gpu.arrays.standardized import Standardized
from ffnn_gpu.checkpoints import checkpoint
from ffnn_gpu.checks import special_file
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.distributed import Communicator, Single
from ffnn_gpu.errors import CheckpointError, DataError, ShapeError
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.evaluation.evaluate import evaluate_together, require_defined
from ffnn_gpu.evaluation.samples import samples
from ffnn_gpu.nn.network import Network
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.frames import is_named, table_of
from ffnn_gpu.tables.numbers import numbers_of
from ffnn_gpu.tables.rows import TableRows
from ffnn_gpu.tables.spelling import as_spelled
from ffnn_gpu.tables.table import Table

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

        Args:
            x: a data frame (pandas, Polars, PyArrow, …), a dict of columns, a list of dicts or a Table, whose
                columns are found by name, in any order and among others; or a matrix (rows, columns).
            names: of the columns of a matrix. They are found by name if it holds all feature names, and taken
                in order if it holds none.

        Raises:
            ShapeError: the number of columns differs.
            DataError: a column that the model reads is missing, or a cell is not what the model reads there.
        """
        if self.encoding is not None:
            return self._encoded(self.encoding, x, names)
        if isinstance(x, TableRows) or is_named(x):
            x, names = self._columns(x), None
        rows = rows_of(x)
        if names is None and rows.stays_in_files and not isinstance(rows, Standardized):
            return cast(HostArray, self._in_files(x))
        scaled = self._standardized(x, names)
        if self.standardizer is None:
            return scaled
        if self.limit is not None:
            scaled = np.asarray(np.clip(scaled, -self.limit, self.limit))
        require_finite(np, scaled, "x, standardized,", self.network.compute_dtype)
        return scaled

    def count_cut(self, x: Any, names: Sequence[str] | None = None) -> int:
        """Count the standardized values outside [-limit, limit]."""
        if self.limit is None:
            return 0
        if isinstance(x, TableRows) or is_named(x):
            x, names = self._columns(x), None
        found = (self._standardized(x[part], names) for part in blocks(x))
        return sum(int((np.abs(block) > self.limit).sum()) for block in found)

    def matches(self, names: Sequence[str] | None) -> bool:
        """Return whether each feature name is among these exactly once."""
        return (
            self.feature_names is not None and names is not None and has_each_once(names, self.feature_names)
        )

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
            sample_weight: (n,) weights of the loss; the metrics do not read them.
        """
        loss, chosen = self.task.loss, self.task.metrics(metrics or self.metrics)
        pair = samples(
            self.network, loss, (self.features(x, names), self.task.encode(self._targets(y))), sample_weight
        )
        row = evaluate_together(communicator or Single(), self.network, loss, pair, chosen)
        row["loss"] = row.pop("loss")  # as the last
        return row

    def require_evaluable(self, x: HostArray, y: HostArray, what: str) -> None:
        """Raise what `evaluate` would raise for these rows, whatever the network has learnt by then."""
        loss = self.task.loss
        try:
            pair = samples(self.network, loss, (self.features(x), self.task.encode(y)))
            require_defined(self.network, loss, pair, self.task.metrics(self.metrics))
        except (DataError, ShapeError) as error:
            raise type(error)(f"{what}: {error}") from error

    def _encoded(self, encoding: Encoding, x: Any, names: Sequence[str] | None) -> HostArray:
        dtype = self.network.dtype
        if isinstance(x, (str, Path)):
            raise DataError(f"x is the path {str(x)!r}; pass rows, or use `ffnn-gpu predict`")
        if isinstance(x, TableRows):
            return x.encoded(encoding, dtype)
        if is_named(x):
            return encoding.encode(table_of(x), dtype)
        rows = rows_of(_array(x)) if isinstance(x, (list, tuple, np.ndarray)) else rows_of(x, host_array)
        if self.matches(names):
            place = {name: k for k, name in enumerate(names or ())}
            order = [place[name] for name in encoding.read]
        else:
            require_none_or_all(names or (), encoding.names)
            order = None
        if rows.dtype.kind not in "biuf":
            return encoding.encode(table_of(_named(rows[:], encoding.read, order), "x"), dtype)
        out = np.empty((len(rows), len(encoding.outputs)), dtype)
        for part in blocks(rows):
            block = np.asarray(rows[part])
            out[part] = encoding.encode_numbers(block if order is None else block[:, order], dtype)
        return out

    def _columns(self, x: Any) -> HostArray:
        """Return the numbers of the columns that the network reads, found by name if there are names."""
        if isinstance(x, (Table, TableRows)):
            rows = x if isinstance(x, TableRows) else TableRows(x, np.arange(len(x)), len(x.names))
            table, skip = rows.table, {*rows.skip}
            inputs = [k for k, name in enumerate(table.names) if k not in skip]
            if table.has_names:
                inputs = [k for k in inputs if table.names[k] != self.target_name]
            if table.has_names and self.feature_names is not None:
                require_each_once(table.names, self.feature_names, table.source)
                inputs = [table.names.index(name) for name in self.feature_names]
            return numbers_of(table, inputs)[rows.index]
        frame = cast(Frame, frame_of(x))
        if frame.has_names and self.feature_names is not None:
            require_each_once(frame.names, self.feature_names, "the frame")
            frame = frame.select(self.feature_names)
        return frame.numbers()

    def _targets(self, y: Any) -> Any:
        """Return targets as arrays; booleans and numbers as the classes spell them, if those are texts."""
        y = labels_of(y)
        classes = self.task.labels.classes if self.task.labels else ()
        if not (classes and all(isinstance(label, str) for label in classes)):
            return y
        array = np.asarray(y)
        if array.dtype.kind not in "biuf":
            return y
        values, codes = np.unique(array, return_inverse=True)
        texts = as_spelled([*map(str, values.tolist())], [*map(str, classes)])
        return np.array(texts)[codes].reshape(array.shape)

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
        rows = self.network.rows(x)
        scaled_later = self.standardizer is not None
        rows.require_finite(self.network.backend, "x", None if scaled_later else self.network.compute_dtype)
        admitted: Any = rows if isinstance(rows, Standardized) else rows.stored
        if self.standardizer is None:
            return cast(HostArray, admitted)
        with np.errstate(over="ignore"):  # what is still too large after the limit is refused in `features`
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
    names = [*names]
    if {*names} & {*wanted}:
        require_each_once(names, wanted, "the header")


def require_each_once(names: Iterable[str], wanted: Sequence[str], source: str) -> None:
    """Raise DataError unless `names` contains each wanted name exactly once."""
    counts = Counter(names)
    missing = [name for name in wanted if not counts[name]]
    if wrong := missing or [name for name in wanted if counts[name] > 1]:
        listed = ", ".join(map(repr, wrong[:MAX_LISTED_NAMES])) + ", …" * (len(wrong) > MAX_LISTED_NAMES)
        problem = "lacks these columns" if missing else "contains these columns more than once"
        raise DataError(f"{source} {problem}, which the model was trained on: {listed}")


def _array(x: Any) -> HostArray:
    """Return a list of rows as an array: numbers, or Python objects if there are texts."""
    array = np.asarray(x)
    return np.asarray(x, object) if array.dtype.kind in "US" else array


def _named(x: HostArray, names: Sequence[str], order: Sequence[int] | None) -> Any:
    """Return the columns of a matrix of objects by name, or the matrix if they are taken in order."""
    return x if order is None else {name: x[:, k] for name, k in zip(names, order, strict=True)}


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
    if kind := special_file(path):
        raise CheckpointError(f"{path} is {kind}; a model is read from a file only, so copy it to one")
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist; give the run folder of `ffnn-gpu train` or a checkpoint"
        )
    raise CheckpointError(f"{path} holds no model; give the run folder of `ffnn-gpu train` or a checkpoint")
