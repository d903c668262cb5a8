"""The ranks of one training, as `fit` sees them: their step, and what all must know, agree on or leave to one of them."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ffnn_gpu.checks import require_positive, require_positive_int
from ffnn_gpu.distributed.agreement import require_agreement
from ffnn_gpu.distributed.communicator import Communicator, Single, piece_bounds
from ffnn_gpu.distributed.faults import ranks_in_words
from ffnn_gpu.distributed.rank_zero import on_rank_zero
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.evaluation.evaluate import Samples, outputs_of, scores
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.training.data_parallel.batch_norm import GlobalBatch
from ffnn_gpu.training.data_parallel.optimizer_shard import Shard, is_cut
from ffnn_gpu.version import __version__

UNLIKE = ". Unlike processors may round an update differently: with shard_optimizer=True one rank updates each piece of θ"
Found = TypeVar("Found")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
LOSS, WEIGHT, FIRST_SIGNAL = 0, 1, 2  # places in the sums of a step


@dataclass(frozen=True)
class DataParallel:
    """How ranks share a training.

    Args:
        communicator: of these ranks.
        batch_norm: "global", statistics over the rows of all ranks, as on one; or "local", over each rank's own, which saves
            three small sums for each such layer and step and is another trajectory for each number of ranks.
        check_every: steps after which ranks compare θ, the learning rate and the step again.
        checkpoint_limit: seconds within which rank 0 must have written a checkpoint.
    """

    communicator: Communicator
    batch_norm: str = "global"
    check_every: int = 100
    checkpoint_limit: float = 600.0

    def __post_init__(self) -> None:
        require_positive_int("check_every", self.check_every)
        require_positive("checkpoint_limit", self.checkpoint_limit)
        if self.batch_norm not in ("global", "local"):
            raise ConfigurationError(
                f"batch_norm of DataParallel is 'global' or 'local', not {self.batch_norm!r}"
            )

    @classmethod
    def of(cls, given: Any) -> "DataParallel":
        """A DataParallel as it is, a communicator with the defaults, None for one process. Raises ConfigurationError."""
        if isinstance(given, cls):
            return given
        if given is None:
            return cls(Single())
        if not all(hasattr(given, name) for name in ("rank", "size", "all_reduce")):
            raise ConfigurationError(
                f"communicator must be what ffnn_gpu.distributed.communicator() returns, not {given!r}"
            )
        return cls(given)

    def together(self, check: Callable[[], Found]) -> Found:
        """What check() finds. Where it raises on some ranks, DataError on the others too: each looked at rows of its own."""
        if self.communicator.size == 1:
            return check()
        failed = np.zeros(self.communicator.size, np.int64)
        try:
            return check()
        except BaseException:
            failed[self.communicator.rank] = 1
            raise
        finally:
            self.communicator.all_reduce(failed)
            if failed.any() and not failed[self.communicator.rank]:
                ranks = ranks_in_words(np.flatnonzero(failed).tolist())
                raise DataError(f"{ranks} did not accept the data; the error there says why")


class Team:
    """One rank's part in a training. With one rank nothing is said and nothing is cut.

    Attributes:
        rank, size: of the communicator.
        params: what the optimizer updates here: the network's parameters, or this rank's piece of them.
        shard: that piece, None where every rank updates all.
        sums: Σ_r of [N_r L_r, N_r, signals] for the latest micro-batch, float64 on the device; `mine` is this rank's term.
        batch_statistics: the operations that compute BatchNorm over the rows of all ranks; None where each rank's own rows
            are used.
    """

    def __init__(
        self, plan: DataParallel, network: Network, optimizer: Optimizer, shard_optimizer: bool
    ) -> None:
        self.plan, self.communicator = plan, plan.communicator
        self.network, self.optimizer = network, optimizer
        self.rank, self.size = self.communicator.rank, self.communicator.size
        _require_gpu_of_rank(network, self.communicator)
        self.shard = (
            Shard(network.params, self.communicator, optimizer) if shard_optimizer and self.size > 1 else None
        )
        self.params: Any = network.params if self.shard is None else self.shard
        self.mine, self.sums = (
            network.backend.zeros((FIRST_SIGNAL + len(SIGNALS),), np.float64) for _ in range(2)
        )
        shared = self.size > 1 and plan.batch_norm == "global"
        self.batch_statistics = GlobalBatch(network.backend, self.communicator) if shared else None
        self._noted: Any = None
        self._heard: int | None = None

    def rows(self, B: int) -> int:
        """The most rows that any rank has of B."""
        return -(-B // self.size)

    # ------------------------------------------------------------------ the sums of a step

    def sum_loss(self, value: Any, weight: Any) -> None:
        """sums ← Σ_r of N_r L_r, N_r and the signals"""
        backend = self.network.backend
        backend.write(self.mine, LOSS, weight * value)
        backend.write(self.mine, WEIGHT, weight)
        backend.copy(self.mine, out=self.sums)
        self.communicator.all_reduce(self.sums)

    def share(self) -> Any:
        """Return N_r / Σ N_r of the latest micro-batch, (1,) on the device."""
        N = self.sums[WEIGHT : WEIGHT + 1]
        return self.mine[WEIGHT : WEIGHT + 1] / (N + (N == 0))

    def sum_gradient(self) -> None:
        """Sum ∇θ over the ranks, and average the running statistics where each rank computed its own."""
        params = self.network.params
        if self.size > 1 and self.batch_statistics is None and len(params.state):
            self.communicator.all_reduce(params.state)
            params.backend.scale(params.state, 1 / self.size)
        if self.shard is None:
            self.communicator.all_reduce(params.grad)
        else:
            self.shard.sum_gradient()

    # ------------------------------------------------------------------ what all must know

    def listen(self, noted: Any) -> None:
        """From now on, `noted.signal` is what this rank has heard of Ctrl-C and SIGTERM."""
        self._noted = noted

    def tell(self, backend: Any) -> None:
        """Before a launch of steps: what this rank has heard goes along with the sums of its losses."""
        if self.size == 1 or self._noted.signal is None:
            return
        backend.write(self.mine, FIRST_SIGNAL + SIGNALS.index(self._noted.signal), 1)

    def hear(self, backend: Any) -> None:
        """After it: what any rank has heard. Waits for the device, because every rank must stop after the same step."""
        if self.size == 1:
            return
        self.communicator.wait()
        heard = backend.to_host(self.sums)[FIRST_SIGNAL:].tolist()
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
        if self.size == 1:
            return
        params, to_host = run.network.params, run.network.backend.to_host
        if settings:
            # The version first, because another one may compare other things.
            require_agreement(
                self.communicator, {"the package's version": __version__, "what is compared": [*settings]}
            )
        require_agreement(
            self.communicator,
            {
                **(settings or {}),
                "the parameters": to_host(params.theta),
                "the running statistics": to_host(params.state),
                "the learning rate": (self.optimizer.lr, run.lr_factor),
                "the step": (run.steps_done, int(to_host(params.step)[0])),
            },
            "" if settings or self.shard is not None else UNLIKE,
        )

    def compare(self, run: Any, before: int) -> None:
        """`require_agreement` where the steps since step `before` passed a multiple of `check_every`."""
        every = self.plan.check_every
        if self.size > 1 and run.steps_done // every != before // every:
            self.require_agreement(run)

    # ------------------------------------------------------------------ what one rank does for all

    def alone(self, write: Callable[[], None]) -> None:
        """write() on rank 0, while the others wait. Raises what it raises there, or CheckpointError if it takes too long."""
        if self.rank == 0:
            self.params.backend.synchronize()  # its thread knows nothing of our streams
        on_rank_zero(self.communicator, write, self.plan.checkpoint_limit)

    def evaluate(self, network: Network, loss: Any, data: Samples, metrics: Any) -> dict[str, float]:
        """`evaluate` of the whole data, of whose outputs every rank computes a part."""
        return evaluate_together(self.communicator, network, loss, data, metrics)

    # ------------------------------------------------------------------ the optimizer's vectors

    def gathered(self, name: str, vector: Any) -> np.ndarray:
        """An optimizer's vector on the host, whole. Every rank must ask."""
        shard = self._cutting(name)
        return self.params.backend.to_host(vector) if shard is None else shard.gathered(vector)

    def own(self, name: str, array: np.ndarray) -> np.ndarray:
        """Of an optimizer's whole vector what this rank keeps."""
        shard = self._cutting(name)
        return array if shard is None else array[shard.mine]

    def shape(self, name: str, vector: Any) -> tuple[int, ...]:
        """That of the whole vector."""
        shard = self._cutting(name)
        return vector.shape if shard is None else (shard.bounds[-1],)

    def _cutting(self, name: str) -> Shard | None:
        """The shard, if this vector of the optimizer is among those it cuts."""
        return self.shard if is_cut(name, self.optimizer) else None


