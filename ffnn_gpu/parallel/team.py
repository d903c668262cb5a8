"""The ranks of one training, as the training sees them: which rows are this rank's, and what all must agree on.

All ranks draw the same order of the rows, so the minibatches are those of one process. Each (with `accumulate` each
micro-batch of it) is cut into contiguous parts, and rank r computes with part r:

    L = Σ_r N_r L_r / N        ∇θ = Σ_r (N_r / N) ∇θ_r        N = Σ_r N_r

N_r is what part r takes its mean over: its rows, or the sum of their weights. dz is multiplied by N_r/N before it goes back
through the layers, so every gradient is this rank's share of the global one, and one sum of the flat ∇θ makes it whole. The
optimizer then does on every rank what it would do on one.
"""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.checks import require_positive_int
from ffnn_gpu.errors import CheckpointError, ConfigurationError
from ffnn_gpu.evaluation import Samples, outputs_of, scores
from ffnn_gpu.network import Network
from ffnn_gpu.optimizers import Optimizer
from ffnn_gpu.parallel.agreement import require_agreement
from ffnn_gpu.parallel.communicator import Communicator, Single, cuts
from ffnn_gpu.parallel.global_batch import GlobalBatch
from ffnn_gpu.parallel.shard import Shard

LOSS, WEIGHT = 0, 1  # places in the sums of a step; behind them the signals, one place for each
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class DataParallel:
    """How ranks share a training.

    Args:
        communicator: of these ranks.
        batch_norm: "global", statistics over the rows of all ranks, as on one; or "local", over each rank's own, which saves
            three small sums for each such layer and step and is another trajectory for each number of ranks.
        check_every: steps after which ranks compare θ, the learning rate and the step again.
    """

    communicator: Communicator
    batch_norm: str = "global"
    check_every: int = 100

    def __post_init__(self) -> None:
        require_positive_int("check_every", self.check_every)
        if self.batch_norm not in ("global", "local"):
            raise ConfigurationError(f"batch_norm of DataParallel is 'global' or 'local', not {self.batch_norm!r}")

    @classmethod
    def of(cls, given: Any) -> "DataParallel":
        """A DataParallel as it is, a communicator with the defaults, None for one process. Raises ConfigurationError."""
        if isinstance(given, cls): return given
        if given is None: return cls(Single())
        if not all(hasattr(given, name) for name in ("rank", "size", "all_reduce")):
            raise ConfigurationError(f"communicator must be what ffnn_gpu.parallel.communicator() returns, not {given!r}")
        return cls(given)


