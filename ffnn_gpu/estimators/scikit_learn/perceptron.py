"""What MLPClassifier and MLPRegressor share: parameters, fit, fitted attributes and predictions."""

import signal
import warnings
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.errors import ConfigurationError, DivergedError
from ffnn_gpu.estimators.scikit_learn import convergence, lbfgs, stochastic
from ffnn_gpu.estimators.scikit_learn.device import backend_for
from ffnn_gpu.estimators.scikit_learn.inputs import Inputs
from ffnn_gpu.estimators.scikit_learn.parameters import CONSTRAINTS, hidden_sizes, layers_of
from ffnn_gpu.estimators.scikit_learn.problem import Problem, targets_of_decisions
from ffnn_gpu.estimators.scikit_learn.solvers import optimizer_of, schedule_of
from ffnn_gpu.estimators.scikit_learn.trained import Trained, draw_weights
from ffnn_gpu.evaluation.samples import Samples
from ffnn_gpu.nn.network import Network
from ffnn_gpu.training.callbacks import Callback
from ffnn_gpu.training.progress import ProgressBar

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


class Perceptron(BaseEstimator):  # type: ignore[misc]
    """The base class of both estimators; they define the constructor, the targets and the problem."""

    _parameter_constraints = CONSTRAINTS
    _code_levels: tuple[int, ...] = ()

    # ------------------------------------------------------------------ what a subclass defines

    def _problem(self) -> Problem:
        """Return what the network learns, for the targets of the latest fit."""
        raise NotImplementedError

    def _encode_targets(self, y: Any, first: bool, incremental: bool) -> HostArray:
        """Return targets as the loss reads them, after the checks of `y`. first: forget earlier targets."""
        raise NotImplementedError

    # ------------------------------------------------------------------ fit

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, validation: tuple[Any, Any, Any] | None
    ) -> Self:
        sizes = hidden_sizes(self)
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        x, y = Inputs(self).training(X, y, first)
        weight = self._weights(y, sample_weight, x)
        y = self._encode_targets(y, first, incremental)
        random = self._random_state = check_random_state(self.random_state)
        n_out = self._outputs()
        trained = self._trained_for(x, n_out, first, sizes, random)
        problem = self._problem()
        targets = problem.loss.targets(targets_of_decisions(problem, y), n_out, trained.network.dtype)
        held_out = None if validation is None else self._held_out(trained, problem, *validation)
        whole = Samples(rows_of(x), targets, weight)
        if self.solver == "lbfgs":
            self._fit_lbfgs(trained, problem, whole, held_out)
        else:
            self._fit_stochastic(trained, problem, whole, y, held_out, random, incremental)
        self.coefs_, self.intercepts_ = trained.show()
        if not trained.network.backend.all_finite(trained.network.params.theta):
            raise ValueError(DIVERGED)
        return self

    def _trained_for(
        self, x: Any, n_out: int, first: bool, sizes: list[int], random: np.random.RandomState
    ) -> Trained:
        """Return the network to train: a new one, or the one of the last fit."""
        trained: Trained | None = getattr(self, "_trained", None)
        if not first and trained is not None:
            trained.take(self.coefs_, self.intercepts_)
            return trained
        self.n_outputs_ = n_out
        network = Network(
            x.shape[1], layers_of(self, n_out, self._code_levels), *self._place(x, n_out), seed=0
        )
        if first:
            draw_weights(network, random)
        if self._is_random:
            network.seed = int(random.randint(2**31))
        self._trained = trained = Trained(network)
        if not first:
            trained.take(self.coefs_, self.intercepts_)
            return trained
        self.n_iter_, self.t_ = 0, 0
        self.n_layers_ = len(sizes) + 2
        self.out_activation_ = self._problem().out_activation
        if self.solver != "lbfgs":
            convergence.begin(self, self.early_stopping)
        return trained

    def _place(self, x: Any, n_out: int) -> tuple[Any, Any]:
        """Return the backend and the type in which a network for these rows computes."""
        widths = [x.shape[1], *hidden_sizes(self), n_out]
        products = sum(a * b for a, b in zip(widths, widths[1:], strict=False))
        steps = self.max_iter * (
            1 if self.solver == "lbfgs" else -(-x.shape[0] // self._batch_size(x.shape[0]))
        )
        backend = backend_for(self.device, steps, float(self.max_iter) * x.shape[0] * products)
        return backend, x.dtype if self.dtype is None else np.dtype(self.dtype).name

    @property
    def _is_random(self) -> bool:
        return bool(np.any(self.dropout)) or bool(self._code_levels)

    def _batch_size(self, rows: int) -> int:
        return min(200 if self.batch_size == "auto" else int(self.batch_size), rows)

    def _weights(self, y: Any, sample_weight: Any, x: Any) -> HostArray | None:
        return None if sample_weight is None else np.asarray(_check_sample_weight(sample_weight, x))

    def _outputs(self) -> int:
        raise NotImplementedError

    def _fit_stochastic(
        self,
        trained: Trained,
        problem: Problem,
        whole: Samples,
        y: HostArray,
        held_out: tuple[Samples, Any] | None,
        random: np.random.RandomState,
        incremental: bool,
    ) -> None:
        network = trained.network
        if self.early_stopping and held_out is None:
            whole, held_out = self._split(network, whole, y, random)
        if self.batch_size != "auto" and self.batch_size > len(whole):
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
                stacklevel=4,
            )
        if held_out is not None:
            self.validation_loss_curve_ = self.validation_loss_curve_ or []
            self.validation_scores_ = self.validation_scores_ or []
        optimizer = optimizer_of(self)
        trained.continue_with(optimizer)
        self.n_iter_ = 0
        watch = convergence.Convergence(self, self.learning_rate, bool(self.early_stopping))
        history = stochastic.train(
            network,
            problem,
            optimizer,
            whole,
            *(held_out or (None, None)),
            alpha=float(self.alpha),
            epochs=1 if incremental else self.max_iter,
            batch_size=self._batch_size(len(whole)),
            shuffle=self.shuffle,
            random=random,
            schedule=schedule_of(self),
            lr_factor=self._lr_factor if incremental and hasattr(self, "_lr_factor") else 1.0,
            callbacks=[watch, *self._callbacks()],
        )
        if history.interrupted == signal.SIGINT:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        elif history.interrupted is not None:
            signal.raise_signal(history.interrupted)
        elif not incremental and not watch.stopped:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization "
                "hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _callbacks(self) -> list[Callback]:
        given = self.callbacks
        listed = [] if given is None else [given] if isinstance(given, Callback) else [*given]
        return [*listed, ProgressBar()] if self.verbose == "bar" else listed

    def _split(
        self, network: Network, whole: Samples, y: HostArray, random: np.random.RandomState
    ) -> tuple[Samples, tuple[Samples, Any]]:
        """Hold out `validation_fraction` of the rows: the rows that scikit-learn holds out."""
        stratify = y.astype(bool).reshape(-1, 1) if self._problem().kind == "binary" else None
        train, test = train_test_split(
            np.arange(len(whole)), random_state=random, test_size=self.validation_fraction, stratify=stratify
        )
        if len(test) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        held_out = whole.select(network.backend, test)
        return whole.select(network.backend, train), (held_out, y[test])

    def _held_out(
        self, trained: Trained, problem: Problem, X: Any, y: Any, weight: Any
    ) -> tuple[Samples, Any]:
        """Return the rows that the caller validates on, and their targets as `Problem.score` reads them."""
        x, y = Inputs(self).validation(X, y)
        weight = None if weight is None else np.asarray(_check_sample_weight(weight, x))
        y = self._encode_targets(y, False, True)
        n_out, dtype = trained.network.widths[-1], trained.network.dtype
        targets = problem.loss.targets(targets_of_decisions(problem, y), n_out, dtype)
        return Samples(rows_of(x), targets, weight), y

    def _fit_lbfgs(self, trained: Trained, problem: Problem, whole: Samples, held_out: Any) -> None:
        if np.any(self.dropout):
            raise ConfigurationError(
                "solver='lbfgs' needs the same loss at each call, and dropout changes it; set dropout=0 or "
                "use solver='adam'"
            )
        if self._callbacks() or held_out is not None:
            raise ConfigurationError(
                "solver='lbfgs' has no epochs, so it takes no callbacks and no X_val; use solver='adam'"
            )
        found = lbfgs.minimize(
            trained.network,
            problem,
            whole,
            alpha=float(self.alpha),
            max_iter=self.max_iter,
            max_fun=self.max_fun,
            tol=self.tol,
            verbose=bool(self.verbose),
        )
        self.n_iter_, self.loss_ = found

    # ------------------------------------------------------------------ predictions

    def _raw(self, X: Any) -> HostArray:
        """Return the outputs of the network for rows X, a host array (n, O)."""
        self._trained.take(self.coefs_, self.intercepts_)
        network = self._trained.network
        x = Inputs(self).prediction(X)
        try:
            return np.asarray(network.backend.to_host(network.predict(x)))
        except DivergedError as error:
            raise ValueError(f"the predictions are not finite; scale X, or fit again ({error})") from error

    def _answers(self, X: Any, answer: Callable[[HostArray], Any]) -> Any:
        """Return answer(outputs) for rows X, as the kind of array that X is."""
        return answer(self._raw(X))

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
