"""One update of θ: `train_step` is the algorithm, `Step` is the same from micro-batches on every rank.

    gradient of each micro-batch  →  sum over the ranks  →  update

    ∇θ = Σ_j N_j ∇θ_j / N        N = Σ_j N_j               over the micro-batches j of a minibatch
    ∇θ_j = Σ_r (N_jr / N_j) ∇θ_jr        N_j = Σ_r N_jr    over the ranks r

N_jr is the denominator of the mean that rank r computes: its rows, or the sum of their weights. dz is
multiplied by N_jr/N_j before it goes back through the layers, so every gradient is this rank's share of the
global one. With one process and one micro-batch each sum has one term, and the update is `train_step`.

There is no CUDA here: a backend may record a step once and then replay the recording.
"""

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from ffnn_gpu.backends import Array
from ffnn_gpu.data.minibatches import Order
from ffnn_gpu.distributed.communicator import piece_bounds
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layer import all_layers
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.parameters import Parameters
from ffnn_gpu.nn.workspace import Workspace
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.training.callbacks import Run
from ffnn_gpu.training.data_parallel.team import LOSS, WEIGHT


def recordable(step: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: let the backend record this step and replay the recording."""
    return functools.wraps(step)(
        lambda network, loss, optimizer, x, y, ws, sample_weight=None, lr=None, checked=False: (
            network.backend.run_step(step, network, loss, optimizer, x, y, ws, sample_weight, lr, checked)
        )
    )


@recordable
def train_step(
    network: Network,
    loss: Loss,
    optimizer: Optimizer,
    x: Array,
    y: Any,
    ws: Workspace,
    sample_weight: Any = None,
    lr: Array | None = None,
    checked: bool = False,
) -> Array:
    """Update θ once, on the minibatch x (B, n_in), y.

    Args:
        lr: float64 (1,) on the device, the learning rate from this step on; None leaves it.
        checked: True if y and sample_weight are checked and converted, as `Loss` describes.

    Returns:
        The loss before the update, a 0-d array that stays on the device; of a pack the members' losses (R,).
    """
    z = network.forward(x, ws)
    value = loss(network.backend, z, y, ws.dz, sample_weight, checked)
    _make_state(optimizer, network.params)
    network.backward(ws.dz, ws)
    optimizer.step(network.params, lr)
    return value


def _make_state(optimizer: Any, params: Parameters) -> None:
    """Make the optimizer's state, if it has one: averages start before backward changes the statistics."""
    if hasattr(optimizer, "state"):
        optimizer.state(params)


@recordable
def gradient(
    network: Network, loss: Loss, optimizer: None, x: Array, y: Array, ws: Workspace, *others: Any
) -> Array:
    """∇θ ← share ∇θ of L(x, y); return L. share: float64 (1,) on the device, in the place of lr."""
    sample_weight, share, checked = others
    z = network.forward(x, ws)
    value = loss(network.backend, z, y, ws.dz, sample_weight, checked)
    network.backward(network.backend.scaled(ws.dz, share, out=ws.dz), ws)
    return value


@recordable
def update(network: Network, loss: None, optimizer: Optimizer, *others: Any) -> None:
    """Update θ once by the gradient in ∇θ. `others` are the other arguments of train_step."""
    _x, _y, _ws, _sample_weight, lr, _checked = others
    optimizer.step(network.params, lr)


def require_rows_for_statistics(
    network: Network, rows: int, order: Order, accumulate: int, apart: int
) -> None:
    """Raise ConfigurationError if some micro-batch is too small for the statistics of a layer.

    apart: the number of ranks that take the statistics of their own rows.
    """
    needed = max((layer.least_rows for layer in all_layers(network.layers)), default=1)
    B, last = min(order.batch_size, rows), 0 if order.drop_last else rows % order.batch_size
    most, smallest = -(-B // accumulate), rows
    for n in {B, last}:
        for start in range(0, n, most):
            bounds = piece_bounds(min(most, n - start), apart)
            smallest = min([smallest, *(b - a for a, b in pairwise(bounds) if b > a)])
    if smallest >= needed:
        return
    given = f"{rows} rows in batches of batch_size={order.batch_size}"
    given += f" with accumulate={accumulate}" * (accumulate > 1) + f" on {apart} ranks" * (apart > 1)
    remedy = ", or drop_last=True" * (accumulate == apart == 1 and needed <= B)
    raise ConfigurationError(
        f"{given} leave a batch of {smallest} row, and BatchNorm takes the variance of a batch, which needs "
        f"at least {needed}; use another batch_size{remedy}"
    )


def loss_of_run(network: Network, value: Array) -> Array:
    """Return the loss of a step; of a pack the mean of its members' losses, by operations alone."""
    if network.members is None:
        return value
    backend, R = network.backend, len(network.members)
    mean = backend.column_sum(value.reshape(R, 1), out=backend.empty((1,), value.dtype))
    return backend.scaled(mean, backend.constant((1 / R,), "float64"), out=mean)[0]


class Step:
    """The update of one minibatch on this rank. `ws` is scratch for its rows of a micro-batch."""

    def __init__(self, run: Run) -> None:
        self.network, self.loss, self.optimizer = run.network, run.loss, run.optimizer
        self.data, self.team = run.data, run.team
        network, team = run.network, run.team
        self.micro_batch = -(-run.data.B // run.accumulate)
        self.ws = network.workspace(-(-self.micro_batch // team.size), seed=run.data.order.seed)
        backend, theta = network.backend, network.params.theta
        self._whole = run.accumulate == 1 and team.size == 1
        self._total = backend.zeros(theta.shape, network.dtype) if run.accumulate > 1 else None
        self._share = backend.zeros((1,), "float64")
        batch = team.batch_statistics
        self._computed = network if batch is None else network.computed_by(batch)

    def __call__(self, j: int, n: int, lr: Array) -> tuple[Array, Any]:
        """Update θ by the j-th chosen minibatch of n rows; return its loss L and denominator N."""
        if self._whole:
            x, y, w, ws = self._rows(j, n, slice(0, n))
            value = train_step(self.network, self.loss, self.optimizer, x, y, ws, w, lr, checked=True)
            return loss_of_run(self.network, value), self.loss.total_weight(self.network.backend, y, w)
        value, N = self._gradient(j, n)
        self.team.sum_gradient()
        shard = self.team.shard
        if shard is None:
            update(self.network, None, self.optimizer, None, None, self.ws, None, lr, True)
        else:
            self.optimizer.step(shard, lr)  # type: ignore[arg-type]
            shard.refresh()
        return value, N

    def _gradient(self, j: int, n: int) -> tuple[Array, Any]:
        """∇θ ← this rank's share of the gradient; return L and N."""
        backend, grad, sums = self.network.backend, self.network.params.grad, self.team.sums
        if self._total is not None:
            backend.copy(0, out=self._total)
        value: Array = 0.0
        N: Any = 0
        for start in range(0, n, self.micro_batch):
            weight = self._micro_batch(j, n, start, min(start + self.micro_batch, n))
            value, N = value + sums[LOSS], N + weight
            if self._total is not None:
                backend.add_scaled(self._total, grad, weight)
        self.ws.stream.row = 0
        divisor = N + (N == 0)  # all weights zero: no gradient
        if self._total is not None:
            backend.copy(self._total, out=grad)
            backend.scale(grad, 1 / divisor)
        return value / divisor, N

    def _micro_batch(self, j: int, n: int, start: int, stop: int) -> Any:
        """∇θ ← this rank's share of the gradient of rows start … stop; sum N L and N over the ranks.

        Return N: an int if it is the number of rows, because a float64 would make a float64 copy of ∇θ.
        """
        backend, rank = self.network.backend, self.team.rank
        bounds = piece_bounds(stop - start, self.team.size)
        part = slice(start + bounds[rank], start + bounds[rank + 1])
        x, y, w, ws = self._rows(j, n, part)
        ws.stream.row = part.start  # dropout: the bits of the whole batch's rows
        if self.team.batch_statistics is not None:
            self.team.batch_statistics.rows = stop - start
        network = self._computed
        weight = self.loss.total_weight(backend, y, w)
        counted = self.loss.counts_rows and isinstance(weight, int)
        if counted or self.team.size == 1:  # the share is known without a sum over the ranks
            backend.write(self._share, 0, 1.0 if self.team.size == 1 else weight / (stop - start))
            value = gradient(network, self.loss, None, x, y, ws, w, self._share, True)
            self.team.sum_loss(loss_of_run(network, value), weight)
            return int(stop - start) if counted else self.team.sums[WEIGHT] + 0.0  # a copy
        value = self.loss(backend, network.forward(x, ws), y, ws.dz, w, checked=True)
        self.team.sum_loss(value, weight)
        network.backward(backend.scaled(ws.dz, self.team.share(), out=ws.dz), ws)
        return self.team.sums[WEIGHT] + 0.0  # a copy

    def _rows(self, j: int, n: int, part: slice) -> tuple[Array, Array, Array | None, Workspace]:
        """Gather rows `part` of the j-th minibatch; return x, y, weights and a workspace for them."""
        data, m = self.data, part.stop - part.start
        data.gather(j, n, part)
        return data.x[:m], data.y[:m], None if data.weight is None else data.weight[:m], self.ws.first(m)