def _require_gpu_of_rank(network: Network, communicator: Communicator) -> None:
    """Raise ConfigurationError where the network computes on another GPU than its rank's: NCCL would fail without a word."""
    mine, used = (name.replace("cupy:0", "cupy") for name in (communicator.device, network.backend.name))
    if communicator.size > 1 and mine.startswith("cupy") and used.startswith("cupy") and mine != used:
        raise ConfigurationError(
            f"the network of rank {communicator.rank} computes on {used}, and the rank's GPU is {communicator.device}; make "
            "the network with backend=communicator.device"
        )


def evaluate_together(
    communicator: Communicator, network: Network, loss: Any, data: Samples, metrics: Any
) -> dict[str, float]:
    """`evaluate` of the whole data, of whose outputs every rank computes a part. Every rank must call it."""
    rows, width = piece_bounds(len(data), communicator.size), network.widths[-1]
    mine = range(rows[communicator.rank], rows[communicator.rank + 1])
    total, weight, outputs = outputs_of(network, loss, data, mine, network.backend.rows_at_once)
    sums = np.array([total, weight])
    communicator.all_reduce(sums)
    whole = outputs
    if communicator.size > 1:
        whole = np.empty((len(data), width), outputs.dtype)
        whole[mine.start : mine.stop] = outputs
        communicator.all_gather(whole.reshape(-1), [width * bound for bound in rows])
    return scores(network, loss, data, metrics, float(sums[0]), float(sums[1]), whole)
