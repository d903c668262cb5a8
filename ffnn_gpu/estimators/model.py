"""A trained network together with what makes it usable: feature scaling, columns, task and labels. One folder.

Why: a network alone reads standardized columns in one order and answers with logits. What `train` fitted on the training
part travels in the checkpoint's extras, so that `evaluate` and `predict` need the folder and nothing else.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import Standardized
from ffnn_gpu.arrays.file_rows import stays_in_files
from ffnn_gpu.checkpoints import atomic_folder, checkpoint
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.errors import CheckpointError, DataError
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.evaluation.evaluate import evaluate
from ffnn_gpu.nn.network import Network

PLACES = (
    ".",
    "model",
    "best",
    "last",
    "checkpoint/best",
    "checkpoint/last",
)  # of the network in a folder, best first

MAX_LISTED_NAMES = 10  # that one message lists
AT_ONCE = 1 << 20  # values that are looked at together where some are counted


@dataclass(frozen=True, eq=False)
class Model:
    """Raw rows in, answers out.

    Args:
        standardizer: fitted on the training part; None where features go in as they are.
        feature_names: of the columns, in the network's order; None where the data had none.
        target_name, target: the target column's name in the data; and which one it was, as given to `readers.read`.
        data: name of the data set.
        metrics: names of the metrics to report; () for the task's standard ones.
        limit: standardized features are cut to [-limit, limit]; None for not at all.
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

    def features(self, x: HostArray, names: Sequence[str] | None = None) -> HostArray:
        """Rows as the network reads them: its columns, in its order, standardized.

        Columns are found by name where x has names and all of the model's are among them; taken in order where none is.

        Raises:
            ShapeError: the number of columns differs. DataError: x is not finite, or some of the columns are missing.
        """
        if names is None and stays_in_files(x):
            return self._in_files(x)
        x = self._standardized(x, names)
        return x if self.limit is None else np.clip(x, -self.limit, self.limit)

    def count_cut(self, x: HostArray, names: Sequence[str] | None = None) -> int:
        """How many values of x lie beyond `limit`."""
        if self.limit is None:
            return 0
        rows = max(1, AT_ONCE // max(1, x.shape[-1]))
        blocks = (x[start : start + rows] for start in range(0, len(x), rows))
        return sum(int((np.abs(self._standardized(block, names)) > self.limit).sum()) for block in blocks)

    def matches(self, names: Sequence[str] | None) -> bool:
        """Whether all of the model's columns are among these, each under a name of its own."""
        return (
            self.feature_names is not None and names is not None and has_each_once(names, self.feature_names)
        )

    def outputs(self, x: HostArray, names: Sequence[str] | None = None) -> HostArray:
        """What the network says for raw rows, (n, outputs), before `task.decode` or `task.probabilities`."""
        return self.network.predict(self.features(x, names))

    def predict(self, x: HostArray, names: Sequence[str] | None = None) -> HostArray:
        """Answers for raw rows: labels (n,), 0/1 (n, K), or numbers in the target's units, (n,) or (n, K)."""
        return self.task.decode(self.outputs(x, names))

    def probabilities(self, x: HostArray, names: Sequence[str] | None = None) -> HostArray:
        """(n, C) of the classes in the order of `task.columns`. Raises ConfigurationError for a regression."""
        return self.task.probabilities(self.outputs(x, names))

    def evaluate(
        self,
        x: HostArray,
        y: HostArray,
        names: Sequence[str] | None = None,
        metrics: str | Iterable[str] = (),
    ) -> dict[str, float]:
        """{metric: value, …, "loss": value} on raw rows and targets; metrics of a regression in the target's units."""
        pair = self.features(x, names), self.task.encode(y)
        row = evaluate(self.network, self.task.loss, pair, metrics=self.task.metrics(metrics or self.metrics))
        loss = row.pop("loss")
        return {**row, "loss": loss}

    def _in_files(self, x: Any) -> Any:
        """The same rows without a copy of them: the network standardizes those that it asks for."""
        if self.standardizer is None:
            return x
        scale = self.standardizer.scale.copy()
        scale[[*self.standardizer.constant]] = np.finfo(scale.dtype).max  # zeros, as in `_standardized`
        return Standardized(x, self.standardizer.mean, scale, self.limit)

    def _standardized(self, x: HostArray, names: Sequence[str] | None) -> HostArray:
        if self.matches(names):
            place = {name: k for k, name in enumerate(names or ())}
            order = [place[name] for name in self.feature_names or ()]
            x = np.asarray(x)
            x = x if order == [*range(x.shape[1])] else x[:, order]
        else:
            require_none_or_all(names or (), self.feature_names or ())
        x = self.network.admit(x)
        if self.standardizer is None:
            return x
        scaled = self.standardizer.transform(x, self.network.dtype)
        scaled[:, [*self.standardizer.constant]] = 0  # nothing was learnt of what never varied
        return scaled

    def extras(self) -> dict[str, Any]:
        """Everything but the network, for `json.dumps`."""
        return {
            "task": self.task.to_json(),
            "standardizer": self.standardizer and self.standardizer.to_json(),
            "feature_names": self.feature_names and [*self.feature_names],
            "target_name": self.target_name,
            "target": self.target,
            "data": self.data,
            "metrics": [*self.metrics],
            "limit": self.limit,
        }

    def save(self, path: str | Path) -> None:
        """Write the folder that `load` reads. Raises CheckpointError."""
        checkpoint.save(self.network, path, extras=self.extras())

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "Model":
        """The model in a run folder, in its `model`, or in a checkpoint that `train` wrote.

        Raises:
            CheckpointError: there is none, it is damaged, or it holds a network alone.
        """
        folder = _found(Path(path))
        saved = checkpoint.load_extras(folder)
        if "task" not in saved:
            raise CheckpointError(
                f"{folder} holds a network alone; `ffnn-gpu train` also saves what its inputs and "
                "outputs mean. Read this one with ffnn_gpu.load"
            )
        names = saved.get("feature_names")
        standardizer = saved.get("standardizer")
        return cls(
            checkpoint.load(folder, device),
            Task.from_json(saved["task"]),
            standardizer and Standardizer.from_json(standardizer),
            names and tuple(names),
            saved.get("target_name"),
            saved.get("target"),
            saved.get("data", ""),
            tuple(saved.get("metrics", ())),
            saved.get("limit"),
        )


def has_each_once(names: Iterable[str], wanted: Iterable[str]) -> bool:
    """Whether each wanted name is there, and only once."""
    counts = Counter(names)
    return all(counts[name] == 1 for name in wanted)


def require_none_or_all(names: Iterable[str], wanted: Sequence[str]) -> None:
    """Raise DataError where some of the wanted names are there and others are missing, or there more than once."""
    counts = Counter(names)
    missing = [name for name in wanted if not counts[name]]
    wrong = missing or [name for name in wanted if counts[name] > 1]
    if wrong and len(missing) < len(wanted):
        listed = ", ".join(map(repr, wrong[:MAX_LISTED_NAMES])) + ", …" * (len(wrong) > MAX_LISTED_NAMES)
        problem = "missing in the header" if missing else "in the header more than once"
        raise DataError(f"of the columns of the training, these are {problem}: {listed}")


def true_and_predicted(model: Model, x: HostArray, y: HostArray) -> tuple[HostArray, HostArray]:
    """The targets and the model's answers in one form: class indices (n,), 0/1 (n, K), or numbers in their units."""
    decisions = model.task.loss.decide(model.outputs(x))
    if model.task.units is not None:
        return np.reshape(y, (len(y), -1)), model.task.units.inverse(decisions)
    return model.task.encode(y), decisions.reshape(len(y)) if model.task.labels else decisions


def _found(path: Path) -> Path:
    for place in PLACES:
        if atomic_folder.exists(path / place):
            return path / place
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist; give the run folder of `ffnn-gpu train` or a checkpoint"
        )
    raise CheckpointError(f"{path} holds no model; give the run folder of `ffnn-gpu train` or a checkpoint")
