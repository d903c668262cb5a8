"""A problem: what the targets mean, the loss that is trained, and what the outputs predict.

scikit-learn sums the losses of several outputs, and reports the mean of squared errors over the outputs. The
losses of this package are means over the outputs, so here they have the number of outputs as a factor.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import r2_score

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.precision import underflow_is_zero
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.evaluation.metrics import r2
from ffnn_gpu.nn.activations import sigmoid, softplus
from ffnn_gpu.nn.losses import Loss, PointwiseLoss, SoftmaxCrossEntropy, get_loss
from ffnn_gpu.nn.losses.standard import nonnegative

SMALLEST = 1e-30  # stands for a target of 0 below the logarithm


def _log_loss(xp: Any, z: Any, y: Any, outputs: float) -> Any:
    return outputs * (softplus.value(xp, z) - z * y)


def _log_loss_slope(xp: Any, z: Any, y: Any, outputs: float) -> Any:
    return outputs * (sigmoid.value(xp, z) - y)


def _squared_error(xp: Any, z: Any, y: Any, outputs: float) -> Any:
    return 0.5 * outputs * (z - y) ** 2


def _squared_error_slope(xp: Any, z: Any, y: Any, outputs: float) -> Any:
    return outputs * (z - y)


def _deviance(xp: Any, z: Any, y: Any, outputs: float) -> Any:  # y log(y/μ) − y + μ, μ = e^z
    return outputs * (y * (xp.log(xp.maximum(y, SMALLEST)) - 1 - z) + xp.exp(z))


def _deviance_slope(xp: Any, z: Any, y: Any, outputs: float) -> Any:
    return outputs * (xp.exp(z) - y)


@dataclass(frozen=True)
class Problem:
    """What a network with O outputs learns.

    Attributes:
        kind: "multiclass", "binary", "multilabel" or "regression".
        loss: of outputs and targets; trained.
        divisor: the reported loss is the trained one divided by it.
        out_activation: what scikit-learn calls the function from outputs to predictions.
    """

    kind: str
    loss: Loss
    divisor: float = 1.0
    out_activation: str = "identity"

    @underflow_is_zero
    def probabilities(self, z: HostArray) -> HostArray:
        """Return (n, C) probabilities of classes, or (n, K) of labels. Raises ConfigurationError."""
        if self.out_activation == "identity":
            raise ConfigurationError(
                f"the loss {getattr(self.loss, 'name', self.loss)!r} trains a decision, no probabilities; "
                "use loss='log_loss'"
            )
        if self.kind == "multiclass":
            p = np.exp(z - z.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            return np.asarray(p)
        p = sigmoid.value(np, z)
        return np.hstack([sigmoid.value(np, -z), p]) if self.kind == "binary" else np.asarray(p)

    @np.errstate(divide="ignore")
    def log_probabilities(self, z: HostArray) -> HostArray:
        """Return log `probabilities`; −∞ where a probability rounds to 0."""
        return np.asarray(np.log(self.probabilities(z)))

    def decisions(self, z: HostArray) -> HostArray:
        """Return class indices (n,), 0 and 1 (n, K), or the numbers predicted (n, O)."""
        if self.kind == "multiclass":
            return np.asarray(z.argmax(axis=1))
        if self.kind == "regression":
            return np.exp(z) if self.out_activation == "exp" else z
        found = (z > 0).astype(np.int64)
        return found[:, 0] if self.kind == "binary" else found

    def score(self, y: HostArray, z: HostArray, sample_weight: Any) -> float:
        """Return the accuracy, or R² of a regression; NaN if an output is not finite."""
        if not np.isfinite(z).all():
            return float("nan")
        found = self.decisions(z)
        if self.kind == "regression":
            if sample_weight is None:  # in a tenth of scikit-learn's time: an epoch may take less than that
                return r2(y, found)
            return float(r2_score(y, found, sample_weight=sample_weight))
        right = found.reshape(len(y), -1) == np.asarray(y).reshape(len(y), -1)
        return float(np.average(right.all(axis=1), weights=sample_weight))


def classification(kind: str, outputs: int, loss: str | Loss) -> Problem:
    """Return the problem of classes or labels. Raises ConfigurationError for a loss that does not fit."""
    out = "softmax" if kind == "multiclass" else "logistic"
    if loss == "log_loss":
        if kind == "multiclass":
            return Problem(kind, SoftmaxCrossEntropy(), 1.0, out)
        if outputs == 1:
            return Problem(kind, get_loss("binary_cross_entropy_with_logits"), 1.0, out)
        of_labels = PointwiseLoss("log_loss", _log_loss, _log_loss_slope, None, float(outputs), 0.0)
        return Problem(kind, of_labels, 1.0, out)
    chosen = get_loss(loss)
    if isinstance(chosen, SoftmaxCrossEntropy) and kind == "multiclass":
        return Problem(kind, chosen, 1.0, out)
    name = getattr(chosen, "name", "")
    if name == "binary_cross_entropy_with_logits" and kind != "multiclass":
        return Problem(kind, chosen, 1.0, out)
    if isinstance(chosen, PointwiseLoss) and chosen.threshold == 0 and kind != "multiclass":
        return Problem(kind, chosen)
    raise ConfigurationError(
        f"the loss {loss!r} does not fit a {kind} target; use loss='log_loss', "
        + ("a SoftmaxCrossEntropy" if kind == "multiclass" else "'hinge' or another loss with threshold=0")
    )


def regression(outputs: int, loss: str | Loss) -> Problem:
    """Return the problem of predicting numbers. Raises ConfigurationError for a loss of classes."""
    O = float(outputs)
    if loss == "squared_error":
        squared = PointwiseLoss("squared_error", _squared_error, _squared_error_slope, None, O)
        return Problem("regression", squared, O)
    if loss == "poisson":
        deviance = PointwiseLoss("deviance", _deviance, _deviance_slope, nonnegative, O)
        return Problem("regression", deviance, 1.0, "exp")
    chosen = get_loss(loss)
    if isinstance(chosen, PointwiseLoss) and chosen.threshold is None:
        return Problem("regression", chosen)
    raise ConfigurationError(
        f"the loss {loss!r} is one of classes; use 'squared_error', 'poisson', 'huber' or another loss of "
        "numbers"
    )


def targets_of_decisions(problem: Problem, y: HostArray) -> HostArray:
    """Return decisions as the loss reads them: −1 and 1 for hinge, else unchanged."""
    decisions = getattr(problem.loss, "decisions", (0, 1))
    return y if problem.kind == "regression" or decisions == (0, 1) else np.where(y > 0, *decisions[::-1])
