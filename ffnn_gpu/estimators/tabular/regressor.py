"""TabularRegressor."""

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_y, check_is_fitted

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checks import is_number
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.tabular.calibration import half_width
from ffnn_gpu.estimators.tabular.estimator import TabularEstimator
from ffnn_gpu.estimators.tabular.recipes import Preset
from ffnn_gpu.estimators.task import TASK_LOSSES, Task


class TabularRegressor(RegressorMixin, TabularEstimator):  # type: ignore[misc]
    """An ensemble of networks that predicts numbers from a table, with scikit-learn's interface.

    X is a data frame of any library with words, dates and missing cells, or a matrix. Members are trained
    without one fold of the rows each; what they say about those rows decides which kinds of members are
    used, and how wide an interval must be.

    Args:
        preset: "fast", "good" or "best", or a Preset: how many members, and of which kinds.
        metric: what decides which epochs and which kinds of members are used: "rmse", "mae", "r2", "mse", a
            metric of ffnn_gpu.metrics or a `Criterion`. None for the squared error.
        time_limit: seconds; then members stop after their epoch, and no other begins. None for no limit.
        categorical_features: columns (names, places or a mask) that are categories although they hold
            numbers; "auto" for none but those that look so.
        device: "auto", "cpu", "cuda", "cuda:1" or a Backend.
        random_state: seed of folds, initial values, shuffling and dropout.
        verbose: 0 silent, 1 progress on standard error; "auto" prints the expected time if it is long.

    Attributes: `ensemble_`, `model_`, `n_features_in_`, `feature_names_in_`.
    """

    def __init__(
        self,
        preset: str | Preset = "good",
        *,
        metric: Any = None,
        time_limit: float | None = None,
        categorical_features: Any = "auto",
        device: Any = "auto",
        random_state: Any = None,
        verbose: Any = "auto",
    ) -> None:
        self.preset = preset
        self.metric = metric
        self.time_limit = time_limit
        self.categorical_features = categorical_features
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Train on rows X and their numbers y, (n,) or (n, K).

        groups: (n,) rows of one group are held out together.
        """
        return self._fit(X, y, sample_weight, groups)

    def predict(self, X: Any) -> HostArray:
        """Return the predicted numbers, (n,) or (n, K), within the range of the training targets."""
        outputs = self._outputs(X)
        return self._shaped(self.model_.task.in_units(outputs))

    def predict_interval(self, X: Any, coverage: float = 0.9) -> HostArray:
        """Return the ends of an interval for each row, (n, 2), or (n, K, 2).

        A new row's number lies within with probability `coverage`, if rows are exchangeable. The interval
        is the prediction ± a quantile of the errors out of fold; it is infinite if there were too few rows.
        Each member chose its best epoch on its own fold, so on tables of some tens of rows the errors out of
        fold are a little too small.

        Reference: split conformal prediction, as in `calibration.half_width`.
        """
        if not is_number(coverage) or not 0 < coverage < 1:
            raise ConfigurationError(f"coverage must be between 0 and 1, not {coverage!r}")
        outputs, task = self._outputs(X), self.model_.task
        residuals = self.ensemble_.residuals
        assert residuals is not None and task.units is not None  # this is a regression
        width = half_width(residuals, coverage) * task.units.scale
        middle = task.in_units(outputs)
        ends = np.stack([middle - width, middle + width], axis=-1)
        return np.asarray(ends[:, 0] if self._flat else ends)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the metric for rows X and their numbers y, without a metric R².

        It is negative for a metric of which lower values are better, because scikit-learn takes the highest.
        """
        if self.metric is None:
            return float(super().score(X, y, sample_weight))
        return self._score(X, y, sample_weight)

    @property
    def out_of_fold_(self) -> HostArray:
        """Predictions for the training rows by members that were not trained on them; else NaN."""
        check_is_fitted(self)
        task = self.model_.task
        found = np.full((self._rows, task.outputs), np.nan)
        found[self.ensemble_.index] = task.in_units(self.ensemble_.out_of_fold)
        return self._shaped(found)

    def _shaped(self, numbers: HostArray) -> HostArray:
        return numbers[:, 0] if self._flat else numbers

    def _checked_targets(self, y: Any) -> HostArray:
        if y is None:
            raise ValueError(f"requires y to be passed, but the target y is None: {type(self).__name__}")
        checked = np.asarray(_check_y(y, multi_output=True, y_numeric=True, estimator=self))
        if checked.dtype.kind not in "biuf":
            raise ValueError(f"y holds values such as '{checked.flat[0]!s:.40}'; a regression needs numbers")
        return column_or_1d(checked, warn=True) if checked.shape[1:] == (1,) else checked

    def _task(self, y: HostArray, weight: HostArray | None) -> Task:
        self._flat, self._rows = y.ndim == 1, len(y)
        task = Task("regression", 1 if self._flat else y.shape[1], TASK_LOSSES["regression"][0])
        heavy = y if weight is None or not (weight > 0).any() else y[weight > 0]
        return task.with_units_of(heavy).with_limits_of(heavy)
