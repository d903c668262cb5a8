"""A fitted estimator ↔ a `Model` and the file of one, which `ffnn-gpu predict` reads too."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.preprocessing import LabelBinarizer

from ffnn_gpu.backends.choice import NumpyBackend
from ffnn_gpu.checkpoints import checkpoint
from ffnn_gpu.data.labels import LabelMap
from ffnn_gpu.errors import CheckpointError, ConfigurationError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.scikit_learn.parameters import described_by, layers_of
from ffnn_gpu.estimators.scikit_learn.problem import Problem
from ffnn_gpu.estimators.scikit_learn.trained import Trained
from ffnn_gpu.estimators.task import TASK_LOSSES, Task
from ffnn_gpu.nn.losses import SoftmaxCrossEntropy
from ffnn_gpu.tables.encoding import Encoding

RECORDED = (
    "n_features_in_", "n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "loss_", "loss_curve_",
    "best_loss_", "validation_scores_", "best_validation_score_", "validation_loss_curve_",
    "_no_improvement_count", "_lr_factor", "_targets_per_row",
)  # fmt: skip
KEY = "estimator"  # among the extras of the file


def model_of(estimator: Any) -> Model:
    """Return the network with what turns raw rows into answers. Raises ConfigurationError.

    The model shares the parameters of the estimator: another fit changes both.
    """
    network, problem = estimator._network(), estimator._problem()
    names = getattr(estimator, "feature_names_in_", None)
    labels = None
    if problem.kind in ("binary", "multiclass"):
        labels = LabelMap(tuple(estimator.classes_.tolist()))
    task = Task(problem.kind, network.widths[-1], _loss_name(problem, estimator.loss), labels=labels)
    return Model(
        network,
        task,
        feature_names=None if names is None else tuple(map(str, names)),
        encoding=estimator._encoding,
    )


def save(estimator: Any, path: str | Path) -> None:
    """Write the estimator to one file. Raises CheckpointError.

    Parameters that are objects, such as callbacks, are not written; a loaded estimator has their defaults.
    """
    network = estimator._network()
    try:
        extras = model_of(estimator).extras()
    except ConfigurationError:  # a loss that a Model does not know
        extras = {"encoding": estimator._encoding and estimator._encoding.to_json()}
    parameters = {name: value for name, value in estimator.get_params().items() if _is_json(value)}
    recorded = {name: getattr(estimator, name) for name in RECORDED if hasattr(estimator, name)}
    names = getattr(estimator, "feature_names_in_", None)
    saved = {
        "class": type(estimator).__name__,
        "numpy": type(network.backend) is NumpyBackend,
        "parameters": parameters,
        "recorded": recorded,
        "feature_names": None if names is None else [*map(str, names)],
    }
    if hasattr(estimator, "classes_"):
        saved["classes"] = estimator.classes_.tolist()
        saved["dtype"] = estimator.classes_.dtype.str
        saved["kind"] = estimator._kind
    checkpoint.save(network, path, extras={**extras, KEY: json.loads(json.dumps(saved, default=float))})


def load(kind: type, path: str | Path, device: Any) -> Any:
    """Return the estimator in a file. Raises CheckpointError if it holds none of this class."""
    network, state, _ = checkpoint.read(path, NumpyBackend())
    extras = state.get("extras", {})
    saved = extras.get(KEY)
    if not isinstance(saved, dict) or saved.get("class") != kind.__name__:
        found = saved.get("class") if isinstance(saved, dict) else "no estimator"
        raise CheckpointError(
            f"{path} holds {found}; {kind.__name__}.load reads what {kind.__name__}.save wrote"
        )
    estimator = kind(**saved["parameters"])
    for name, value in saved["recorded"].items():
        setattr(estimator, name, value)
    if saved["feature_names"] is not None:
        estimator.feature_names_in_ = np.array(saved["feature_names"], object)
    encoding = extras.get("encoding")
    estimator._encoding = encoding and Encoding.from_json(encoding)
    estimator._code_levels = estimator._encoding.code_levels if encoding else ()
    if "classes" in saved:
        estimator.classes_ = np.array(saved["classes"], saved["dtype"])
        several = saved["kind"] == "multilabel"
        fitted_on = np.eye(len(estimator.classes_), dtype=int) if several else estimator.classes_
        estimator._label_binarizer = LabelBinarizer().fit(fitted_on)
    estimator._described = described_by(
        estimator, layers_of(estimator, network.widths[-1], estimator._code_levels)
    )
    small = saved["numpy"] and device in ("auto", "cpu", "numpy")
    estimator._trained = Trained(network if small else network.to(device))
    estimator.coefs_, estimator.intercepts_ = estimator._trained.show()
    return estimator


def _loss_name(problem: Problem, loss: Any) -> str:
    """Return the loss of a Task. Raises ConfigurationError if a Model does not know the loss."""
    if problem.kind == "multiclass" and isinstance(problem.loss, SoftmaxCrossEntropy):
        return "softmax_cross_entropy"
    if problem.out_activation == "logistic":
        return "binary_cross_entropy_with_logits"
    name = "mean_squared_error" if loss == "squared_error" else str(getattr(problem.loss, "name", loss))
    if name not in TASK_LOSSES[problem.kind] or problem.out_activation == "exp":
        raise ConfigurationError(f"a Model has no task with the loss {loss!r}; keep the estimator itself")
    return name


def _is_json(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, (bool, int, float, str))
        or (isinstance(value, (list, tuple)) and all(map(_is_json, value)))
    )