class Team:
    """One rank's part in a training. With one rank nothing is said and nothing is cut.

    Attributes:
        rank, size: of the communicator.
        params: what the optimizer updates here: the network's parameters, or this rank's piece of them.
        shard: that piece, None where every rank updates all.
    """

    def __init__(self, plan: DataParallel, network: Network, optimizer: Optimizer, shard_optimizer: bool) -> None:
        self.plan, self.communicator, self.optimizer = plan, plan.communicator, optimizer
        self.rank, self.size = self.communicator.rank, self.communicator.size
        backend = network.backend
        self.shard = Shard(network.params, self.communicator) if shard_optimizer and self.size > 1 else None
        self.params: Any = network.params if self.shard is None else self.shard
        self._batch = GlobalBatch(backend, self.communicator) if plan.batch_norm == "global" else None
        self.network = network if self._batch is None else network.computed_by(self._batch)
        self._noted: Any = None
        self._heard: int | None = None
        self._mine = backend.zeros((WEIGHT + 1 + len(SIGNALS),), np.float64)
        self._sums = backend.zeros(self._mine.shape, np.float64)

    # ------------------------------------------------------------------ one step

    def rows(self, B: int) -> int:
        """The most rows that any rank has of B."""
        return -(-B // self.size)

    def step(self, run: Any, j: int, n: int, lr: Any) -> tuple[Any, Any]:
        """The update of θ for the j-th chosen minibatch of n rows; returns its L and N."""
        backend = run.network.backend
        value, weight = self._whole(run, j, n) if run.accumulate == 1 else self._accumulated(run, j, n)
        if self.shard is None:
            self.communicator.all_reduce(run.network.params.grad)
            self.optimizer.step(run.network.params, lr)
        else:
            self.shard.update(self.optimizer, lr)
        if self._batch is None and len(run.network.params.state): self._average(backend, run.network.params.state)
        run.ws.stream.row = 0
        return value, weight

    def _whole(self, run: Any, j: int, n: int) -> tuple[Any, Any]:
        self._contribute(run, j, n, 0, n)
        N = self._sums[WEIGHT]
        return self._sums[LOSS] / (N + (N == 0)), N

    def _accumulated(self, run: Any, j: int, n: int) -> tuple[Any, Any]:
        """As training.accumulated_step: ∇θ = Σ_j N_j ∇θ_j / Σ_j N_j over micro-batches j, of which this rank has parts."""
        backend, grad, total = run.network.backend, run.network.params.grad, run.total
        backend.copy(0, out=total)
        value = N = 0.0
        for start in range(0, n, run.micro_batch):
            self._contribute(run, j, n, start, min(start + run.micro_batch, n))
            weight = self._sums[WEIGHT] + 0.0
            backend.add_scaled(total, grad, weight)
            value, N = value + self._sums[LOSS], N + weight
        somewhere = N + (N == 0)                                                 # all weights zero: no gradient
        backend.copy(total, out=grad)
        backend.scale(grad, 1 / somewhere)
        return value / somewhere, N

    def _contribute(self, run: Any, j: int, n: int, start: int, stop: int) -> None:
        """∇θ ← this rank's share of the gradient of rows start … stop of the minibatch; the sums ← their Σ N L and Σ N."""
        bounds = cuts(stop - start, self.size)
        part = slice(start + bounds[self.rank], start + bounds[self.rank + 1])
        backend, data, network, m = run.network.backend, run.data, self.network, part.stop - part.start
        data.gather(j, n, part)
        x, y, w = data.x[:m], data.y[:m], None if data.weight is None else data.weight[:m]
        ws = run.ws.first(m)
        ws.stream.row = part.start                                               # dropout: bits of the whole batch's rows
        if self._batch is not None: self._batch.rows = stop - start
        z = network.forward(x, ws)
        weight = run.loss.total_weight(backend, y, w)
        value = run.loss.evaluate(backend, z, y, ws.dz, w)
        backend.write(self._mine, LOSS, weight * value)
        backend.write(self._mine, WEIGHT, weight)
        backend.copy(self._mine, out=self._sums)
        self.communicator.all_reduce(self._sums)
        N = self._sums[WEIGHT : WEIGHT + 1]
        backend.scaled(ws.dz, self._mine[WEIGHT : WEIGHT + 1] / (N + (N == 0)), out=ws.dz)
        network.backward(ws.dz, ws)

    def _average(self, backend: Any, vector: Any) -> None:
        self.communicator.all_reduce(vector)
        backend.scale(vector, 1 / self.size)

    # ------------------------------------------------------------------ what all must know

    def listen(self, noted: Any) -> None:
        """From now on, `noted.signal` is what this rank has heard of Ctrl-C and SIGTERM."""
        self._noted = noted

    def tell(self, backend: Any) -> None:
        """Before a launch of steps: what this rank has heard goes along with the sums of its losses."""
        for place, number in enumerate(SIGNALS, start=WEIGHT + 1):
            if self._noted is not None and self._noted.signal == number: backend.write(self._mine, place, 1)

    def hear(self, backend: Any) -> None:
        """After it: what any rank has heard. Waits for the device, because every rank must stop after the same step."""
        if self.size == 1: return
        self.communicator.wait()
        heard = backend.to_host(self._sums)[WEIGHT + 1 :].tolist()
        self._heard = next((number for number, ranks in zip(SIGNALS, heard, strict=True) if ranks), None)

    @property
    def signal(self) -> int | None:
        """The signal by which all ranks end the training, None where there is none."""
        return self._heard if self.size > 1 else self._noted.signal

    def largest(self, value: float) -> float:
        """The largest that any rank has."""
        vector = np.array([value], np.float64)
        self.communicator.all_reduce(vector, "max")
        return float(vector[0])

    def first_says(self, yes: bool) -> bool:
        """What rank 0 says."""
        vector = np.array([yes], np.int64)
        self.communicator.broadcast(vector)
        return bool(vector[0])

    def require_agreement(self, run: Any, settings: Mapping[str, Any] | None = None) -> None:
        """Raise DivergedRanksError, on every rank, unless θ, the learning rate, the step and the settings agree."""
        if self.size == 1: return
        params, to_host = run.network.params, run.network.backend.to_host
        require_agreement(self.communicator, {**(settings or {}),
            "the parameters": to_host(params.theta), "the running statistics": to_host(params.state),
            "the learning rate": (self.optimizer.lr, run.lr_factor),
            "the step": (run.steps_done, int(to_host(params.step)[0])),
        })  # fmt: skip

    def compare(self, run: Any, before: int) -> None:
        """`require_agreement` where the steps since step `before` passed a multiple of `check_every`."""
        every = self.plan.check_every
        if run.steps_done // every != before // every: self.require_agreement(run)

    # ------------------------------------------------------------------ what one rank does for all

    def alone(self, write: Callable[[], None]) -> None:
        """write() on rank 0, while the others wait. Raises CheckpointError on them if it fails there."""
        if self.size == 1: return write()
        failed = np.zeros(1, np.int64)
        try:
            if self.rank == 0: write()
        except Exception:
            failed[0] = 1
            self.communicator.broadcast(failed)
            raise
        self.communicator.broadcast(failed)
        if failed[0]: raise CheckpointError("rank 0 could not write the checkpoint; its own error says why")
        return None

    def evaluate(self, network: Network, loss: Any, data: Samples, metrics: Any) -> dict[str, float]:
        """`evaluate` of the whole data, of whose outputs every rank computes a part."""
        rows, width = cuts(len(data), self.size), network.widths[-1]
        mine = range(rows[self.rank], rows[self.rank + 1])
        total, weight, outputs = outputs_of(network, loss, data, mine, network.backend.rows_at_once)
        sums = np.array([total, weight])
        self.communicator.all_reduce(sums)
        whole = outputs
        if self.size > 1:
            whole = np.empty((len(data), width), outputs.dtype)
            whole[mine.start : mine.stop] = outputs
            self.communicator.all_gather(whole.reshape(-1), [width * bound for bound in rows])
        return scores(network, loss, data, metrics, float(sums[0]), float(sums[1]), whole)

    # ------------------------------------------------------------------ the optimizer's vectors

    def gathered(self, name: str, vector: Any) -> np.ndarray:
        """An optimizer's vector on the host, whole. Every rank must ask."""
        if self.shard is not None and self._is_cut(name): return self.shard.gathered(vector)
        return self.params.backend.to_host(vector)

    def own(self, name: str, array: np.ndarray) -> np.ndarray:
        """Of an optimizer's whole vector what this rank keeps."""
        return array[self.shard.mine] if self.shard is not None and self._is_cut(name) else array

    def shape(self, name: str, vector: Any) -> tuple[int, ...]:
        """That of the whole vector."""
        return (self.shard.bounds[-1],) if self.shard is not None and self._is_cut(name) else vector.shape

    def _is_cut(self, name: str) -> bool:
        return name in (*self.optimizer.moments, "mean")
