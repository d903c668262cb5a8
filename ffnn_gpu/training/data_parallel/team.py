"""The ranks that train one network together: their sums, their agreement, and the work of rank 0 for all."""

import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.arrays.rows import Rows
from ffnn_gpu.checks import require_positive, require_positive_int
from ffnn_gpu.distributed.agreement import require_agreement
from ffnn_gpu.distributed.communicator import Communicator, Single
from ffnn_gpu.distributed.faults import ranks_in_words
from ffnn_gpu.distributed.rank_zero import on_rank_zero
from ffnn_gpu.errors import ConfigurationError, DataError, IncompatibleCheckpointError
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.training.data_parallel.batch_norm import GlobalBatch
from ffnn_gpu.training.data_parallel.optimizer_shard import Shard, is_cut
from ffnn_gpu.version import __version__

OTHER_PROCESSORS = (
    ". Different processors may round an update differently: "
    "with shard_optimizer=True, one rank updates each piece of θ"
)
Found = TypeVar("Found")
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else ()))
LOSS, WEIGHT, FIRST_SIGNAL = 0, 1, 2  # places in the sums of a step


@dataclass(frozen=True)
class DataParallel:
    """Settings of a training run that several ranks share.

    Args:
        communicator: of these ranks.
        batch_norm: "global": statistics over the rows of all ranks, equal to one process. "local": over each
            rank's own rows; this saves three small sums per BatchNorm and step, and the result depends on the
            number of ranks.
        check_every: the number of steps after which the ranks compare θ, the learning rate and the step.
        checkpoint_limit: the number of seconds that rank 0 may take to write a checkpoint.
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
        """Return a DataParallel unchanged, a communicator with the defaults, and one process for None.

        Raises ConfigurationError for anything else.
        """
        if isinstance(given, cls):
            return given
        if given is None:
            return cls(Single())
        if not all(hasattr(given, name) for name in ("rank", "size", "all_reduce")):
            raise ConfigurationError(
                f"communicator must be what ffnn_gpu.distributed.communicator() returns, not {given!r}"
            )
        return cls(given)

    def admit(self, network: Network, x: Any) -> Rows:
        """Do what `network.admit(x)` does; with several ranks, unmap large files first.

        Each rank checks its share of rows in files, and all rows of an array in memory.
        """
        rows = network.rows(x)
        rows = rows.unmapped() if self.communicator.size > 1 else rows
        share, first = rows.share(self.communicator.rank, self.communicator.size)
        what = f"x from row {first} on" if first else "x"
        network.require_valid(share, what)
        return rows

    def together(self, check: Callable[[], Found]) -> Found:
        """Return check() of this rank's rows. If it raises on some ranks, the others raise DataError."""
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
                raise DataError(f"{ranks} did not accept the data; the error there gives the reason")


