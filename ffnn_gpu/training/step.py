"""One update of θ: `train_step` is the algorithm, `accumulated_step` the same update from micro-batches.

Network, loss and optimizer meet here. There is no CUDA: a backend may record the step once and then run the recording.
"""

import functools
from collections.abc import Callable
from typing import Any

from ffnn_gpu.nn.losses.standard import Loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.workspace import Workspace


def recordable(step: Callable[..., Any]) -> Callable[..., Any]:
    """The same step; the backend may record it once and then run the recording."""

    @functools.wraps(step)
    def run(
        network: Network,
        loss: Any,
        optimizer: Any,
        x: Any,
        y: Any,
        ws: Workspace,
        sample_weight: Any = None,
        lr: Any = None,
        checked: bool = False,
    ) -> Any:
        return network.backend.run_step(step, network, loss, optimizer, x, y, ws, sample_weight, lr, checked)

    return run


@recordable
def train_step(
    network: Network,
    loss: Any,
    optimizer: Any,
    x: Any,
    y: Any,
    ws: Workspace,
    sample_weight: Any = None,
    lr: Any = None,
    checked: bool = False,
) -> Any:
    """Update θ once, on the minibatch x (B, n_in), y.

    Args:
        lr: float64 (1,) on the device, the learning rate from this step on; None leaves it.
        checked: whether y and sample_weight have been checked and converted, as `Loss` says.

    Returns:
        The loss before the update, a 0-d array that stays on the device.
    """
    z = network.forward(x, ws)
    value = loss(network.backend, z, y, ws.dz, sample_weight, checked)
    network.backward(ws.dz, ws)
    optimizer.step(network.params, lr)
    return value


def accumulated_step(
    network: Network,
    loss: Loss,
    optimizer: Any,
    x: Any,
    y: Any,
    ws: Workspace,
    sample_weight: Any,
    lr: Any,
    total: Any,
) -> Any:
    """The same update from micro-batches of the workspace's size:  ∇θ = Σ_j N_j ∇θ_j / Σ_j N_j.

    N_j is what part j takes its mean over: its rows, or the sum of their weights. Dropout draws the bits of the whole
    batch's rows; BatchNorm takes its statistics over each part. total (P,) is scratch.
    """
    backend, grad = network.backend, network.params.grad
    backend.copy(0, out=total)
    value = N = 0.0
    for start in range(0, len(x), ws.B):
        rows = slice(start, min(start + ws.B, len(x)))
        w = None if sample_weight is None else sample_weight[rows]
        part = ws.first(rows.stop - start)
        part.stream.row = start
        z = network.forward(x[rows], part)
        weight = loss.total_weight(backend, y[rows], w)
        value = value + weight * loss(backend, z, y[rows], part.dz, w, checked=True)
        network.backward(part.dz, part)
        backend.add_scaled(total, grad, weight)
        N = N + weight
    ws.stream.row = 0
    N = N + (N == 0)  # all weights zero: no gradient
    backend.copy(total, out=grad)
    backend.scale(grad, 1 / N)
    optimizer.step(network.params, lr)
    return value / N
