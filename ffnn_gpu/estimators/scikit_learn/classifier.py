"""MLPClassifier."""

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.estimators.scikit_learn.inputs import host
from ffnn_gpu.estimators.scikit_learn.parameters import losses_named
from ffnn_gpu.estimators.scikit_learn.perceptron import Perceptron, has_epochs
from ffnn_gpu.estimators.scikit_learn.problem import Problem, classification


class MLPClassifier(ClassifierMixin, Perceptron):  # type: ignore[misc]
    """A multilayer perceptron that predicts classes or several labels, with scikit-learn's interface.

    The parameters up to `max_fun` have the meaning and the defaults of scikit-learn's MLPClassifier.
    `activation`, `solver` and `learning_rate` also take names and objects of this package.

    Args:
        loss: "log_loss", or a loss of this package.
        class_weight: {class: weight}, "balanced" or None; multiplies `sample_weight`.
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
        "loss": losses_named("log_loss"),
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
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
        loss: Any = "log_loss",
        class_weight: Any = None,
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
        self.class_weight = class_weight
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
        """Train on rows X (n, d) and their classes y (n,), or 0 and 1 for each label, (n, K).

        Args:
            X_val, y_val: rows on which each epoch is measured. With early_stopping they are used instead of
                rows held out from X.
        """
        return self._fit(X, y, sample_weight, False, (X_val, y_val, sample_weight_val))

    @available_if(has_epochs)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train one epoch on these rows. classes: all there will be; needed in the first call."""
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all rows at once; give partial_fit a mapping from classes to "
                "weights, or sample_weight"
            )
        if _check_partial_fit_first_call(self, classes):
            self._label_binarizer = LabelBinarizer()
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer.fit(y if multilabel else classes)
        return self._fit(X, y, sample_weight, True, None)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of the predictions for rows X."""
        return float(super().score(host(X), host(y), host(sample_weight)))

    def predict(self, X: Any) -> Any:
        """Return the class of each row (n,), or 0 and 1 for each label, (n, K)."""
        return self._answers(X, self._labels)

    def predict_proba(self, X: Any) -> Any:
        """Return probabilities (n, C) of the classes in the order of `classes_`, or (n, K) of the labels."""
        return self._answers(X, lambda z: self._problem().probabilities(z))

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of `predict_proba`; it is finite where a probability rounds to 0."""
        return self._answers(X, lambda z: self._problem().log_probabilities(z))

    def _labels(self, z: HostArray) -> Any:
        decisions = self._problem().decisions(z)
        if self._kind == "multilabel":
            return self._label_binarizer.inverse_transform(decisions)
        return self.classes_[decisions if len(self.classes_) > 1 else np.zeros(len(z), int)]

    @property
    def _kind(self) -> str:
        kind = self._label_binarizer.y_type_
        return "multilabel" if kind.startswith("multilabel") else kind

    def _outputs(self) -> int:
        return 1 if self._kind == "binary" else len(self.classes_)

    def _problem(self) -> Problem:
        return classification(self._kind, self._outputs(), self.loss)

    def _weights(self, y: Any, sample_weight: Any, x: Any) -> HostArray | None:
        given = super()._weights(y, sample_weight, x)
        if self.class_weight is None:
            return given
        of_class = compute_sample_weight(self.class_weight, y)
        return np.asarray(of_class if given is None else given * of_class)

    def _encode_targets(self, y: Any, learn: bool, whole: bool) -> HostArray:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if learn or not hasattr(self, "classes_"):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._require_known(unique_labels(y), whole)
        if self._kind == "multilabel":
            return np.asarray(self._label_binarizer.transform(y), np.float32)
        place = np.asarray(np.searchsorted(self.classes_, y))  # a fifth of the time of the binarizer's matrix
        return place.astype(np.int32) if self._kind == "multiclass" else place[:, None].astype(np.float32)

    def _require_known(self, classes: Any, whole: bool) -> None:
        """Raise scikit-learn's ValueError for classes that the network does not predict."""
        if whole:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to "
                    f"fit. Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has "
                f"{classes}."
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