class Team:
    """One rank's part in a training run. With one rank nothing is communicated and nothing is split.

    Attributes:
        rank, size: the rank and the size of the communicator.
        params: updated here by the optimizer: the network's parameters, or this rank's shard of them.
        shard: that shard, None where every rank updates all of θ.
        mine: [N_r L_r, N_r, signals] of the latest micro-batch, float64 on the device.
        sums: the sums of `mine` over the ranks.
        own_signal: returns the signal that this process has received, or None.
        batch_statistics: the operations that compute BatchNorm over the rows of all ranks; None where each
            rank uses its own rows.
    """

    def __init__(self, ranks: DataParallel, network: Network, optimizer: Optimizer, sharded: bool) -> None:
        self.data_parallel, self.communicator = ranks, ranks.communicator
        self.network, self.optimizer = network, optimizer
        self.rank, self.size = self.communicator.rank, self.communicator.size
        _require_gpu_of_rank(network, self.communicator)
        if network.members is not None and self.size > 1:
            raise ConfigurationError(
                f"a pack trains on one rank, and the communicator has {self.size}; give each rank a pack of "
                "its own members, without communicator"
            )
        sharded = sharded and self.size > 1
        self.shard = Shard(network.params, self.communicator, optimizer) if sharded else None
        self.params: Any = network.params if self.shard is None else self.shard
        places = (FIRST_SIGNAL + len(SIGNALS),)
        self.mine, self.sums = (network.backend.zeros(places, np.float64) for _ in range(2))
        shared = self.size > 1 and ranks.batch_norm == "global"
        self.batch_statistics = GlobalBatch(network.backend, self.communicator) if shared else None
        self.own_signal: Callable[[], int | None] = lambda: None
        self._received: int | None = None

    def sum_loss(self, value: Array, weight: Any) -> None:
        """sums ← Σ_r of N_r L_r, N_r and the signals"""
        backend = self.network.backend
        backend.write(self.mine, LOSS, weight * value)
        backend.write(self.mine, WEIGHT, weight)
        backend.copy(self.mine, out=self.sums)
        self.communicator.all_reduce(self.sums)

    def share(self) -> Array:
        """Return N_r / Σ N_r of the latest micro-batch, (1,) on the device; 0 where Σ N_r = 0."""
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

    def send_signal(self) -> None:
        """Add this rank's signal to the sums of its losses. Call it before a launch on several ranks."""
        number = self.own_signal()
        if number is not None:
            self.network.backend.write(self.mine, FIRST_SIGNAL + SIGNALS.index(number), 1)

    def receive_signal(self) -> None:
        """Wait for a launch and read the signal of any rank, so that every rank stops after the same step."""
        self.communicator.wait()
        counts = self.network.backend.to_host(self.sums)[FIRST_SIGNAL:].tolist()
        self._received = next((number for number, n in zip(SIGNALS, counts, strict=True) if n), None)

    @property
    def signal(self) -> int | None:
        """The signal that ends the run on all ranks, or None."""
        return self._received if self.size > 1 else self.own_signal()

    def maximum(self, value: float) -> float:
        """Return the largest value of any rank."""
        vector = np.array([value], np.float64)
        self.communicator.all_reduce(vector, "max")
        return float(vector[0])

    def require_agreement(
        self, lr_factor: float, steps_done: int, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Raise DivergedRanksError on every rank unless θ, learning rate, step and settings agree."""
        if self.size == 1:
            return
        params, to_host = self.network.params, self.network.backend.to_host
        if settings:
            # The version first, because another one may compare other things.
            first = {"the package's version": __version__, "what is compared": [*settings]}
            require_agreement(self.communicator, first)
        require_agreement(
            self.communicator,
            {
                **(settings or {}),
                "the parameters": to_host(params.theta),
                "the running statistics": to_host(params.state),
                "the learning rate": (self.optimizer.lr, lr_factor),
                "the step": (steps_done, int(to_host(params.step)[0])),
            },
            "" if settings or self.shard is not None else OTHER_PROCESSORS,
        )

    def on_rank_zero(self, write: Callable[[], None]) -> None:
        """Run write() on rank 0 while the others wait.

        Raises its error on every rank, or CheckpointError after `checkpoint_limit` seconds.
        """
        if self.rank == 0:
            self.params.backend.synchronize()  # the thread that writes does not use our streams
        on_rank_zero(self.communicator, write, self.data_parallel.checkpoint_limit)

    def optimizer_state(self) -> dict[str, HostArray]:
        """Return the optimizer's whole vectors by name, copied to the host. Every rank must call it."""
        to_host = self.params.backend.to_host
        return {
            name: to_host(vector) if shard is None else shard.gathered(vector)
            for name, vector, shard in self._vectors()
        }

    def require_optimizer_state(self, arrays: Mapping[str, HostArray], source: object) -> None:
        """Raise IncompatibleCheckpointError unless `arrays` holds every vector, whole and of its dtype."""
        for name, vector, shard in self._vectors():
            found = arrays.get(name)
            shape = vector.shape if shard is None else (shard.bounds[-1],)
            if found is None or found.shape != shape or found.dtype != vector.dtype:
                has = "no such array" if found is None else f"{found.dtype} {found.shape}"
                wanted = f"{name} of {self.optimizer!r} is {vector.dtype} {shape}"
                raise IncompatibleCheckpointError(f"{wanted}; {source} has {has}")

    def restore_optimizer(self, arrays: Mapping[str, HostArray]) -> None:
        """Overwrite the optimizer's vectors, or this rank's pieces of them, from whole vectors."""
        backend = self.params.backend
        for name, vector, shard in self._vectors():
            mine = arrays[name] if shard is None else arrays[name][shard.mine]
            backend.copy(backend.asarray(mine), out=vector)

    def _vectors(self) -> Iterator[tuple[str, Array, Shard | None]]:
        """Yield each vector of the optimizer: name, vector, and the shard if it is split over the ranks."""
        scale = self.params.loss_scale
        scaling = {} if scale is None else {"loss_scale": scale}
        for name, vector in (vars(self.optimizer.state(self.params)) | scaling).items():
            yield name, vector, self.shard if is_cut(name, self.optimizer) else None


def _require_gpu_of_rank(network: Network, communicator: Communicator) -> None:
    """Raise ConfigurationError if network and rank use different GPUs: NCCL would give no message."""
    mine, used = (name.replace("cupy:0", "cupy") for name in (communicator.device, network.backend.name))
    if communicator.size > 1 and mine.startswith("cupy") and used.startswith("cupy") and mine != used:
        raise ConfigurationError(
            f"the network of rank {communicator.rank} computes on {used}, and the rank's GPU is "
            f"{communicator.device}; make the network with device=communicator.device"
        )
