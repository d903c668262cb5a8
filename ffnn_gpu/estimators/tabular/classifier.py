"""TabularClassifier."""

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.frames import objects
from ffnn_gpu.data.labels import LabelMap
from ffnn_gpu.estimators.tabular.estimator import TabularEstimator
from ffnn_gpu.estimators.tabular.recipes import Preset
from ffnn_gpu.estimators.task import TASK_LOSSES, Task


class TabularClassifier(ClassifierMixin, TabularEstimator):  # type: ignore[misc]
    """An ensemble of networks that predicts classes from a table, with scikit-learn's interface.

    X is a data frame of any library with words, dates and missing cells, or a matrix. Members are trained
    without one fold of the rows each; what they say about those rows decides which kinds of members are
    used, and calibrates the probabilities.

    Args:
        preset: "fast", "good" or "best", or a Preset: how many members, and of which kinds.
        metric: what decides which epochs and which kinds of members are used: "accuracy", "auc", "log_loss"
            or another name, a metric of ffnn_gpu.metrics or a `Criterion`. None for the loss.
        time_limit: seconds; then members stop after their epoch, and no other begins. None for no limit.
        categorical_features: columns (names, places or a mask) that are categories although they hold
            numbers; "auto" for none but those that look so.
        class_weight: {class: weight}, "balanced" or None; multiplies `sample_weight`.
        device: "auto", "cpu", "cuda", "cuda:1" or a Backend.
        random_state: seed of folds, initial values, shuffling and dropout.
        verbose: 0 silent, 1 progress on standard error; "auto" prints the expected time if it is long.

    Attributes: `classes_`, `ensemble_`, `model_`, `n_features_in_`, `feature_names_in_`.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TabularEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        preset: str | Preset = "good",
        *,
        metric: Any = None,
        time_limit: float | None = None,
        categorical_features: Any = "auto",
        class_weight: Any = None,
        device: Any = "auto",
        random_state: Any = None,
        verbose: Any = "auto",
    ) -> None:
        self.preset = preset
        self.metric = metric
        self.time_limit = time_limit
        self.categorical_features = categorical_features
        self.class_weight = class_weight
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Train on rows X and their classes y (n,).

        groups: (n,) rows of one group are held out together.
        """
        return self._fit(X, y, sample_weight, groups)

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each row (n,)."""
        place = self.predict_proba(X).argmax(axis=1)
        return self.classes_[place]

    def predict_proba(self, X: Any) -> HostArray:
        """Return probabilities (n, C) of the classes in the order of `classes_`."""
        outputs = self._outputs(X)
        p = self.model_.task.probabilities(outputs)
        return np.asarray(p / p.sum(axis=1, keepdims=True))  # float32 sums are not 1 to every digit

    def predict_log_proba(self, X: Any) -> HostArray:
        """Return the logarithm of `predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.predict_proba(X)))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the metric for rows X and their classes y, without a metric the accuracy.

        It is negative for a metric of which lower values are better, because scikit-learn takes the highest.
        """
        if self.metric is None:
            return float(super().score(X, y, sample_weight))
        return self._score(X, y, sample_weight)

    @property
    def out_of_fold_(self) -> HostArray:
        """Probabilities (n, C) of the training rows, by members that were not trained on them; else NaN."""
        check_is_fitted(self)
        found = np.full((self._rows, self.ensemble_.out_of_fold.shape[1]), np.nan)
        found[self.ensemble_.index] = self.ensemble_.out_of_fold
        return found

    def _checked_targets(self, y: Any) -> HostArray:
        if y is None:
            raise ValueError(f"requires y to be passed, but the target y is None: {type(self).__name__}")
        labels = np.asarray(y) if hasattr(y, "dtype") else np.asarray(y, object)
        if labels.dtype.kind == "O" and labels.ndim == 1:
            missing = np.flatnonzero(np.ma.getmaskarray(objects(labels.tolist())))
            if missing.size:
                raise ValueError(f"Input y contains NaN: y[{missing[0]}] is missing; every row needs a class")
        check_classification_targets(y)
        return np.asarray(column_or_1d(y, warn=True))

    def _task(self, y: HostArray, weight: HostArray | None) -> Task:
        self.classes_, self._rows = np.unique(y), len(y)
        kind = "binary" if len(self.classes_) == 2 else "multiclass"
        labels = LabelMap(tuple(self.classes_.tolist()))
        outputs = 1 if kind == "binary" else len(self.classes_)
        return Task(kind, outputs, TASK_LOSSES[kind][0], labels=labels)

    def _weights(self, y: HostArray, sample_weight: Any, n: int) -> HostArray | None:
        given = super()._weights(y, sample_weight, n)
        if self.class_weight is None:
            return given
        of_class = compute_sample_weight(self.class_weight, y)
        return np.asarray(of_class if given is None else given * of_class)
