"""MLPRegressor."""

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.estimators.scikit_learn.inputs import host
from ffnn_gpu.estimators.scikit_learn.parameters import losses_named
from ffnn_gpu.estimators.scikit_learn.perceptron import Perceptron, has_epochs
from ffnn_gpu.estimators.scikit_learn.problem import Problem, regression


class MLPRegressor(RegressorMixin, Perceptron):  # type: ignore[misc]
    """A multilayer perceptron that predicts one or several numbers, with scikit-learn's interface.

    The parameters up to `max_fun` have the meaning and the defaults of scikit-learn's MLPRegressor.
    `activation`, `solver` and `learning_rate` also take names and objects of this package.

    Args:
        loss: "squared_error", "poisson", or a loss of this package.
        device: "auto", "cpu", "cuda", "cuda:1" or a Backend. dtype: to compute in; None for X's.
        dropout: one rate, or one per hidden layer. normalization: "layer" or "batch", after each of them.
        residual: a hidden layer adds its input if that has its width.
        callbacks: of ffnn_gpu.callbacks.
        categorical_features: "auto" encodes data frames with words or missing cells; columns that are
            categories; None for numbers only.

    Attributes: those of scikit-learn's class, and `validation_loss_curve_`.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **Perceptron._parameter_constraints,
        "loss": losses_named("squared_error"),
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        device: Any = "auto",
        dtype: Any = None,
        dropout: Any = 0.0,
        normalization: str | None = None,
        residual: bool = False,
        callbacks: Any = None,
        categorical_features: Any = "auto",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.loss = loss
        self.device = device
        self.dtype = dtype
        self.dropout = dropout
        self.normalization = normalization
        self.residual = residual
        self.callbacks = callbacks
        self.categorical_features = categorical_features

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train on rows X (n, d) and their numbers y, (n,) or (n, O).

        Args:
            X_val, y_val: rows on which each epoch is measured. With early_stopping they are used instead of
                rows held out from X.
        """
        return self._fit(X, y, sample_weight, False, (X_val, y_val, sample_weight_val))

    @available_if(has_epochs)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one epoch on these rows."""
        return self._fit(X, y, sample_weight, True, None)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R² of the predictions for rows X."""
        return float(super().score(host(X), host(y), host(sample_weight)))

    def predict(self, X: Any) -> Any:
        """Return the predicted numbers, (n,) or (n, O)."""
        return self._answers(X, self._numbers)

    def _numbers(self, z: HostArray) -> HostArray:
        found = self._problem().decisions(z)
        return found[:, 0] if found.shape[1] == 1 else found

    def _outputs(self) -> int:
        return self._targets_per_row

    def _problem(self) -> Problem:
        return regression(self._outputs(), self.loss)

    def _encode_targets(self, y: Any, learn: bool, whole: bool) -> HostArray:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self._targets_per_row = 1 if y.ndim == 1 else y.shape[1]
        return np.asarray(y).reshape(len(y), -1)
