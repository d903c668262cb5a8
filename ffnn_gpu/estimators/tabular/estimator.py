"""What TabularClassifier and TabularRegressor share: from raw rows to an ensemble, and back."""

import time
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.precision import floating, master
from ffnn_gpu.backends import Backend, get_backend
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.scikit_learn.inputs import host
from ffnn_gpu.estimators.tabular.fit_ensemble import Ensemble, fit_ensemble
from ffnn_gpu.estimators.tabular.folds import folds_of, numbered
from ffnn_gpu.estimators.tabular.members import Rows
from ffnn_gpu.estimators.tabular.progress import Progress
from ffnn_gpu.estimators.tabular.recipes import PRESETS, Preset
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.encoding import Encoding, most_codes
from ffnn_gpu.tables.frames import is_named, table_of
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Table

DTYPE = "float32"
LEAST_ROWS = 2  # one to train on, one to hold out


class TabularEstimator(BaseEstimator):  # type: ignore[misc]
    """The base class of both estimators; they define the constructor and the targets.

    Attributes:
        ensemble_: the members, their errors out of fold, and the weights of the chosen ones.
        model_: the encoding, the joined network and the task, as `ffnn_gpu.Model`.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "preset": [StrOptions({*PRESETS}), Preset],
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "categorical_features": [StrOptions({"auto"}), "array-like"],
        "device": [str, Backend],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    ensemble_: Ensemble
    model_: Model

    # ------------------------------------------------------------------ what a subclass defines

    def _task(self, y: HostArray) -> Task:
        """Return what the networks learn, and store what the subclass needs to decode."""
        raise NotImplementedError(f"{type(self).__name__} must define _task")

    def _checked_targets(self, y: Any) -> HostArray:
        """Return the targets as an array. Raises ValueError."""
        raise NotImplementedError(f"{type(self).__name__} must define _checked_targets")

    # ------------------------------------------------------------------ fit

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> Self:
        began = time.monotonic()
        table, y = self._table(host(X), True), self._checked_targets(host(y))
        check_consistent_length(np.arange(len(table)), y)
        if len(table) < LEAST_ROWS:
            raise ValueError(f"n_samples={len(table)}, while members need at least {LEAST_ROWS} rows")
        weight = self._weights(y, sample_weight, len(table))
        task, preset = self._task(y), PRESETS[self.preset] if isinstance(self.preset, str) else self.preset
        encoding = self._encoding(table)
        x = encoding.encode(table, master(floating(DTYPE)))
        seed = int(check_random_state(self.random_state).randint(2**31))
        rows = Rows(x, np.asarray(task.encode(y)), weight)
        folds = self._folds(rows, task, preset.folds, seed, groups)
        deadline = None if self.time_limit is None else began + self.time_limit
        with Progress(len(preset.recipes) * (int(folds.max()) + 1), self.verbose) as progress:
            self.ensemble_ = fit_ensemble(
                rows, folds, task, encoding.code_levels, preset.recipes, get_backend(self.device), DTYPE,
                seed, deadline=deadline, callback=progress.callbacks, done=progress.done,
            )  # fmt: skip
        names = getattr(self, "feature_names_in_", None)
        self.model_ = Model(
            self.ensemble_.network,
            self.ensemble_.task,
            feature_names=None if names is None else tuple(map(str, names)),
            encoding=encoding,
        )
        return self

    def _encoding(self, table: Table) -> Encoding:
        asked = self.categorical_features
        names = () if isinstance(asked, str) else tuple(_named(asked, table))
        columns = columns_of(table, Decisions(categorical=names), Spelling(table.decimal))
        if not any(column.is_used for column in columns):
            reasons = "; ".join(f"{column.name}: {column.reason}" for column in columns[:5])
            raise ValueError(f"X has no column that a network could learn from: {reasons}")
        return Encoding.fit(table, columns, np.arange(len(table)), (), most_codes(DTYPE))

    def _folds(self, rows: Rows, task: Task, count: int, seed: int, groups: Any) -> HostArray:
        n = len(rows.y)
        # Why not all rows: a fold of rows without weight could not be validated.
        used = np.arange(n) if rows.weight is None else np.flatnonzero(rows.weight)
        classes = np.asarray(rows.y).ravel()[used] if task.labels is not None else None
        units, what = len(used), "rows with a sample weight above 0"
        if groups is not None:
            check_consistent_length(rows.y, groups)
            groups = numbered(host(groups))[used]
            units, what = len(np.unique(groups)), "groups with such rows"
        if units < LEAST_ROWS:
            raise ValueError(f"n_samples={n} with {units} {what}, while members need at least {LEAST_ROWS}")
        folds = np.full(n, -1)
        folds[used] = folds_of(len(used), min(count, units), seed, classes, groups)
        return folds

    def _weights(self, y: HostArray, sample_weight: Any, n: int) -> HostArray | None:
        if sample_weight is None:
            return None
        return np.asarray(_check_sample_weight(host(sample_weight), np.empty((n, 1))))

    # ------------------------------------------------------------------ raw rows

    def _table(self, X: Any, reset: bool) -> Table:
        """Return X as a table. Raises scikit-learn's errors for other columns than those of `fit`."""
        if not issparse(X) and is_named(X):  # a DOK matrix is a dict
            _check_feature_names(self, X, reset=reset)
            _check_n_features(self, X, reset=reset)
            return table_of(X, "X")
        kept = isinstance(X, np.ndarray) and X.dtype.kind == "O"
        x = validate_data(
            self, X, dtype=None if kept or not isinstance(X, np.ndarray) else "numeric", reset=reset,
            ensure_all_finite="allow-nan",
        )  # fmt: skip
        return table_of(x, "X")

    def _outputs(self, X: Any) -> HostArray:
        """Return what the joined network says for raw rows: probabilities, or standardized numbers."""
        check_is_fitted(self)
        return self.model_.outputs(self._table(host(X), False))

    # ------------------------------------------------------------------ what was decided

    def explain(self) -> str:
        """Return a text: what each kind of member scored out of fold, which were chosen, and what is read."""
        check_is_fitted(self)
        found, encoding = self.ensemble_, self.model_.encoding
        assert encoding is not None  # always fitted
        what = "log loss" if found.task.kind != "regression" else "error in standard deviations"
        lines = [f"{len(found.members)} members, {what} out of fold:"]
        for name, error in found.errors.items():
            share = f"weight {found.weights[name]:.2f}" if name in found.weights else "not used"
            lines.append(f"  {name:14} {error:.4f}  {share}")
        lines.append(f"  {'all together':14} {found.error:.4f}")
        if found.temperature != 1:
            lines.append(
                f"logits are divided by {found.temperature:.2f}, so that probabilities are calibrated"
            )
        lines.append(f"the networks read {len(encoding.outputs)} numbers of {self.n_features_in_} columns")
        return "\n".join(lines)

    def to_model(self) -> Model:
        """Return the encoding, the joined network and the task, which can be exported."""
        check_is_fitted(self)
        return self.model_

    def save(self, path: str | Path) -> None:
        """Write the fitted model to one file, which `Model.load` and `ffnn-gpu predict` read."""
        self.to_model().save(path)

    # ------------------------------------------------------------------ scikit-learn's protocol

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.non_deterministic = False
        return tags


def _named(asked: Any, table: Table) -> Sequence[str]:
    """Return the names of columns that are given as names or places."""
    given, known = [*asked], len(table.names)
    if given and all(isinstance(entry, (bool, np.bool_)) for entry in given):
        if len(given) != known:
            raise ConfigurationError(
                f"categorical_features is a mask of {len(given)} columns; X has {known} columns"
            )
        given = [*np.flatnonzero(given)]
    for entry in given:
        place = isinstance(entry, (int, np.integer))
        if not (0 <= entry < known if place else str(entry) in table.names):
            column, names = entry if place else repr(entry), ", ".join(table.names[:20])
            raise ConfigurationError(
                f"categorical_features names column {column}; X has {known} columns: {names}"
            )
    return [table.names[entry] if isinstance(entry, (int, np.integer)) else str(entry) for entry in given]
