"""One step of n ranks, which is one process's: every rank computes with its part of the rows, sums make it whole.

All ranks draw the same order of the rows, so the minibatches are those of one process. Each (with `accumulate` each
micro-batch of it) is cut into contiguous parts, and rank r computes with part r:

    L = Σ_r N_r L_r / N        ∇θ = Σ_r (N_r / N) ∇θ_r        N = Σ_r N_r

N_r is what part r takes its mean over: its rows, or the sum of their weights. dz is multiplied by N_r/N before it goes back
through the layers, so every gradient is this rank's share of the global one, and one sum of the flat ∇θ makes it whole. The
optimizer then does on every rank what it would do on one.
"""

from typing import Any

import numpy as np

from ffnn_gpu.distributed.communicator import Communicator, piece_bounds
from ffnn_gpu.nn.network import Network
from ffnn_gpu.training.data_parallel.batch_norm import GlobalBatch
from ffnn_gpu.training.data_parallel.optimizer_shard import Shard

LOSS, WEIGHT = 0, 1  # places in the sums of a step; more numbers may ride along behind them


def share_of_gradient(
    network: Network,
    loss: Any,
    optimizer: None,
    x: Any,
    y: Any,
    ws: Any,
    sample_weight: None,
    share: Any,
    checked: bool,
) -> Any:
    """∇θ ← share ∇θ of L(x, y); returns L. share: float64 (1,) on the device."""
    backend = network.backend
    value = loss(backend, network.forward(x, ws), y, ws.dz, sample_weight, checked)
    network.backward(backend.scaled(ws.dz, share, out=ws.dz), ws)
    return value


def update(
    network: Network,
    loss: None,
    optimizer: Any,
    x: None,
    y: None,
    ws: Any,
    sample_weight: None,
    lr: Any,
    checked: bool,
) -> None:
    """One update of θ by the gradient that lies in ∇θ."""
    optimizer.step(network.params, lr)


class SharedStep:
    """The step of one rank.

    Args:
        shard: this rank's piece of θ where the optimizer is shared out, else None.
        global_statistics: whether BatchNorm's are those of all ranks' rows.
        riders: how many numbers go along with each sum of losses.

    Attributes:
        mine, sums: [N_r L_r, N_r, riders] of this rank, and the sums over the ranks, of the latest micro-batch.
    """

    def __init__(
        self,
        communicator: Communicator,
        network: Network,
        shard: Shard | None,
        global_statistics: bool,
        riders: int,
    ) -> None:
        self.communicator, self.shard = communicator, shard
        self._batch = GlobalBatch(network.backend, communicator) if global_statistics else None
        self._network = network if self._batch is None else network.computed_by(self._batch)
        self.mine, self.sums = (network.backend.zeros((WEIGHT + 1 + riders,), np.float64) for _ in range(2))
        self._share = network.backend.zeros((1,), np.float64)

    def __call__(self, run: Any, j: int, n: int, lr: Any) -> tuple[Any, Any]:
        """One update of θ for the j-th chosen minibatch of n rows; returns its L and N."""
        backend, params = run.network.backend, run.network.params
        value, weight = self._whole(run, j, n) if run.accumulate == 1 else self._accumulated(run, j, n)
        if self._batch is None and len(params.state):
            self._average(backend, params.state)  # before the optimizer does
        if self.shard is None:
            self.communicator.all_reduce(params.grad)
            backend.run_step(update, run.network, None, run.optimizer, None, None, run.ws, None, lr, True)
        else:
            self.shard.update(run.optimizer, lr)
        run.ws.stream.row = 0
        return value, weight

    def _whole(self, run: Any, j: int, n: int) -> tuple[Any, Any]:
        self._contribute(run, j, n, 0, n)
        N = self.sums[WEIGHT]
        return self.sums[LOSS] / (N + (N == 0)), N

    def _accumulated(self, run: Any, j: int, n: int) -> tuple[Any, Any]:
        """As step.accumulated_step: ∇θ = Σ_j N_j ∇θ_j / Σ_j N_j over micro-batches j, of which this rank has parts."""
        backend, grad, total = run.network.backend, run.network.params.grad, run.total
        backend.copy(0, out=total)
        value = N = 0.0
        for start in range(0, n, run.micro_batch):
            self._contribute(run, j, n, start, min(start + run.micro_batch, n))
            weight = self.sums[WEIGHT] + 0.0
            backend.add_scaled(total, grad, weight)
            value, N = value + self.sums[LOSS], N + weight
        somewhere = N + (N == 0)  # all weights zero: no gradient
        backend.copy(total, out=grad)
        backend.scale(grad, 1 / somewhere)
        return value / somewhere, N

    def _contribute(self, run: Any, j: int, n: int, start: int, stop: int) -> None:
        """∇θ ← this rank's share of the gradient of rows start … stop of the minibatch; the sums ← their Σ N L and Σ N."""
        bounds, rank = piece_bounds(stop - start, self.communicator.size), self.communicator.rank
        part = slice(start + bounds[rank], start + bounds[rank + 1])
        backend, data, network, m = run.network.backend, run.data, self._network, part.stop - part.start
        data.gather(j, n, part)
        x, y, w = data.x[:m], data.y[:m], None if data.weight is None else data.weight[:m]
        ws = run.ws.first(m)
        ws.stream.row = part.start  # dropout: bits of the whole batch's rows
        if self._batch is not None:
            self._batch.rows = stop - start
        weight = run.loss.total_weight(backend, y, w)
        if run.loss.counts_rows and isinstance(weight, int):  # then Σ N is the number of all rows
            backend.write(self._share, 0, weight / (stop - start))
            part_of = share_of_gradient, network, run.loss, None, x, y, ws, None, self._share, True
            return self._sum(network.backend.run_step(*part_of), weight)
        value = run.loss(backend, network.forward(x, ws), y, ws.dz, w, checked=True)
        self._sum(value, weight)
        N = self.sums[WEIGHT : WEIGHT + 1]
        backend.scaled(ws.dz, self.mine[WEIGHT : WEIGHT + 1] / (N + (N == 0)), out=ws.dz)
        return network.backward(ws.dz, ws)

    def _sum(self, value: Any, weight: Any) -> None:
        """The sums ← those over the ranks."""
        backend = self._network.backend
        backend.write(self.mine, LOSS, weight * value)
        backend.write(self.mine, WEIGHT, weight)
        backend.copy(self.mine, out=self.sums)
        self.communicator.all_reduce(self.sums)

    def _average(self, backend: Any, vector: Any) -> None:
        """Running statistics that each rank took of its own rows become one set."""
        self.communicator.all_reduce(vector)
        backend.scale(vector, 1 / self.communicator.size)
