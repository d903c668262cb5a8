"""What TabularClassifier and TabularRegressor share: from raw rows to an ensemble, and back."""

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
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
from ffnn_gpu.estimators.scikit_learn.inputs import host, with_distinct_names
from ffnn_gpu.estimators.tabular.criterion import Criterion, Objective, predictions_of
from ffnn_gpu.estimators.tabular.fit_ensemble import Ensemble
from ffnn_gpu.estimators.tabular.folds import LEAST
from ffnn_gpu.estimators.tabular.importances import Importances, are_cheap, importances_of
from ffnn_gpu.estimators.tabular.members import Rows
from ffnn_gpu.estimators.tabular.recipes import PRESETS, Preset
from ffnn_gpu.estimators.tabular.report import details, explained
from ffnn_gpu.estimators.tabular.train_ensemble import train_ensemble
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.estimators.wording import errors_in, in_estimators
from ffnn_gpu.tables.columns import Column
from ffnn_gpu.tables.concerns import warnings_of
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.encoding import Encoding, most_codes
from ffnn_gpu.tables.frames import is_named, require_distinct, table_of
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Table

DTYPE = "float32"


class TabularEstimator(BaseEstimator, ABC):  # type: ignore[misc]
    """The base class of both estimators; they define the constructor and the targets.

    Attributes:
        ensemble_: the members, their errors out of fold, and the weights of the chosen ones.
        model_: the encoding, the joined network and the task, as `ffnn_gpu.Model`.
        left_out_: name → reason of the columns of X that the networks do not read.
        warnings_: what may be wrong with the columns of a frame; also given as UserWarnings.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "preset": [StrOptions({*PRESETS}), Preset],
        "metric": [str, callable, Criterion, None],
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "categorical_features": [StrOptions({"auto"}), "array-like"],
        "device": [str, Backend],
        "random_state": ["random_state"],
        "verbose": ["verbose", StrOptions({"auto"})],
    }
    ensemble_: Ensemble
    model_: Model
    _importances: Importances
    _is_matrix = False  # of numbers, without names

    # ------------------------------------------------------------------ what a subclass defines

    @abstractmethod
    def _task(self, y: HostArray, weight: HostArray | None) -> Task:
        """Return what the networks learn, and store what the subclass needs to decode."""

    @abstractmethod
    def _checked_targets(self, y: Any) -> HostArray:
        """Return the targets as an array. Raises ValueError."""

    # ------------------------------------------------------------------ fit

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> Self:
        began, target = time.monotonic(), _name_of(y)
        if hasattr(self, "_importances"):
            del self._importances  # of another fit
        table, y = self._table(host(X), True), self._checked_targets(host(y))
        check_consistent_length(np.arange(len(table)), y)
        if len(table) < LEAST:
            raise ValueError(f"n_samples={len(table)}, while members need at least {LEAST} rows")
        weight = self._weights(y, sample_weight, len(table))
        preset = PRESETS[self.preset] if isinstance(self.preset, str) else self.preset
        task = self._task(y, weight)
        objective, encoding = Objective.of(self.metric, task), self._encoding(table)
        x = encoding.encode(table, master(floating(DTYPE)))
        seed = int(check_random_state(self.random_state).randint(2**31))
        rows = Rows(x, np.asarray(task.encode(y)), weight)
        if groups is not None:
            check_consistent_length(y, groups)
            groups = host(groups)
        deadline = None if self.time_limit is None else began + self.time_limit
        self.ensemble_ = train_ensemble(
            rows, task, encoding.code_levels, preset, get_backend(self.device), DTYPE, seed,
            groups=groups, deadline=deadline, verbose=self.verbose, objective=objective,
        )  # fmt: skip
        names = getattr(self, "feature_names_in_", None)
        self.model_ = Model(
            self.ensemble_.network,
            self.ensemble_.task,
            feature_names=None if names is None else tuple(map(str, names)),
            target_name=target,
            metrics=objective.reported(),
            encoding=encoding,
        )
        return self

    def _encoding(self, table: Table) -> Encoding:
        asked = self.categorical_features
        names = () if isinstance(asked, str) else tuple(_named(asked, table))
        # The columns of a matrix of numbers are numbers: none of them is an id.
        numbers = tuple(name for name in table.names if self._is_matrix and name not in names)
        spelling = Spelling(table.decimal)
        with errors_in(in_estimators):
            columns = columns_of(table, Decisions(categorical=names, number=numbers), spelling)
        self.left_out_ = {
            column.name: in_estimators(column.reason) for column in columns if not column.is_used
        }
        self.warnings_ = [] if self._is_matrix else [*_warnings(table, columns, spelling, self.left_out_)]
        if not any(column.is_used for column in columns):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in [*self.left_out_.items()][:5])
            raise ValueError(f"X has no column that a network could learn from: {reasons}")
        for text in self.warnings_:
            warnings.warn(text, UserWarning, stacklevel=5)
        return Encoding.fit(table, columns, np.arange(len(table)), (), most_codes(DTYPE))

    def _weights(self, y: HostArray, sample_weight: Any, n: int) -> HostArray | None:
        if sample_weight is None:
            return None
        return np.asarray(_check_sample_weight(host(sample_weight), np.empty((n, 1))))

    # ------------------------------------------------------------------ raw rows

    def _table(self, X: Any, reset: bool) -> Table:
        """Return X as a table. Raises scikit-learn's errors for other columns than those of `fit`."""
        self._is_matrix = self._is_matrix and not reset
        if not issparse(X) and is_named(with_distinct_names(X)):  # a DOK matrix is a dict
            if len(getattr(X, "shape", ())) != 2:
                return self._of_columns(table_of(X, "X"), reset)
            _check_feature_names(self, X, reset=reset)
            _check_n_features(self, X, reset=reset)
            return table_of(X, "X")
        self._is_matrix = self._is_matrix or (reset and isinstance(X, np.ndarray) and X.dtype.kind in "iuf")
        kept = isinstance(X, np.ndarray) and X.dtype.kind == "O"
        x = validate_data(
            self, X, dtype=None if kept or not isinstance(X, np.ndarray) else "numeric", reset=reset,
            ensure_all_finite="allow-nan",
        )  # fmt: skip
        return table_of(x, "X")

    def _of_columns(self, table: Table, reset: bool) -> Table:
        """Return the table of a dict, of dicts or of records, of which scikit-learn reads no names.

        After `fit`, its columns are found by name, in any order and among others.
        """
        require_distinct(table.names, "X")
        if reset:
            self.feature_names_in_ = np.asarray(table.names, object)
            self.n_features_in_ = len(table.names)
        return table

    def _outputs(self, X: Any) -> HostArray:
        """Return what the joined network says for raw rows: probabilities, or standardized numbers."""
        check_is_fitted(self)
        return self.model_.outputs(self._table(host(X), False))

    def _score(self, X: Any, y: Any, sample_weight: Any) -> float:
        """Return the metric for rows X and their targets, negative if lower values are better."""
        z, y = self._outputs(X), self._checked_targets(host(y))
        check_consistent_length(z, y)
        task, weight = self.model_.task, None if sample_weight is None else np.asarray(host(sample_weight))
        goal = Objective.of(self.metric, task)
        value = goal.score(
            np.asarray(task.encode(y)), predictions_of(task, np.asarray(z, np.float64)), weight
        )
        return value if goal.criterion is None or goal.criterion.higher_is_better else -value

    # ------------------------------------------------------------------ what was decided

    def explain(self) -> str:
        """Return a text: what decided about the members, what each of them is, and which columns count.

        Importances of many columns are left out; `feature_importances_` computes them.
        """
        check_is_fitted(self)
        found, encoding = self.ensemble_, self.model_.encoding
        assert encoding is not None  # always fitted
        affordable = hasattr(self, "_importances") or are_cheap(self.model_, found)
        skipped = "" if affordable else "that would take long; feature_importances_ computes them"
        lines = explained(found, len(encoding.outputs), self.n_features_in_)
        lines += details(found, self.importances_ if affordable else None, skipped)
        lines += [f"left out: {name!r}, {reason}" for name, reason in self.left_out_.items()]
        return "\n".join(lines)

    @property
    def importances_(self) -> Importances:
        """How much the error out of fold rises when a column is permuted, with deviations and names."""
        check_is_fitted(self)
        if not hasattr(self, "_importances"):
            encoding = self.model_.encoding
            assert encoding is not None  # always fitted
            self._importances = importances_of(self.model_, self.ensemble_, encoding.columns)
        return self._importances

    @property
    def feature_importances_(self) -> HostArray:
        """Importances (n_features,) of the columns of X; computed when they are first asked for."""
        return np.asarray(self.importances_.mean)

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


def _name_of(y: Any) -> str | None:
    """Return the name of a series, or of the column of a frame with one."""
    columns = [*getattr(y, "columns", ())]
    name = columns[0] if len(columns) == 1 else getattr(y, "name", None)
    return name if isinstance(name, str) else None


def _warnings(
    table: Table, columns: Sequence[Column], spelling: Spelling, left_out: Mapping[str, str]
) -> Iterator[str]:
    yield from table.remarks
    if left_out:
        yield "left out: " + "; ".join(f"{name!r}, {reason}" for name, reason in left_out.items())
    for concern in warnings_of(table, columns, spelling, (), None, np.arange(len(table))):
        yield in_estimators(concern.text)


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
