"""What MLPClassifier and MLPRegressor share: parameters, fit, fitted attributes and predictions."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.errors import ConfigurationError, DivergedError, ShapeError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.scikit_learn import convergence, files, fitting
from ffnn_gpu.estimators.scikit_learn.device import backend_for
from ffnn_gpu.estimators.scikit_learn.inputs import Inputs, as_given, host
from ffnn_gpu.estimators.scikit_learn.parameters import (
    CONSTRAINTS,
    described_by,
    dtype_name,
    hidden_sizes,
    layers_of,
    size_of,
)
from ffnn_gpu.estimators.scikit_learn.problem import Problem, targets_of_decisions
from ffnn_gpu.estimators.scikit_learn.trained import Trained, draw_weights
from ffnn_gpu.evaluation.samples import Samples
from ffnn_gpu.nn.network import Network
from ffnn_gpu.tables.encoding import Encoding

DIVERGED = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
    "preprocessed."
)


def has_epochs(estimator: Any) -> bool:
    """Return True. Raises AttributeError if the solver has no epochs, so that there is no `partial_fit`."""
    if estimator.solver == "lbfgs":
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
        )
    return True


class Perceptron(BaseEstimator, ABC):  # type: ignore[misc]
    """The base class of both estimators; they define the constructor, the targets and the problem."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS
    _encoding: Encoding | None = None  # of a table
    _code_levels: tuple[int, ...] = ()
    n_outputs_: int
    _trained: Trained
    _described: str  # the network, as the parameters had it

    # ------------------------------------------------------------------ what a subclass defines

    @abstractmethod
    def _problem(self) -> Problem:
        """Return what the network learns, for the targets of the latest fit."""

    @abstractmethod
    def _encode_targets(self, y: Any, learn: bool, whole: bool) -> HostArray:
        """Return targets as the loss reads them. Raises ValueError for classes that are not known.

        learn: forget earlier classes. whole: each class must be there.
        """

    # ------------------------------------------------------------------ fit

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, validation: tuple[Any, Any, Any] | None
    ) -> Self:
        hidden_sizes(self)
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if validation is not None and validation[0] is None:
            if any(given is not None for given in validation):
                raise ValueError("y_val and sample_weight_val belong to X_val, which is not given")
            validation = None
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        x, y = Inputs(self).training(X, y, first)
        self._code_levels = () if self._encoding is None else self._encoding.code_levels
        weight = self._weights(y, sample_weight, x)
        y = self._encode_targets(y, not (self.warm_start or incremental), self.warm_start)
        random = self._random_state = check_random_state(self.random_state)
        problem, trained = self._problem(), self._to_train(x, first, random)
        data = self._labelled(trained, problem, x, y, weight)
        held_out = validation and self._held_out(trained, problem, *validation)
        if self.solver == "lbfgs":
            fitting.by_lbfgs(self, trained, problem, data, held_out)
        else:
            fitting.by_minibatches(self, trained, problem, data, held_out, random, incremental)
        self.coefs_, self.intercepts_ = trained.show()
        if not trained.network.backend.all_finite(trained.network.params.theta):
            raise ValueError(DIVERGED)
        return self

    def _to_train(self, x: Any, first: bool, random: np.random.RandomState) -> Trained:
        """Return the network to train: a new one, or the one of the last fit."""
        n_out = self._outputs()
        if not first and n_out != getattr(self, "n_outputs_", n_out):
            raise ShapeError(
                f"y has {n_out} targets in each row, and the network of the first fit has {self.n_outputs_} "
                "outputs; warm_start and partial_fit train that network"
            )
        layers, seed = layers_of(self, n_out, self._code_levels), 0
        described = described_by(self, layers)
        if not first and hasattr(self, "_trained"):
            if described != self._described:
                raise ConfigurationError(
                    f"warm_start and partial_fit train the network of the first fit, {self._described}; "
                    f"the parameters describe {described}. Set them back, or call fit with warm_start=False"
                )
            self._trained.take(self.coefs_, self.intercepts_)
            return self._trained
        if np.any(self.dropout) or self._code_levels:
            seed = int(random.randint(2**31))
        backend = backend_for(self.device, *size_of(self, x.shape, n_out))
        network = Network(x.shape[1], layers, backend, dtype_name(self, x.dtype), seed)
        self._trained, self._described, self._lr_factor = Trained(network), described, 1.0
        if not first:  # the caller has set coefs_ and intercepts_ of an estimator that is not fitted
            self._trained.take(self.coefs_, self.intercepts_)
            return self._trained
        draw_weights(network, random)
        self.n_iter_, self.t_ = 0, 0
        self.n_outputs_, self.n_layers_ = n_out, len(hidden_sizes(self)) + 2
        self.out_activation_ = self._problem().out_activation
        if self.solver != "lbfgs":
            convergence.begin(self, self.early_stopping)
        return self._trained

    def _labelled(
        self, trained: Trained, problem: Problem, x: Any, y: HostArray, weight: HostArray | None
    ) -> fitting.Labelled:
        """Return rows and targets as the network and the loss read them. Raises ShapeError or DataError."""
        network = trained.network
        targets = problem.loss.targets(targets_of_decisions(problem, y), network.widths[-1], network.dtype)
        return fitting.Labelled(Samples(rows_of(x), targets, weight), y)

    def _held_out(self, trained: Trained, problem: Problem, X: Any, y: Any, weight: Any) -> fitting.Labelled:
        """Return the rows that the caller validates on."""
        x, y = Inputs(self).training(X, y, False)
        weight = None if weight is None else np.asarray(_check_sample_weight(host(weight), x))
        if self.early_stopping and problem.kind == "regression" and x.shape[0] < 2:
            raise ValueError("early_stopping compares R², which needs 2 rows at least; X_val has 1")
        return self._labelled(trained, problem, x, self._encode_targets(y, False, False), weight)

    def _weights(self, y: Any, sample_weight: Any, x: Any) -> HostArray | None:
        return None if sample_weight is None else np.asarray(_check_sample_weight(host(sample_weight), x))

    @abstractmethod
    def _outputs(self) -> int:
        """Return the width of the last layer, for the targets of the latest fit."""

    # ------------------------------------------------------------------ predictions

    def _network(self) -> Network:
        """Return the network, with the arrays that the caller has put into coefs_ and intercepts_."""
        check_is_fitted(self)
        self._trained.take(self.coefs_, self.intercepts_)
        return self._trained.network

    def _raw(self, X: Any) -> HostArray:
        """Return the outputs of the network for rows X, a host array (n, O)."""
        network = self._network()
        x = Inputs(self).prediction(X)
        try:
            return np.asarray(network.backend.to_host(network.predict(x)))
        except DivergedError as error:
            raise ValueError(f"the predictions are not finite; scale X, or fit again ({error})") from error

    def _answers(self, X: Any, answer: Callable[[HostArray], Any]) -> Any:
        """Return answer(outputs) for rows X, as the kind of array that X is."""
        return as_given(X, answer(self._raw(X)))

    def to_model(self) -> Model:
        """Return a Model that shares this estimator's network. Raises ConfigurationError for some losses."""
        return files.model_of(self)

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to one file, which `Model.load` and `ffnn-gpu predict` read too.

        Parameters that are objects, such as callbacks, are not written. Raises CheckpointError.
        """
        files.save(self, path)

    @classmethod
    def load(cls, path: str | Path, device: Any = "auto") -> Self:
        """Return the fitted estimator in a file that `save` wrote. Raises CheckpointError."""
        loaded: Self = files.load(cls, path, device)
        return loaded

    # ------------------------------------------------------------------ scikit-learn's protocol

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__()}
        if "_trained" in state:
            self._trained.take(self.coefs_, self.intercepts_)
            state = {name: value for name, value in state.items() if name not in ("coefs_", "intercepts_")}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_trained" in state:
            self.coefs_, self.intercepts_ = self._trained.show()
