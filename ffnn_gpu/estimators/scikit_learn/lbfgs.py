"""Training by L-BFGS on the vector of all parameters.

The vector has padding between its parts, whose gradient is zero: it stays zero and changes no step.

Why the weights of several outputs of a regression differ from scikit-learn's: its gradient sums the outputs
and its loss is their mean, so its gradient is not that of its loss. Here both are the sum; `loss_` is
reported with the mean, as there.
"""

from typing import Any

import numpy as np
from scipy.optimize import minimize as scipy_minimize
from sklearn.utils.optimize import _check_optimize_result

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.estimators.scikit_learn.problem import Problem
from ffnn_gpu.evaluation.samples import Samples
from ffnn_gpu.nn.network import Network
from ffnn_gpu.training.step import gradient

MOST_ROWS = 8192  # of one pass; the gradients of several passes are added


class Objective:
    """θ → (loss with penalty, gradient), over all rows, in float64 on the host."""

    def __init__(self, network: Network, problem: Problem, data: Samples, alpha: float) -> None:
        backend = network.backend
        self.network, self.problem = network, problem
        self.x = data.x.on(backend, network.compute_dtype)
        self.y, self.rows = backend.asarray(data.y), len(data)
        self.w = None if data.weight is None else backend.asarray(data.weight, network.dtype)
        self.total = float(len(data) if data.weight is None else data.weight.sum())
        self.alpha = alpha / self.total
        self.ws = network.workspace(min(self.rows, MOST_ROWS))
        self.share = backend.zeros((1,), np.float64)

    def __call__(self, theta: HostArray) -> tuple[float, HostArray]:
        """Return the value and the gradient at θ."""
        params, backend = self.network.params, self.network.backend
        self.move_to(theta)
        value, total = 0.0, np.zeros(len(theta))
        for start in range(0, self.rows, MOST_ROWS):
            part_value, share = self._part(slice(start, min(start + MOST_ROWS, self.rows)))
            value += share * part_value
            total += backend.to_host(params.grad)
        W = slice(0, params.n_decayed)
        total[W] += self.alpha * theta[W]
        return value + self.penalty(theta), total

    def move_to(self, theta: HostArray) -> None:
        """Overwrite the parameters of the network."""
        params, backend = self.network.params, self.network.backend
        backend.copy(backend.asarray(theta, params.dtype), out=params.theta)
        params.refresh()

    def penalty(self, theta: HostArray) -> float:
        """Return ½ α ‖W‖² / Σᵢ wᵢ."""
        W = theta[: self.network.params.n_decayed]
        return 0.5 * self.alpha * float(np.square(W).sum())

    def reported(self, value: float, theta: HostArray) -> float:
        """Return the loss that scikit-learn reports where this object's value at θ is `value`."""
        penalty = self.penalty(theta)
        return (value - penalty) / self.problem.divisor + penalty

    def _part(self, part: slice) -> tuple[float, float]:
        """∇θ ← the share of some rows in the gradient; return their mean loss and their share."""
        network, backend = self.network, self.network.backend
        x = self.x.matrix(backend, part, network.compute_dtype)
        y, w = self.y[part], None if self.w is None else self.w[part]
        share = (len(x) if w is None else float(backend.total(w))) / self.total
        scale = network.params.loss_scale
        backend.write(self.share, 0, share)
        ws = self.ws.first(len(x))
        value = float(gradient(network, self.problem.loss, None, x, y, ws, w, self.share, True))
        if scale is not None:
            backend.scale(network.params.grad, 1 / float(scale[0]))
        return value, share


def minimize(
    network: Network,
    problem: Problem,
    data: Samples,
    *,
    alpha: float,
    max_iter: int,
    max_fun: int,
    tol: float,
    verbose: bool,
) -> tuple[int, float]:
    """Train the network; return (iterations, loss). Warns as scikit-learn does if it has not converged."""
    objective = Objective(network, problem, data, alpha)
    said = [0]

    def say(intermediate_result: Any) -> None:
        said[0] += 1
        print(f"Iteration {said[0]}, loss = {intermediate_result.fun:.8f}")

    with np.errstate(over="ignore", invalid="ignore"):
        found = scipy_minimize(
            objective,
            network.backend.to_host(network.params.theta).astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
            callback=say if verbose else None,
        )
    iterations = _check_optimize_result("lbfgs", found, max_iter)
    objective.move_to(found.x)
    objective.ws.release()
    return int(iterations), objective.reported(float(found.fun), found.x)
